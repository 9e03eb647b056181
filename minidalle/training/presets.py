"""The sizes: smoke (seconds, for tests), class (a lesson on a laptop), full (what ships).

The one place that knows them, and the only reader of the environment variable MINIDALLE_PRESET.
"""

import os
from dataclasses import dataclass, replace

from minidalle.clip import CLIPConfig
from minidalle.dvae import DVAEConfig
from minidalle.errors import MinidalleError
from minidalle.prior import PriorConfig
from minidalle.sampling import SamplingConfig
from minidalle.training.trainer import FitConfig


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Sizes and training of all four stages. Vocabulary and grid follow from earlier stages."""

    name: str
    captions: int  # that the tokenizer is trained on
    vocab_size: int  # tokens it may learn; it stops sooner when nothing repeats
    bpe_dropout: float  # share of merges left out in the prior's training (paper: 0.1)
    caption_dropout: float  # share of captions left out in the prior's training, for guidance
    shades: float  # share of the prior's training in which the storybook shows shades of colours
    dvae: DVAEConfig
    dvae_fit: FitConfig
    prior: PriorConfig
    prior_fit: FitConfig
    clip: CLIPConfig
    clip_fit: FitConfig
    sampling: SamplingConfig  # how the bundle draws unless told otherwise
    lesson: float = 1.0  # how much of the training that a notebook names is done

    def lesson_steps(self, steps: int) -> int:
        """Updates that a notebook makes where it would make `steps` at class."""
        return max(6, round(self.lesson * steps))

    def with_batch_size(self, size: int | None) -> "Preset":
        """The same, every stage with batches of that size; None leaves each its own."""
        if size is None:
            return self
        fits = {name: getattr(self, name) for name in ("dvae_fit", "prior_fit", "clip_fit")}
        return replace(self, **{k: replace(v, batch_size=size) for k, v in fits.items()})

    def with_rate(self, stage: str, rate: float | None) -> "Preset":
        """The same, one stage with another peak learning rate; None leaves it as it is.

        Raises MinidalleError for a stage that has none, or for all of them: each has its own.
        """
        if rate is None:
            return self
        name = f"{stage}_fit"
        if not hasattr(self, name):
            raise MinidalleError(f"--lr is for one stage, dvae, prior or clip, and not for {stage}")
        if not 0 < rate < float("inf"):
            raise MinidalleError(f"--lr {rate}: above 0")
        return replace(self, **{name: replace(getattr(self, name), lr=rate)})

    def in_parts(self, accumulate: int) -> "Preset":
        """The same, each batch drawn in parts; not CLIP's, whose loss needs it whole."""
        fits = {name: getattr(self, name) for name in ("dvae_fit", "prior_fit")}
        return replace(self, **{k: replace(v, accumulate=accumulate) for k, v in fits.items()})


_PRIOR_FIT = {"betas": (0.9, 0.96), "weight_decay": 4.5e-2, "ema": 0.999}
_CLIP_FIT = {"betas": (0.9, 0.98), "weight_decay": 0.1, "ema": 0.999}

FULL = Preset(
    name="full",
    lesson=3.0,
    captions=20_000,
    vocab_size=2048,
    bpe_dropout=0.0,  # with 0.1 our short training has learnt half as much of its captions
    caption_dropout=0.1,
    shades=0.75,
    dvae=DVAEConfig(codes=512),
    dvae_fit=FitConfig(steps=3000, batch_size=16, lr=4e-3),
    prior=PriorConfig(width=192, layers=6, heads=6),
    prior_fit=FitConfig(steps=34_000, batch_size=8, lr=2.5e-3, warmup=200, **_PRIOR_FIT),
    clip=CLIPConfig(width=128, heads=4),
    clip_fit=FitConfig(steps=18_000, batch_size=48, lr=5e-4, warmup=100, **_CLIP_FIT),
    sampling=SamplingConfig(temperature=0.7),
)
CLASS = replace(
    FULL,
    name="class",
    lesson=1.0,
    shades=0.0,  # which so short a training has no time for
    dvae_fit=replace(FULL.dvae_fit, steps=1500),
    prior=replace(FULL.prior, width=128, heads=4),  # so narrow, it sees 1.7 times as many pictures
    prior_fit=replace(FULL.prior_fit, steps=8500, lr=3e-3),
    clip_fit=replace(FULL.clip_fit, steps=6500),
    sampling=SamplingConfig(temperature=0.4),  # so short a training is less sure: play it safe
)
SMOKE = replace(
    FULL,
    name="smoke",
    lesson=0.005,
    captions=500,
    vocab_size=400,
    dvae=DVAEConfig(codes=64, patch=2, widths=(16, 32), blocks=1, code_width=16),
    dvae_fit=FitConfig(steps=6, batch_size=4, warmup=2),
    prior=PriorConfig(width=32, layers=2, heads=2),
    prior_fit=FitConfig(steps=6, batch_size=4, warmup=2, **_PRIOR_FIT),
    clip=CLIPConfig(width=32, image_layers=1, text_layers=1, heads=2, embedding=16),
    clip_fit=FitConfig(steps=6, batch_size=4, warmup=2, **_CLIP_FIT),
)
PRESETS = {preset.name: preset for preset in (SMOKE, CLASS, FULL)}


def preset(name: str | None = None) -> Preset:
    """The preset of that name, or of MINIDALLE_PRESET, or class."""
    name = name or os.environ.get("MINIDALLE_PRESET") or "class"
    if name not in PRESETS:
        raise MinidalleError(f"no preset {name!r}; choose of: {', '.join(PRESETS)}")
    return PRESETS[name]
