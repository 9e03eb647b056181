"""The sizes of the baselines and their training: one size for class and full, and one for smoke."""

from typing import Any

from minidalle.baselines.unclip import UnCLIPConfig
from minidalle.training.trainer import TrainConfig

MODELS: dict[str, Any] = {
    "unclip": UnCLIPConfig(),
}
TRAINING: dict[str, TrainConfig] = {
    "unclip": TrainConfig(
        steps=3000, batch_size=24, lr=2e-3, muon_lr=0.02, weight_decay=1e-2, ema_decay=0.995
    ),
}

SMOKE_MODELS: dict[str, Any] = {
    "unclip": UnCLIPConfig(
        text_length=48,
        width=32,
        layers=1,
        text_layers=1,
        heads=2,
        channels=8,
        prior_width=32,
        prior_layers=1,
    ),
}
SMOKE_TRAINING: dict[str, TrainConfig] = {
    "unclip": TrainConfig(steps=6, batch_size=4, warmup_steps=2, muon_lr=0.02),
}
