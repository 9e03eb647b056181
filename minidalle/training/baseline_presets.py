"""The sizes of the baselines and their training: one size for class and full, and one for smoke."""

from typing import Any

from minidalle.baselines.gan import GANConfig
from minidalle.training.trainer import TrainConfig

# No momentum: the opponent changes at every step. Both networks are clipped by one norm, so a low
# maximum would let the discriminator's large R1 gradients shrink the generator's.
_GAN_OPTIMIZER: dict[str, Any] = {
    "betas": (0.0, 0.99), "weight_decay": 0.0, "max_grad_norm": 100.0, "ema_decay": 0.99,
}  # fmt: skip

MODELS: dict[str, Any] = {"gan": GANConfig()}
TRAINING: dict[str, TrainConfig] = {
    "gan": TrainConfig(steps=5500, batch_size=32, lr=1e-3, **_GAN_OPTIMIZER),
}

SMOKE_MODELS: dict[str, Any] = {
    "gan": GANConfig(text_length=48, noise=8, width=8, text_width=16, text_layers=1, heads=2),
}
SMOKE_TRAINING: dict[str, TrainConfig] = {
    "gan": TrainConfig(steps=6, batch_size=4, warmup_steps=2, **_GAN_OPTIMIZER),
}
