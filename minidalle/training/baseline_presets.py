"""The sizes of the baselines and their training: one size for class and full, and one for smoke."""

from typing import Any

from minidalle.baselines.encoder_decoder import EncoderDecoderConfig
from minidalle.baselines.masked import MaskedConfig
from minidalle.training.trainer import TrainConfig

PRIOR_OPTIMIZER: dict[str, Any] = {"betas": (0.9, 0.96), "weight_decay": 2e-2}
_CODES: dict[str, Any] = {"batch_size": 16, "lr": 3e-3, "muon_lr": 0.02, **PRIOR_OPTIMIZER}
_SMOKE: dict[str, Any] = {**_CODES, "steps": 6, "batch_size": 4, "lr": 1e-3, "warmup_steps": 2}

MODELS: dict[str, Any] = {
    # As many parameters as the prior of class, within 5 %.
    "encoder_decoder": EncoderDecoderConfig(
        width=128, encoder_layers=1, decoder_layers=4, heads=4, look_size=48
    ),
    "masked": MaskedConfig(width=128, layers=6, heads=4, look_size=48),
}
TRAINING: dict[str, TrainConfig] = {
    "encoder_decoder": TrainConfig(steps=3500, **_CODES),
    "masked": TrainConfig(steps=3000, **_CODES),
}

SMOKE_MODELS: dict[str, Any] = {
    "encoder_decoder": EncoderDecoderConfig(
        text_length=48, width=32, encoder_layers=1, decoder_layers=2, heads=2, look_size=48
    ),
    "masked": MaskedConfig(text_length=48, width=32, layers=2, heads=2, look_size=48),
}
SMOKE_TRAINING: dict[str, TrainConfig] = {
    "encoder_decoder": TrainConfig(**_SMOKE),
    "masked": TrainConfig(**_SMOKE),
}
