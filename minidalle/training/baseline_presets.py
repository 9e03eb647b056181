"""The sizes of the baselines and their training: one size for class and full, and one for smoke."""

from typing import Any

from minidalle.baselines.encoder_decoder import EncoderDecoderConfig
from minidalle.training.trainer import TrainConfig

PRIOR_OPTIMIZER: dict[str, Any] = {"betas": (0.9, 0.96), "weight_decay": 2e-2}

MODELS: dict[str, Any] = {
    # As many parameters as the prior of class, within 5 %.
    "encoder_decoder": EncoderDecoderConfig(
        width=128, encoder_layers=1, decoder_layers=4, heads=4, look_size=48
    ),
}
TRAINING: dict[str, TrainConfig] = {
    # An update takes 0.8 times as long as the prior's: as many minutes as its 3,000 of class.
    "encoder_decoder": TrainConfig(
        steps=3750, batch_size=16, lr=3e-3, muon_lr=0.02, warmup_steps=100, **PRIOR_OPTIMIZER
    ),
}

SMOKE_MODELS: dict[str, Any] = {
    "encoder_decoder": EncoderDecoderConfig(
        text_length=48, width=32, encoder_layers=1, decoder_layers=2, heads=2, look_size=48
    ),
}
SMOKE_TRAINING: dict[str, TrainConfig] = {
    "encoder_decoder": TrainConfig(
        steps=6, batch_size=4, warmup_steps=2, muon_lr=0.02, **PRIOR_OPTIMIZER
    ),
}
