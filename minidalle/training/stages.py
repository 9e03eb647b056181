"""The four stages, in order, into one directory: tokenizer → dVAE → prior → CLIP → bundle.

Each stage needs those before it: the prior reads the tokenizer's tokens and the dVAE's codes, CLIP
learns from pictures as the dVAE paints them. A stage is a generator of `training.Record`s, saves as
it goes, and goes on from where it was stopped.

    stages = Stages(preset("class"), Storybook(), Path("runs/first"))
    for record in stages.train("dvae"):
        ...
    dvae = stages.model("dvae")
"""

import json
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from minidalle.clip import CLIP
from minidalle.datasets.source import Source, caption_of
from minidalle.dvae import DVAE
from minidalle.errors import MinidalleError
from minidalle.pipeline import MODELS
from minidalle.prior import Prior
from minidalle.tokenizer import Tokenizer
from minidalle.training import checkpoint, distributed
from minidalle.training.objectives import Losses, clip_losses, dvae_losses, prior_losses
from minidalle.training.presets import Preset
from minidalle.training.trainer import FitConfig, Record, TrainState, fit, pick_device
from minidalle.training.weights import load_weights, settings

STAGES = ("tokenizer", "dvae", "prior", "clip")
NEEDS = {  # the stages that a stage learns from
    "tokenizer": (),
    "dvae": (),
    "prior": ("tokenizer", "dvae"),
    "clip": ("tokenizer", "dvae"),
}
SAVE_EVERY = 500  # steps between two checkpoints
LOG_EVERY = 20  # steps between two lines of OUT/STAGE.jsonl, for the curves


class Stages:
    """A directory in which the stages of one preset are trained on one source."""

    def __init__(
        self, preset: Preset, source: Source, out: Path, device: torch.device | None = None
    ) -> None:
        self.preset, self.source, self.out = preset, source, Path(out)
        self.device = device or pick_device()

    # --- Stage by stage ---------------------------------------------------------------------------

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of this directory, trained if there is none yet."""
        file = self.out / "tokenizer.json"
        self._claim()
        if not file.exists() and distributed.rank() == 0:
            captions = [caption_of(self.source, "train", i) for i in range(self.preset.captions)]
            Tokenizer.train(captions, self.preset.vocab_size).save(file)
        distributed.wait()
        return Tokenizer.load(file)

    def _claim(self) -> None:
        """Write down what this directory is trained on. Raises MinidalleError where that was
        something else: its stages would not belong together."""
        file = self.out / "source.json"
        if distributed.rank() == 0 and not file.exists():
            try:
                self.out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise MinidalleError(
                    f"cannot make {self.out}: {error.strerror}; choose another --out"
                ) from error
            checkpoint.save_text(file, json.dumps({"source": self.source.name}) + "\n")
        distributed.wait()
        try:
            known = json.loads(file.read_text(encoding="utf-8"))["source"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MinidalleError(
                f"{file} is damaged: delete it, and the same command writes it again"
            ) from error
        if known != self.source.name:
            raise MinidalleError(
                f"{self.out} is trained on {known}, and this is {self.source.name}: give it the"
                " same --data again, or choose another --out"
            )

    def check(self, stage: str) -> None:
        """Raises MinidalleError where a batch of a stage cannot be shared out among processes and
        parts, is larger than the data, or leaves CLIP nothing to compare."""
        if stage == "tokenizer":
            return
        config = getattr(self.preset, f"{stage}_fit")
        with distributed.part(0, config.accumulate):
            distributed.share(config.batch_size)
        size, epoch = config.batch_size, self.source.epoch
        if stage == "clip" and size < 2:
            raise MinidalleError(
                "CLIP learns by telling the captions of a batch apart: choose a --batch-size of 2"
                " or more"
            )
        if epoch is None:
            return
        kind, there = "pictures", epoch
        if stage == "clip":  # whose batch holds no caption twice
            kind = "different captions"
            there = len({self.source.caption("train", i) for i in range(epoch)})
        if there < size:
            smaller = f", or choose --batch-size {there} or less"
            raise MinidalleError(
                f"{stage} needs {size} {kind} a batch and there are only {there} to train on:"
                f" add some{smaller if there > (stage == 'clip') else ''}"
            )

    def steps(self, stage: str) -> int:
        """Updates that a stage takes in all."""
        return getattr(self.preset, f"{stage}_fit").steps

    def build(self, stage: str) -> tuple[nn.Module, FitConfig]:
        """A new model of a stage, the same for the same seed, and how it is trained."""
        p = self.preset
        fit_config = getattr(p, f"{stage}_fit")
        torch.manual_seed(fit_config.seed)
        if stage == "dvae":
            model = DVAE(replace(p.dvae, image_size=self.source.size))
        else:
            vocab_size = self.tokenizer().vocab_size
            if stage == "prior":
                dvae = self.model("dvae").config
                config = replace(p.prior, vocab_size=vocab_size, codes=dvae.codes, grid=dvae.grid)
                model = Prior(config)
            else:
                config = replace(p.clip, vocab_size=vocab_size, image_size=self.source.size)
                model = CLIP(config)
        return model.to(self.device), fit_config

    def train(self, stage: str, resume: bool = False) -> Iterator[Record]:
        """Train a stage to its end. Leave the loop to stop: what was done so far is saved.

        Raises MinidalleError where an earlier stage is missing, or where there is a run already
        and `resume` is not asked for.
        """
        if stage == "tokenizer":  # it has no steps
            self.tokenizer()
            return
        self.check(stage)
        self._claim()
        directory = self.out / stage
        leads = distributed.rank() == 0  # the one who writes
        with checkpoint.Run(directory) if leads else nullcontext() as run:
            distributed.wait()  # until the run is open: what a kill left behind is tidied up
            latest = checkpoint.latest(directory)
            distributed.wait()
            if latest is not None and not resume:
                raise MinidalleError(
                    f"{directory} holds a run already: go on with --resume, or choose another --out"
                )
            if latest is not None and _step_of(latest) == self.steps(stage):
                return  # it is finished, and taken as it is
            model, fit_config = self.build(stage)
            state = TrainState.start(model, fit_config)
            if latest is not None:
                state.restore(*checkpoint.load(latest), file=latest)
            losses = self.losses(stage, fit_config)
            log = self.out / f"{stage}.jsonl"
            if leads:
                known = log.read_text().splitlines() if latest is not None and log.exists() else []
                told = [line for line in known if _step_told(line) <= state.step]
                checkpoint.save_text(log, "".join(f"{line}\n" for line in told))  # not twice

            def save() -> None:
                if leads:
                    run.save(state.step, *state.dump())

            try:
                for record in fit(state, losses):
                    if leads and record.step % LOG_EVERY == 0:
                        _tell(log, record)
                    if record.step % SAVE_EVERY == 0 and record.step < fit_config.steps:
                        save()
                    yield record
            except (GeneratorExit, MinidalleError):  # `fit` leaves the state as the step found it
                save()
                raise
            if latest is None or state.step > _step_of(latest):
                save()
            distributed.wait()  # the next stage reads what was saved

    def model(self, stage: str) -> nn.Module:
        """A trained stage, ready for use: the running mean of its weights.

        Raises MinidalleError where its training has not come to its end.
        """
        directory = self.out / stage
        saved = sorted(directory.glob("step-*"))
        if not saved:
            raise MinidalleError(f"{directory} is not trained yet: run minidalle train {stage}")
        tensors, documents = checkpoint.load(saved[-1])
        step, steps = documents["config"]["step"], documents["config"]["fit"]["steps"]
        if step < steps:
            raise MinidalleError(
                f"{saved[-1]} is {step} steps of {steps}: finish it with"
                f" minidalle train {stage} --resume"
            )
        kind, config_kind = MODELS[stage]
        config = settings(config_kind, documents["model_config"], f"{saved[-1]}: the model")
        model = kind(config)
        load_weights(
            model, tensors["ema"], file=saved[-1], config=asdict(config),
            saved_config=documents["model_config"],
        )  # fmt: skip
        return model.to(self.device).eval().requires_grad_(False)

    def load_or_train(
        self, stage: str, progress: Callable[[Iterable[Record]], Iterable] = iter
    ) -> nn.Module | Tokenizer:
        """A stage ready for use: its finished training if there is one, else it is trained now.

        So are the stages that it needs. What was begun is gone on with. `progress` wraps the
        records of each training, as tqdm does.
        """
        for needed in NEEDS[stage]:
            self.load_or_train(needed, progress)
        if stage == "tokenizer":
            return self.tokenizer()
        if not (self.out / stage / f"step-{self.steps(stage):08d}").exists():
            deque(progress(self.train(stage, resume=True)), maxlen=0)
        return self.model(stage)

    def losses(self, stage: str, config: FitConfig) -> Losses:
        """What a stage learns from, as `training.fit` wants it (`lessons.py`)."""
        if stage == "dvae":
            return dvae_losses(self.source, config, self.device)
        dvae, tokenizer, p = self.model("dvae"), self.tokenizer(), self.preset
        if stage == "prior":
            return prior_losses(
                self.source, dvae, tokenizer, config, self.device, length=p.prior.text_length,
                bpe_dropout=p.bpe_dropout, caption_dropout=p.caption_dropout, shades=p.shades,
            )  # fmt: skip
        return clip_losses(
            self.source, dvae, tokenizer, config, self.device, length=p.clip.text_length
        )


def _tell(log: Path, record: Record) -> None:
    """A line for the curves. A full disk must not end a training that has room for nothing else."""
    try:
        with log.open("a") as lines:
            lines.write(json.dumps(record._asdict()) + "\n")
    except OSError as error:
        warnings.warn(f"cannot write {log}: {error.strerror}; its line is lost", stacklevel=2)


def _step_told(line: str) -> float:
    """The step of a line of the log; infinity for one that was cut short."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return float("inf")


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
