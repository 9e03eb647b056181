"""A training run: all stages, one directory.

    run = TrainingRun(preset("class"), Storybook(), Path("runs/first"))
    for record in run.train("dvae"):
        ...
    dvae = run.model("dvae")

Training a stage is a generator of `trainer.Record`s. It saves as it goes, and continues from where
it was stopped. `assemble` gathers the trained stages into a bundle.
"""

import copy
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minidalle.bundle import MODELS, Bundle, build, config_from_dict, save_bundle
from minidalle.clip import CLIP
from minidalle.datasets.source import Source
from minidalle.dvae import DVAE
from minidalle.errors import MinidalleError
from minidalle.files import fingerprint, read_file
from minidalle.normalise import normalise_caption
from minidalle.pipeline import WORD
from minidalle.tensors import pick_device
from minidalle.tokenizer import Tokenizer
from minidalle.training import checkpoint, distributed
from minidalle.training.config import TrainConfig
from minidalle.training.early_stopping import EarlyStopping, validation_loss
from minidalle.training.growing import grow_tokenizer
from minidalle.training.identity import check_checkpoint, check_identity, weights_digest
from minidalle.training.log import LOG_EVERY, append_record, mean_speed, start_log
from minidalle.training.presets import Preset
from minidalle.training.stage import Inputs
from minidalle.training.stages import STAGES
from minidalle.training.trainer import Objective, Record, TrainState, fit

SAVE_EVERY = 500  # steps between two checkpoints


class TrainingRun:
    """A directory in which the stages of one preset are trained on one source."""

    def __init__(
        self,
        preset: Preset,
        source: Source,
        out: Path,
        device: torch.device | None = None,
        init: Bundle | None = None,
    ) -> None:
        """init: a trained bundle whose tokenizer, sizes and weights the stages start from. A stage
        that is not trained here is the bundle's."""
        if init is not None:
            sizes = {name: getattr(init, name).config for name in MODELS}
            preset = replace(preset, models={**preset.models, **sizes})
        self.preset, self.source, self.out = preset, source, Path(out)
        self.init = init
        self.save_now = False  # set it, and the next step is saved
        self.device = device or pick_device()

    # --- What a stage is made of ------------------------------------------------------------------

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of this directory, trained if there is none yet."""
        file = self.out / "tokenizer.json"
        self.check_identity()
        if not file.exists() and distributed.is_main_process():
            if self.init is None:
                captions = self._captions(self.preset.captions)
                Tokenizer.train(captions, self.preset.vocab_size).save(file)
            else:
                captions = self._captions(self.source.epoch or self.preset.captions)
                grow_tokenizer(self.init.tokenizer, captions, self.preset.new_tokens).save(file)
        distributed.barrier()
        return Tokenizer.load(file)

    def _captions(self, n: int) -> list[str]:
        """The first n captions of the training."""
        jitter = self.preset.colour_jitter > 0
        return [self.source.training_caption(i, colour_jitter=jitter) for i in range(n)]

    def steps(self, stage: str) -> int:
        """Updates that a stage takes in all."""
        return self.preset.training[stage].steps

    def build(self, stage: str, prepare: bool = True) -> tuple[nn.Module, TrainConfig]:
        """A new model of a stage, the same for the same seed, and how it is trained.

        prepare: as for the first step; a checkpoint to be loaded makes it needless.
        """
        config = self.preset.training[stage]
        given = self._inputs(stage)
        torch.manual_seed(config.seed)
        trained, row = getattr(self.init, stage, None), STAGES[stage]  # a bundle has no baselines
        if trained is not None and row.grow:
            return row.grow(trained, given), config
        model = row.model(row.configure(given)).to(self.device)
        if prepare and row.prepare:
            row.prepare(model, given)
        return model, config

    def objective(self, stage: str, config: TrainConfig) -> Objective:
        """What a stage is trained on, as `trainer.fit` wants it."""
        return STAGES[stage].objective(self._inputs(stage), config)

    def _inputs(self, stage: str) -> Inputs:
        needs = STAGES[stage].needs
        dvae = self.model("dvae") if "dvae" in needs else None
        clip = self.model("clip") if "clip" in needs else None
        assert dvae is None or isinstance(dvae, DVAE)
        assert clip is None or isinstance(clip, CLIP)
        tokenizer = self.tokenizer() if "tokenizer" in needs else None
        return Inputs(self.source, self.preset, self.device, tokenizer, dvae, clip)

    # --- Before a training ------------------------------------------------------------------------

    def _sizes(self) -> dict[str, Any]:
        preset = self.preset
        fields = ("captions", "vocab_size", "sampled_codes", "new_tokens", "new_codes")
        sizes: dict[str, Any] = {field: getattr(preset, field) for field in fields}
        if self.init is None:
            sizes |= {name: asdict(config) for name, config in preset.models.items()}
        else:  # its weights are part of what this directory is
            sizes |= {name: weights_digest(getattr(self.init, name)) for name in MODELS}
        return sizes

    def check_identity(self) -> None:
        """Raises MinidalleError where the directory has another source or other sizes."""
        check_identity(self.out, self.source.name, self._sizes())

    def _learnt_from(self, stage: str) -> dict[str, str]:
        """The SHA-256 of each earlier stage that this one learns from."""
        digests = {}
        for needed in STAGES[stage].needs:
            if needed == "tokenizer":
                self.tokenizer()
                digests[needed] = str(fingerprint(read_file(self.out / "tokenizer.json"))["sha256"])
            else:
                model = self.model(needed)  # raises where it is not trained to its end
                saved = checkpoint.steps(self.out / needed)
                digests[needed] = checkpoint.digest(saved[0]) if saved else weights_digest(model)
        return digests

    def _check_checkpoint(self, stage: str, metadata: dict[str, Any], file: Path) -> None:
        """Raises MinidalleError where a stage learnt from another tokenizer or dVAE, or has another
        source or other sizes."""
        check_checkpoint(file, stage, metadata, self.source.name, self._sizes())
        known = metadata.get("learnt_from", {})
        for needed, digest in self._learnt_from(stage).items():
            if known.get(needed) != digest:
                raise MinidalleError(
                    f"{file} was trained on another {needed} than the one in {self.out}: move"
                    f" {self.out / stage} away and train {stage} again, or put the old {needed}"
                    " back"
                )

    def check(self, stage: str) -> None:
        """Raises MinidalleError where a stage cannot be trained like this (`Stage.check`)."""
        if stage in STAGES:
            STAGES[stage].check(stage, self.preset.training[stage], self.source)

    # --- Training ---------------------------------------------------------------------------------

    def train(self, stage: str, resume: bool = False) -> Generator[Record, None, None]:
        """Train a stage to its end. Leave the loop to stop: what was done so far is saved.

        Raises MinidalleError where an earlier stage is missing, or where there is a run already
        and `resume` is not asked for.
        """
        if stage == "tokenizer":  # it has no steps
            self.tokenizer()
            return
        self.check(stage)
        self.check_identity()
        directory = self.out / stage
        is_main = distributed.is_main_process()  # the one that writes
        opened = checkpoint.CheckpointDirectory(directory) if is_main else nullcontext()
        with opened as checkpoints:
            distributed.barrier()  # until it is open: what a kill left behind is removed
            latest = checkpoint.latest(directory)
            distributed.barrier()
            if latest is not None and not resume:
                raise MinidalleError(
                    f"{directory} holds a run already: continue with --resume, or choose another"
                    " --out"
                )
            tensors, metadata = checkpoint.load(latest) if latest is not None else ({}, {})
            if latest is not None:
                self._check_checkpoint(stage, metadata, latest)
                if metadata.get("ended_early") or checkpoint.step_of(latest) == self.steps(stage):
                    return  # it is finished, and taken as it is
            origin = {"source": self.source.name, "learnt_from": self._learnt_from(stage)}
            model, config = self.build(stage, prepare=latest is None)
            state = TrainState.start(model, config)
            if latest is not None:
                state.restore(tensors, metadata, file=latest)
            objective = self.objective(stage, config)
            validation = validation_loss(STAGES[stage], self._inputs(stage), config)
            stopping = EarlyStopping(validation, config)
            stopping.restore(tensors, metadata)
            log = self.out / f"{stage}.jsonl"
            if is_main:
                start_log(log, state.step if latest is not None else 0)

            def save() -> None:
                if checkpoints is not None:
                    (tensors, metadata), (best, looks) = state.dump(), stopping.dump()
                    checkpoints.save(state.step, tensors | best, metadata | looks | origin)

            try:
                for record in mean_speed(fit(state, objective)):
                    record = stopping.look(record, state.ema)
                    if is_main and (record.step % LOG_EVERY == 0 or record.validation is not None):
                        append_record(log, record)
                    due = record.step % SAVE_EVERY == 0 or self.save_now
                    if due and record.step < config.steps and not stopping.is_over:
                        save()
                        self.save_now = False
                    yield record
                    if stopping.is_over:
                        break
            except (GeneratorExit, MinidalleError):  # `fit` leaves the state as the step found it
                save()
                raise
            if latest is None or state.step > checkpoint.step_of(latest):
                save()
            distributed.barrier()  # the next stage reads what was saved

    def load_or_train(
        self, stage: str, progress: Callable[[Iterable[Record]], Iterable] = iter
    ) -> nn.Module | Tokenizer:
        """A stage ready for use: its finished training if there is one, else it is trained now, and
        so are the stages that it needs. `progress` wraps the records of each training, like tqdm.
        """
        if stage == "tokenizer":
            return self.tokenizer()
        for needed in STAGES[stage].needs:
            if needed == "tokenizer" or self.init is None or checkpoint.steps(self.out / needed):
                self.load_or_train(needed, progress)
        if not checkpoint.is_finished(self.out / stage, self.steps(stage)):
            deque(progress(self.train(stage, resume=True)), maxlen=0)
        return self.model(stage)

    # --- After a training -------------------------------------------------------------------------

    def model(self, stage: str) -> nn.Module:
        """A trained stage, ready for use: the running mean of its weights, in the end or where the
        validation loss was lowest.

        Raises MinidalleError where its training has not come to its end.
        """
        directory = self.out / stage
        saved = checkpoint.steps(directory)
        if not saved:
            checkpoint.latest(directory)  # says so where an older release was training
            if stage in MODELS and self.init is not None:
                given = copy.deepcopy(getattr(self.init, stage))
                return given.to(self.device).eval().requires_grad_(False)
            raise MinidalleError(f"{directory} is not trained yet: run minidalle train {stage}")
        return self._load(stage, saved[0], is_finished=True)

    def snapshot(self, stage: str) -> nn.Module:
        """The same of a stage in training, as its newest checkpoint has it."""
        return self._load(stage, checkpoint.steps(self.out / stage)[0])

    def _load(self, stage: str, file: Path, is_finished: bool = False) -> nn.Module:
        tensors, metadata = checkpoint.load(file)
        step, total = metadata["step"], metadata["train_config"]["steps"]
        if is_finished and step < total and not metadata.get("ended_early"):
            raise MinidalleError(
                f"{file} is {step} steps of {total}: finish it with"
                f" minidalle train {stage} --resume"
            )
        self._check_checkpoint(stage, metadata, file)
        row, saved_config = STAGES[stage], metadata["model_config"]
        config = config_from_dict(row.config, saved_config, f"{file}: the model")
        model = build(row.model, config, tensors.get("best", tensors["ema"]), file, saved_config)
        return model.to(self.device).eval().requires_grad_(False)

    def assemble(self, directory: Path | None = None) -> Path:
        """Gather the trained stages into one bundle; returns its directory (OUT/bundle)."""
        captions = self._captions(max(self.preset.captions, self.source.epoch or 0))
        words = set(self.init.info.get("words", ())) if self.init else set()
        words |= {word for text in captions for word in WORD.findall(normalise_caption(text))}
        info = {
            "preset": self.preset.name,
            "source": self.source.name,
            "sampling": asdict(self.preset.sampling),
            "words": sorted(words),
        }
        models = {name: self.model(name).cpu() for name in MODELS}
        bundle = Bundle(self.tokenizer(), **models, info=info)  # type: ignore[arg-type]
        return save_bundle(directory or self.out / "bundle", bundle)
