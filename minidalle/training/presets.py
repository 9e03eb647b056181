"""The sizes: smoke (seconds, for tests), class (a lesson on a laptop), full (what ships), plain
(class, with nothing that the paper has not), and finetune (goes on from a trained bundle).

The only reader of the environment variable MINIDALLE_PRESET.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from minidalle.clip import CLIPConfig
from minidalle.dvae import DVAEConfig
from minidalle.errors import MinidalleError
from minidalle.prior import PriorConfig
from minidalle.sampling import SamplingConfig
from minidalle.training import baseline_presets
from minidalle.training.baseline_presets import PRIOR_OPTIMIZER
from minidalle.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Sizes and training of all stages. Vocabulary and grid follow from earlier stages."""

    name: str
    captions: int  # that the tokenizer is trained on
    vocab_size: int  # tokens it may learn; it stops sooner when nothing repeats
    bpe_dropout: float  # share of merges left out in the prior's training (paper: 0.1)
    caption_dropout: float  # share of captions left out in the prior's training, for guidance
    colour_jitter: float  # share of the prior's training in which colours are varied
    models: Mapping[str, Any]  # the config of each stage's model
    training: Mapping[str, TrainConfig]  # and how it is trained
    sampling: SamplingConfig  # the bundle's default sampling
    sampled_codes: bool = False  # codes sampled from the dVAE's posterior, not its argmax (note 6)
    new_tokens: int = 0  # that a bundle's tokenizer may grow by when it is fine-tuned
    new_codes: int = 0  # that its dVAE grows by
    notebook_scale: float = 1.0  # multiplies the number of updates that a notebook names

    def notebook_steps(self, steps: int) -> int:
        """Updates that a notebook makes where it would make `steps` at class."""
        return max(6, round(self.notebook_scale * steps))

    def with_text_length(self, length: int | None) -> "Preset":
        """The same preset for captions of that many tokens; None changes nothing."""
        if length is None:
            return self
        longer = {
            name: replace(config, text_length=length)
            for name, config in self.models.items()
            if hasattr(config, "text_length")
        }
        return replace(self, models={**self.models, **longer})

    def with_model(self, name: str, **changes: Any) -> "Preset":
        """The same preset with some fields of a model's config changed; None changes nothing."""
        changes = {field: value for field, value in changes.items() if value is not None}
        return replace(self, models={**self.models, name: replace(self.models[name], **changes)})

    def without_dropout(self) -> "Preset":
        """The same preset, with every caption shown whole and every colour as it is."""
        return replace(
            self, bpe_dropout=0.0, caption_dropout=0.0, colour_jitter=0.0, sampled_codes=False
        )

    def with_training(self, *stages: str, **changes: Any) -> "Preset":
        """The same preset with some fields of the stages' TrainConfigs changed; None changes
        nothing. Without stages, all of them.

        Raises MinidalleError for a stage that is not trained in steps.
        """
        changes = {field: value for field, value in changes.items() if value is not None}
        stages = stages or tuple(self.training)
        if changes and (unknown := [stage for stage in stages if stage not in self.training]):
            raise MinidalleError(
                f"--{', --'.join(changes)} is for one stage, {', '.join(self.training)}, and not"
                f" for {unknown[0]}"
            )
        changed = {stage: replace(self.training[stage], **changes) for stage in stages if changes}
        return replace(self, training={**self.training, **changed})


_CLIP_OPTIMIZER: dict[str, Any] = {"betas": (0.9, 0.98), "weight_decay": 0.1}

FULL = Preset(
    name="full",
    notebook_scale=3.0,
    captions=20_000,
    vocab_size=2048,
    bpe_dropout=0.0,  # with 0.1 a training this short learns a third less of its captions
    caption_dropout=0.1,
    colour_jitter=0.75,
    models={
        "dvae": DVAEConfig(
            codes=4096,
            widths=(256,),
            bottleneck=2,
            prototypes=True,
            beta=1.0,
            information_bonus=0.0,
        ),
        "prior": PriorConfig(width=192, layers=6, heads=6, rotary=True, qk_norm=True, look_size=48),
        "clip": CLIPConfig(width=128, heads=4),
        **baseline_presets.MODELS,
    },
    training={
        "dvae": TrainConfig(steps=1500, batch_size=16, lr=2e-3, muon_lr=0.02, weight_decay=1e-2),
        "prior": TrainConfig(
            steps=12_000, batch_size=16, lr=3e-3, muon_lr=0.02, warmup_steps=500, **PRIOR_OPTIMIZER
        ),
        "clip": TrainConfig(
            steps=10_000, batch_size=48, lr=5e-4, warmup_steps=100, **_CLIP_OPTIMIZER
        ),
        **baseline_presets.TRAINING,
    },
    # The paper samples as learned. A training this short follows its captions much better with a
    # little guidance and without the least likely codes: 0.80 of first drawings are right against
    # 0.53. Chosen on training captions (data/experiments.md).
    sampling=SamplingConfig(temperature=1.0, guidance=1.4, top_p=0.8),
)
CLASS = replace(
    FULL,
    name="class",
    notebook_scale=1.0,
    models={
        **FULL.models,  # the prior is narrower: it sees 1.7 times as many pictures in its minutes
        "prior": replace(FULL.models["prior"], width=128, heads=4),
    },
    training={
        **FULL.training,
        "dvae": replace(FULL.training["dvae"], steps=500),
        "prior": replace(FULL.training["prior"], steps=3000, warmup_steps=100),
        "clip": replace(FULL.training["clip"], steps=6500),
    },
)
FINETUNE = replace(  # a trained bundle goes on with other pictures, at a low rate
    FULL,
    name="finetune",
    new_tokens=1024,
    new_codes=1024,
    training={
        **FULL.training,
        **{
            name: TrainConfig(
                steps=steps, batch_size=batch_size, lr=1e-4, warmup_steps=20, weight_decay=1e-2,
                ema_decay=0.99, validate_every=50, patience=4,
            )
            for name, steps, batch_size in (("dvae", 800, 16), ("prior", 1500, 16),
                                            ("clip", 1000, 32))
        },
    },
)  # fmt: skip
PLAIN = replace(  # as the paper has it: no prototypes, no rotary positions, AdamW throughout
    CLASS,
    name="plain",
    colour_jitter=0.0,
    models={
        **CLASS.models,
        "dvae": DVAEConfig(codes=512),
        "prior": PriorConfig(width=128, layers=6, heads=4),
    },
    training={
        **CLASS.training,
        "dvae": TrainConfig(steps=1500, batch_size=16, lr=4e-3),
        "prior": TrainConfig(
            steps=3000,
            batch_size=16,
            lr=3e-3,
            warmup_steps=100,
            betas=(0.9, 0.96),
            weight_decay=4.5e-2,
        ),
    },
)
_SMOKE_STEPS: dict[str, Any] = {"steps": 6, "batch_size": 4, "warmup_steps": 2}
SMOKE = replace(
    FULL,
    name="smoke",
    notebook_scale=0.005,
    captions=500,
    vocab_size=400,
    models={
        "dvae": DVAEConfig(
            codes=64,
            widths=(32,),
            blocks=1,
            prototypes=True,
            code_width=48,
            beta=1.0,
            information_bonus=0.0,
        ),
        "prior": PriorConfig(
            text_length=48, width=32, layers=2, heads=2, rotary=True, qk_norm=True, look_size=48
        ),
        "clip": CLIPConfig(
            text_length=48, width=32, image_layers=1, text_layers=1, heads=2, embedding=16
        ),
        **baseline_presets.SMOKE_MODELS,
    },
    training={
        "dvae": TrainConfig(**_SMOKE_STEPS, muon_lr=0.02),
        "prior": TrainConfig(**_SMOKE_STEPS, muon_lr=0.02, **PRIOR_OPTIMIZER),
        "clip": TrainConfig(**_SMOKE_STEPS, **_CLIP_OPTIMIZER),
        **baseline_presets.SMOKE_TRAINING,
    },
)
PRESETS = {preset.name: preset for preset in (SMOKE, CLASS, FULL, PLAIN, FINETUNE)}


def preset(name: str | None = None) -> Preset:
    """The preset of that name, or of MINIDALLE_PRESET, or class."""
    name = name or os.environ.get("MINIDALLE_PRESET") or "class"
    if name not in PRESETS:
        raise MinidalleError(f"no preset {name!r}; choose one of: {', '.join(PRESETS)}")
    return PRESETS[name]
