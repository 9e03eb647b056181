"""The sizes of the baselines and their training: one size for class and full, and one for smoke."""

from typing import Any

from minidalle.baselines.masked import MaskedConfig
from minidalle.training.trainer import TrainConfig

_CODES_OPTIMIZER: dict[str, Any] = {"muon_lr": 0.02, "betas": (0.9, 0.96), "weight_decay": 2e-2}
_SMOKE_STEPS: dict[str, Any] = {"steps": 6, "batch_size": 4, "warmup_steps": 2}

MODELS: dict[str, Any] = {
    "masked": MaskedConfig(width=128, layers=6, heads=4, look_size=48),
}
TRAINING: dict[str, TrainConfig] = {
    # About 15 minutes on two cores: 0.83 s per update on one, and 1.6 times as fast on two.
    "masked": TrainConfig(steps=1800, batch_size=16, lr=3e-3, **_CODES_OPTIMIZER),
}

SMOKE_MODELS: dict[str, Any] = {
    "masked": MaskedConfig(text_length=48, width=32, layers=2, heads=2, look_size=48),
}
SMOKE_TRAINING: dict[str, TrainConfig] = {
    "masked": TrainConfig(**_SMOKE_STEPS, **_CODES_OPTIMIZER),
}
