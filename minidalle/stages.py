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
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from minidalle import checkpoint, parallel
from minidalle.captions import LANGUAGES, describe
from minidalle.clip import CLIP
from minidalle.dvae import DVAE, tau_at
from minidalle.errors import MinidalleError
from minidalle.presets import Preset
from minidalle.prior import Prior
from minidalle.sources import Source, caption_of, to_tensor
from minidalle.storybook import Storybook, render, sibling
from minidalle.tokenizer import Tokenizer
from minidalle.training import FitConfig, Record, TrainState, fit, pick_device
from minidalle.weights import load_weights

STAGES = ("tokenizer", "dvae", "prior", "clip")
NEEDS = {  # the stages that a stage learns from
    "tokenizer": (),
    "dvae": (),
    "prior": ("tokenizer", "dvae"),
    "clip": ("tokenizer", "dvae"),
}
SAVE_EVERY = 500  # steps between two checkpoints
SIBLINGS = 2  # scenes beside each scene in CLIP's batches that differ from it in one fact
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
        if not file.exists() and parallel.rank() == 0:
            self.out.mkdir(parents=True, exist_ok=True)
            captions = [caption_of(self.source, "train", i) for i in range(self.preset.captions)]
            Tokenizer.train(captions, self.preset.vocab_size).save(file)
        parallel.wait()
        return Tokenizer.load(file)

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
        directory = self.out / stage
        leads = parallel.rank() == 0  # the one who writes
        with checkpoint.Run(directory) if leads else nullcontext() as run:
            parallel.wait()  # until the run is open: what a kill left behind is tidied up
            latest = checkpoint.latest(directory)
            parallel.wait()
            if latest is not None and not resume:
                raise MinidalleError(
                    f"{directory} holds a run already: go on with --resume, or choose another --out"
                )
            model, fit_config = self.build(stage)
            state = TrainState.start(model, fit_config)
            if latest is not None:
                state.restore(*checkpoint.load(latest), file=latest)
            losses = getattr(self, f"_{stage}_losses")(fit_config)
            log = self.out / f"{stage}.jsonl"
            if leads:
                known = log.read_text().splitlines() if latest is not None and log.exists() else []
                told = [line for line in known if json.loads(line)["step"] <= state.step]
                log.write_text("".join(f"{line}\n" for line in told))  # lost steps are told again

            def save() -> None:
                if leads:
                    run.save(state.step, *state.dump())

            try:
                for record in fit(state, losses):
                    if leads and record.step % LOG_EVERY == 0:
                        with log.open("a") as lines:
                            lines.write(json.dumps(record._asdict()) + "\n")
                    if record.step % SAVE_EVERY == 0 and record.step < fit_config.steps:
                        save()
                    yield record
            except GeneratorExit:
                save()
                raise
            if latest is None or state.step > _step_of(latest):
                save()
            parallel.wait()  # the next stage reads what was saved

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
        kinds = {"dvae": DVAE, "prior": Prior, "clip": CLIP}
        config = config_from(kinds[stage], documents["model_config"])
        model = kinds[stage](config)
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

    # --- What each stage learns from --------------------------------------------------------------

    # A step's batch is pictures step · n … step · n + n − 1; a process draws its share of them.

    def _indices(self, step: int, n: int) -> list[int]:
        return [step * n + row for row in parallel.share(n)]

    def _dvae_losses(self, config: FitConfig):
        def losses(model: nn.Module, step: int, progress: float) -> NamedTuple:
            pages = [self.source.page(i) for i in self._indices(step, config.batch_size)]
            images = to_tensor(pages, self.device)
            images = images.contiguous(memory_format=torch.channels_last)
            return model(images, tau_at(progress), progress)

        return losses

    def _prior_losses(self, config: FitConfig):
        dvae, tokenizer = self.model("dvae"), self.tokenizer()
        length = self.preset.prior.text_length

        def losses(model: nn.Module, step: int, progress: float) -> NamedTuple:
            indices = self._indices(step, config.batch_size)
            images = to_tensor([self.source.image("train", i) for i in indices], self.device)
            with torch.no_grad():
                codes = dvae.encode(images).flatten(1)  # B N
            rngs = [random.Random(f"prior {config.seed} {i}") for i in indices]
            captions = [
                "" if rng.random() < self.preset.caption_dropout
                else caption_of(self.source, "train", i)
                for i, rng in zip(indices, rngs, strict=True)
            ]  # fmt: skip
            rows = [
                tokenizer.batch([caption], length, self.preset.bpe_dropout, rng)
                for caption, rng in zip(captions, rngs, strict=True)
            ]
            return model(torch.cat(rows).to(self.device), codes)

        return losses

    def _clip_losses(self, config: FitConfig):
        dvae, tokenizer = self.model("dvae"), self.tokenizer()
        length = self.preset.clip.text_length

        if config.accumulate > 1:
            raise MinidalleError(
                "CLIP compares every picture of a batch with every caption of it: it cannot be"
                " drawn in parts; train it without accumulate, with a smaller batch if need be"
            )

        def losses(model: nn.Module, step: int, progress: float) -> NamedTuple:
            images, captions = self._clip_pairs(step, config.batch_size)
            mine = parallel.share(config.batch_size)
            x = to_tensor([images[i] for i in mine], self.device)
            # Candidates come from the dVAE: half of the pictures are seen as it paints them.
            half = len(x) // 2
            with torch.no_grad():
                x[:half] = dvae.decode(dvae.encode(x[:half]))
            return model(x, tokenizer.batch([captions[i] for i in mine], length).to(self.device))

        return losses

    def _clip_pairs(self, step: int, n: int) -> tuple[list[np.ndarray], list[str]]:
        """n pictures with n different captions. In the storybook each scene is followed by two that
        differ from it in one fact only: what tells them apart is what CLIP must learn."""
        images, captions, taken, i = [], [], set(), step * 2 * n
        while len(captions) < n:
            pairs = []
            if isinstance(self.source, Storybook):
                scene = self.source.scene("train", i)
                for s in (scene, *(sibling(scene, f"{i} {k}") for k in range(SIBLINGS))):
                    caption = describe(s, LANGUAGES[i % 2], f"clip {i}")
                    pairs.append((render(s, self.source.size), caption))
            else:
                image, caption = self.source.image("train", i), self.source.caption("train", i)
                pairs.append((image, caption))
            i += 1
            for image, caption in pairs:
                if len(captions) < n and caption not in taken:
                    taken.add(caption)
                    images.append(image)
                    captions.append(caption)
            if i - step * 2 * n > 20 * n:
                raise MinidalleError(
                    f"CLIP needs {n} different captions a batch and there are only {len(captions)}:"
                    " add captions, or choose a smaller batch size"
                )
        order = np.random.default_rng(step).permutation(n)
        return [images[j] for j in order], [captions[j] for j in order]


def config_from(kind: type[nn.Module], document: dict):
    """A model's config from JSON, where tuples have become lists."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}
    return kind.__init__.__annotations__["config"](**values)


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
