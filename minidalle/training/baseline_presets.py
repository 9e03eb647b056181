"""The sizes of the baselines and their training: one size for class and full, and one for smoke."""

from typing import Any

from minidalle.training.trainer import TrainConfig

MODELS: dict[str, Any] = {}
TRAINING: dict[str, TrainConfig] = {}

SMOKE_MODELS: dict[str, Any] = {}
SMOKE_TRAINING: dict[str, TrainConfig] = {}
