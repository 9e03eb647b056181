"""The sizes of the baselines and their training: one size for class and full, and one for smoke."""

from typing import Any

from minidalle.baselines.encoder_decoder import EncoderDecoderConfig
from minidalle.baselines.gan import GANConfig
from minidalle.baselines.masked import MaskedConfig
from minidalle.baselines.unclip import UnCLIPConfig
from minidalle.training.config import TrainConfig

PRIOR_OPTIMIZER: dict[str, Any] = {"betas": (0.9, 0.96), "weight_decay": 2e-2}
_CODES: dict[str, Any] = {"batch_size": 16, "lr": 3e-3, "muon_lr": 0.02, **PRIOR_OPTIMIZER}
# No momentum: the opponent changes at every step. Both networks are clipped by one norm, so a low
# maximum would let the discriminator's large R1 gradients shrink the generator's.
_GAN: dict[str, Any] = {
    "betas": (0.0, 0.99), "weight_decay": 0.0, "max_grad_norm": 100.0, "ema_decay": 0.99,
}  # fmt: skip
_SMOKE: dict[str, Any] = {"steps": 6, "batch_size": 4, "lr": 1e-3, "warmup_steps": 2}

MODELS: dict[str, Any] = {
    # As many parameters as the prior of class, within 5 %.
    "encoder_decoder": EncoderDecoderConfig(
        width=128, encoder_layers=1, decoder_layers=4, heads=4, look_size=48
    ),
    "masked": MaskedConfig(width=128, layers=6, heads=4, look_size=48),
    "gan": GANConfig(),
    "unclip": UnCLIPConfig(),
}
# Each takes about a quarter of an hour on two cores.
TRAINING: dict[str, TrainConfig] = {
    "encoder_decoder": TrainConfig(steps=3750, **_CODES),  # in the minutes of the prior of class
    "masked": TrainConfig(steps=1800, **_CODES),
    "gan": TrainConfig(steps=5500, batch_size=32, lr=1e-3, **_GAN),
    "unclip": TrainConfig(
        steps=3000, batch_size=24, lr=2e-3, muon_lr=0.02, weight_decay=1e-2, ema_decay=0.995
    ),
}

SMOKE_MODELS: dict[str, Any] = {
    "encoder_decoder": EncoderDecoderConfig(
        text_length=48, width=32, encoder_layers=1, decoder_layers=2, heads=2, look_size=48
    ),
    "masked": MaskedConfig(text_length=48, width=32, layers=2, heads=2, look_size=48),
    "gan": GANConfig(text_length=48, noise=8, width=8, text_width=16, text_layers=1, heads=2),
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
    "encoder_decoder": TrainConfig(**{**_CODES, **_SMOKE}),
    "masked": TrainConfig(**{**_CODES, **_SMOKE}),
    "gan": TrainConfig(**{**_GAN, **_SMOKE}),
    "unclip": TrainConfig(**_SMOKE, muon_lr=0.02),
}
