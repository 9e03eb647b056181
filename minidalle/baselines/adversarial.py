"""The game of a GAN: the losses of two networks that learn from each other.

A generator G makes fakes from noise z. A discriminator D scores pictures, and D's probability that
x is real is σ(score). D learns to tell real pictures from fakes, and G learns to make fakes that
D takes for real (Goodfellow et al. 2014, §3):

    min over G, max over D of   E[ ln σ(D(x)) ] + E[ ln(1 − σ(D(G(z)))) ]

With pictures of density p and fakes of density q, the best D is p / (p + q). The value is then
2 · JSD(p ‖ q) − 2 ln 2, with the Jensen–Shannon divergence, which is zero only where p = q (§4.1).

Every function below takes scores of real pictures and of fakes, B each, and returns what each
network minimises. Each gradient must reach its own network only. `cooperative` is a mistake.

Two names often met beside these: CycleGAN (Zhu et al. 2017) adds that a picture mapped to another
set and back must return, which pictures with captions do not need. Progressive growing (Karras et
al. 2018) adds layers from coarse to fine while training.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle.tensors import full_precision


class AdversarialLosses(NamedTuple):
    """Scalars: one for each network to minimise."""

    generator: Tensor
    discriminator: Tensor


# softplus(s) = −ln(1 − σ(s)) and softplus(−s) = −ln σ(s), computed without overflow.


def minimax(real: Tensor, fake: Tensor) -> AdversarialLosses:
    """The game as it is written (Goodfellow et al. 2014, equation 1). The generator's gradient
    vanishes where the discriminator is sure, which is where training begins."""
    return AdversarialLosses(
        -F.softplus(fake).mean(), F.softplus(-real).mean() + F.softplus(fake).mean()
    )


def non_saturating(real: Tensor, fake: Tensor) -> AdversarialLosses:
    """The generator raises ln σ(D(G(z))) instead: the same fixed point, and a gradient where the
    discriminator is sure (Goodfellow et al. 2014, §3)."""
    return AdversarialLosses(F.softplus(-fake).mean(), minimax(real, fake).discriminator)


def least_squares(real: Tensor, fake: Tensor) -> AdversarialLosses:
    """Scores are regressed on 1 for real and 0 for fake (Mao et al. 2017, equation 9)."""
    return AdversarialLosses(
        0.5 * (fake - 1).square().mean(),
        0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean(),
    )


def wasserstein(real: Tensor, fake: Tensor) -> AdversarialLosses:
    """The difference of mean scores. Over scores of slope 1 at most, its maximum is the Wasserstein
    distance of p and q (Arjovsky et al. 2017, §3); `gradient_penalty` keeps the slope there."""
    return AdversarialLosses(-fake.mean(), fake.mean() - real.mean())


def hinge(real: Tensor, fake: Tensor) -> AdversarialLosses:
    """Scores beyond ±1 count no more (Lim and Ye 2017; Miyato et al. 2018, equations 16, 17)."""
    return AdversarialLosses(-fake.mean(), F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def cooperative(real: Tensor, fake: Tensor, weight: float = 1.0) -> AdversarialLosses:
    """A mistake that is found in print: both networks minimise one sum, and nothing is learnt.

    The generator's part is −ln(1 − D(G(z))), which rewards fakes that are found out. The
    discriminator's part is the value itself, which D should maximise. With weight 1 the fakes
    cancel, so the generator has no gradient at all. At any weight D calls everything fake.
    """
    value = F.logsigmoid(real).mean() - F.softplus(fake).mean()
    total = weight * F.softplus(fake).mean() + value
    return AdversarialLosses(total, total)


# --- Penalties on the discriminator's slope -------------------------------------------------------


def input_gradients(discriminator: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of each score with respect to its input, B n, through which D can be trained."""
    x = x.detach().requires_grad_()
    (gradients,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return gradients.flatten(1)


@full_precision
def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor
) -> Tensor:
    """E[ (‖∇D(x̂)‖ − 1)² ] at points x̂ between real and fake, for `wasserstein` (Gulrajani et al.
    2017, §4). mix: shares of real, U(0, 1), which broadcast to B …"""
    between = mix * real + (1 - mix) * fake
    return (input_gradients(discriminator, between).norm(dim=1) - 1).square().mean()


@full_precision
def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """½ E[ ‖∇D(x)‖² ] at real pictures only: at the fixed point D is flat there (Mescheder et al.
    2018, §4.1). Without it, G and D can circle around the fixed point for ever."""
    return 0.5 * input_gradients(discriminator, real).square().sum(1).mean()
