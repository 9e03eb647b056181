"""How a model is trained."""

import math
from dataclasses import dataclass

from minidalle.errors import MinidalleError, check_fields


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained; the family of the paper's settings (appendices A and B)."""

    steps: int  # updates
    batch_size: int = 64  # examples per update
    accumulate: int = 1  # microbatches per update and process, to save memory
    lr: float = 1e-3  # peak learning rate
    warmup_steps: int = 100  # updates from 0 to the peak
    final_lr_ratio: float = 0.02  # learning rate at the end of the cosine, as a share of the peak
    muon_lr: float | None = None  # Muon's peak, for the matrices of residual blocks; None: AdamW
    betas: tuple[float, float] = (0.9, 0.999)  # AdamW's decay rates of the two moments, 0..1
    weight_decay: float = 1e-4  # on matrices only; with Muon, on its matrices only
    max_grad_norm: float = 1.0  # gradients longer than this are scaled down to it
    ema_decay: float = 0.999  # of the running mean of the weights, which is used in the end
    seed: int = 0  # of weights, data and noise
    validate_every: int = 0  # updates between two looks at the validation loss; 0: never
    patience: int = 0  # looks without a lower validation loss that end training; 0: none do

    def __post_init__(self) -> None:
        check_fields(
            self, steps=(1, 1e9), batch_size=(1, 1e6), accumulate=(1, 1e6), warmup_steps=(0, 1e9),
            final_lr_ratio=(0, 1), betas=(0, 1), weight_decay=(0, 1e3), max_grad_norm=(0, 1e9),
            ema_decay=(0, 1), seed=(0, 2**40), validate_every=(0, 1e9), patience=(0, 1e6),
        )  # fmt: skip
        if self.patience and not self.validate_every:
            raise MinidalleError(
                "patience counts looks at the validation loss, and there are none: set"
                " validate_every, to 100 for instance"
            )
        for name, value, usual in (("lr", self.lr, 1e-3), ("muon_lr", self.muon_lr, 0.02)):
            if value is not None and not 0 < value < math.inf:
                raise MinidalleError(f"{name} must be above 0, got {value}; try {usual}")
