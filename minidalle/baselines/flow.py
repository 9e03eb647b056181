"""Flow matching: a network learns the velocity that carries noise into data (Lipman et al. 2023).

    path        x_t = (1 − t) · ε + t · x           ε ~ N(0, 1); t from 0 (noise) to 1 (data)
    velocity    dx_t/dt = x − ε
    loss        E | v(x_t, t) − (x − ε) |²          smallest where v(x_t, t) = E[ x − ε | x_t ]
    sampling    x_{t+h} = x_t + h · v(x_t, t)       Euler's method, from noise at t = 0

The path is the paper's optimal-transport path with σ_min = 0 (§4.1). Many pictures cross at one
point x_t, and the best velocity there is the mean of theirs. Following the means still turns noise
into samples of the data: at every t the distribution of x_t is that of the path (theorem 1).

The network predicts the data x and not the velocity: pictures fill few of their dimensions, and
noise fills them all, so x is easier to predict (Li and He 2025). A prediction x̂ means the velocity
(x̂ − x_t) / (1 − t), so the loss above is |x̂ − x|² / (1 − t)².

Shapes: B batch; data of any shape.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from minidalle.errors import MinidalleError

# x_t (B …) and t (B) → the prediction x̂ (B …)
Denoiser = Callable[[Tensor, Tensor], Tensor]
Generators = Sequence[torch.Generator]  # one on the CPU per sample

MIN_REMAINING_TIME = 0.05  # floor under 1 − t in the loss, where 1/(1 − t)² grows without bound
TIME_SHIFT = -0.8  # mean of logit(t): most of the training is near noise, where captions decide


def path_point(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The point x_t of the path from noise to x: B … at the times t, B."""
    t = _beside(t, x)
    return (1 - t) * noise + t * x


def velocity(prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """The velocity that leads from x_t to the prediction in the time that is left; t below 1."""
    return (prediction - x_t) / (1 - _beside(t, x_t))


def sample_times(n: int, device: torch.device) -> Tensor:
    """n times for training: the sigmoid of N(TIME_SHIFT, 1) (Esser et al. 2024, §3.1).

    They are stratified, one from each n-th of the distribution, so that batches are alike.
    """
    quantiles = (torch.randperm(n, device=device) + torch.rand(n, device=device)) / n
    return torch.sigmoid(TIME_SHIFT + torch.special.ndtri(quantiles.clamp(1e-6, 1 - 1e-6)))


def flow_loss(denoiser: Denoiser, x: Tensor) -> Tensor:
    """The flow-matching loss on data, B …: the mean squared error of the velocity, a scalar."""
    t = sample_times(len(x), x.device)
    prediction = denoiser(path_point(x, torch.randn_like(x), t), t).float()
    remaining = (1 - t).clamp(min=MIN_REMAINING_TIME)
    return ((prediction - x) / _beside(remaining, x)).square().mean()


def guided(
    network: Callable[[Tensor, Tensor, Tensor], Tensor],
    context: Tensor,
    unconditional: Tensor,
    guidance: float,
) -> Denoiser:
    """A network with its third argument, the context, as a denoiser with classifier-free guidance
    (Ho and Salimans 2022): x̂ = uncond + guidance · (cond − uncond). Guidance 1 is none.
    """

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        cond = network(x_t, t, context)
        if guidance == 1:
            return cond
        uncond = network(x_t, t, unconditional)
        return uncond + guidance * (cond - uncond)

    return denoise


def gaussian_noise(generators: Generators, shape: Sequence[int]) -> Tensor:
    """Noise of a shape from each of n generators: n …. It is the same however many there are."""
    return torch.stack([torch.randn(*shape, generator=g) for g in generators])


@torch.no_grad()
def euler(denoiser: Denoiser, noise: Tensor, steps: int) -> Tensor:
    """Follow the velocity from noise, B …, to data in equal steps; the last ends at a prediction.

    Raises MinidalleError where there is no step to take.
    """
    if steps < 1:
        raise MinidalleError(f"steps must be at least 1, got {steps}; try 25")
    x = noise
    for i in range(steps):
        t = x.new_full((len(x),), i / steps)
        x = x + velocity(denoiser(x, t), x, t) / steps
    return x


def _beside(t: Tensor, x: Tensor) -> Tensor:
    """Times, B, as B 1 … 1, to be multiplied with x, B …."""
    return t.reshape(-1, *[1] * (x.ndim - 1))
