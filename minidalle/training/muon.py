"""Muon: updates of matrices in which every direction is learnt at one pace.

A gradient's momentum G = U S Vᵀ is dominated by a few directions with large singular values. Muon
(Jordan et al. 2024) replaces it by about U Vᵀ, where all are equal, so what is rare in the data is
learnt as fast as what is common. No singular value decomposition is needed: a few Newton–Schulz
steps, X ← a X + (b X Xᵀ + c (X Xᵀ)²) X, bring all singular values close to 1.

torch.optim.Muon computes these steps in bfloat16, which many CPUs only emulate: here they are in
float32 unless the parameters themselves are narrower, and matrices of one shape go together.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.775, 2.0315)  # a, b, c: the steepest at zero that still converges
STEPS = 5


def orthogonalised(matrices: Tensor) -> Tensor:
    """B m n → B m n with singular values of about 0.7 to 1.2, whatever they were."""
    a, b, c = COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)  # no singular value above 1
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, b * gram + c * gram @ gram, x, beta=a)
    return x.mT if is_tall else x


class Muon(torch.optim.Optimizer):
    """For matrices: step = lr · √max(1, rows / columns) · orthogonalised Nesterov momentum.

    A convolution's weight is a matrix from all its inputs, k × k × channels, to its outputs.
    weight_decay: as AdamW's, each step multiplies the weights by 1 − lr · weight_decay.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.02,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        assert all(p.ndim >= 2 for group in self.param_groups for p in group["params"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                buffer = state["momentum_buffer"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"])
                by_shape[len(p), p[0].numel()].append((p, update.flatten(1)))
            for (rows, columns), pairs in by_shape.items():
                lr = group["lr"] * max(1, rows / columns) ** 0.5
                updates = orthogonalised(torch.stack([update for _, update in pairs]))
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(
                        update.view_as(p), alpha=lr
                    )
