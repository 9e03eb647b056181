"""The optimizers of a training: AdamW, and Muon for the matrices of residual blocks."""

import re
from typing import Any

import torch
from torch import nn

from minidalle.training.config import TrainConfig
from minidalle.training.muon import Muon

BLOCKS = re.compile(r"\bblocks\.|\bpath\.")  # of the transformer, and of the dVAE


def make_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW, and with `muon_lr` Muon for the matrices inside residual blocks. Norms and biases do
    not decay.

    A model may have an attribute `lr_ratios`, as the GAN has: shares of AdamW's learning rate, by
    prefix of a parameter's name.
    """
    named = dict(model.named_parameters())
    blocks = [p for n, p in named.items() if BLOCKS.search(n) and p.ndim >= 2]
    chosen = {id(p) for p in blocks} if config.muon_lr else set()
    rest = {n: p for n, p in named.items() if id(p) not in chosen}
    ratios: dict[str, float] = getattr(model, "lr_ratios", {})
    ratio_of = {n: next((r for k, r in ratios.items() if n.startswith(k)), 1.0) for n in rest}
    groups: list[dict[str, Any]] = []
    for ratio in sorted({1.0, *ratio_of.values()}, reverse=True):
        members = [p for n, p in rest.items() if ratio_of[n] == ratio]
        by_decay: list[dict[str, Any]] = [
            {"params": [p for p in members if p.ndim >= 2]},
            {"params": [p for p in members if p.ndim < 2], "weight_decay": 0.0},
        ]
        groups += [{**group, "lr": config.lr * ratio} for group in by_decay if group["params"]]
    decay = 0.0 if config.muon_lr else config.weight_decay
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            groups, lr=config.lr, betas=config.betas, eps=1e-8, weight_decay=decay, fused=True
        )
    ]
    if config.muon_lr:
        optimizers.append(Muon(blocks, lr=config.muon_lr, weight_decay=config.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]  # the peak, which the schedule scales
    return optimizers
