"""A game in one dimension: real numbers lie near −2 and +2, and a generator should find both.

    fakes = play(non_saturating).fakes           half of them near −2, half near +2
    fakes = play(cooperative).fakes              all of them near one point between

Both networks are small MLPs. They are updated at once, each by the gradient of its own loss.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minidalle.baselines.adversarial import AdversarialLosses

MODE, SPREAD = 2.0, 0.1  # real numbers are ±MODE, with this standard deviation around
NEAR = 0.7  # from a mode: a fake so near has found it
NOISE = 4  # dimensions of the generator's noise
Penalty = Callable[[nn.Module, Tensor, Tensor], Tensor]  # (discriminator, real, fake) → scalar


class Played(NamedTuple):
    """What has become of both networks."""

    fakes: Tensor  # n
    real_scores: Tensor  # n, of fresh real numbers
    fake_scores: Tensor  # n
    positive: list[float]  # after every tenth step, the share of fakes above 0


def real_numbers(n: int) -> Tensor:
    """n numbers of the world, n 1."""
    return MODE * (2.0 * torch.randint(2, (n, 1)) - 1) + SPREAD * torch.randn(n, 1)


def near_modes(fakes: Tensor) -> tuple[float, float]:
    """The shares of fakes near −2 and near +2: ½ each where both modes are found."""
    low, high = (((fakes - mode).abs() < NEAR).float().mean().item() for mode in (-MODE, MODE))
    return low, high


def mlp(c_in: int, width: int = 32) -> nn.Sequential:
    """B c_in → B 1."""
    return nn.Sequential(
        nn.Linear(c_in, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2),
        nn.Linear(width, 1),
    )  # fmt: skip


def two_mlps() -> tuple[nn.Module, nn.Module]:
    """A generator, B NOISE → B 1, and a discriminator, B 1 → B 1."""
    return mlp(NOISE), mlp(1)


def play(
    losses: Callable[[Tensor, Tensor], AdversarialLosses],
    penalty: Penalty | None = None,
    steps: int = 1000,
    seed: int = 0,
    discriminator_every: int = 1,
    networks: Callable[[], tuple[nn.Module, nn.Module]] = two_mlps,
) -> Played:
    """Train a generator and a discriminator with a pair of losses of `baselines.adversarial`.

    penalty: added to the discriminator's loss; discriminator_every: steps between two of its
    updates. The caller's random numbers stay as they are.
    """
    positive = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, discriminator = pair = networks()
        optimizers = [torch.optim.Adam(n.parameters(), 3e-3, betas=(0.0, 0.99)) for n in pair]
        for step in range(steps):
            real, fake = real_numbers(64), generator(torch.randn(64, NOISE))
            own = losses(discriminator(real), discriminator(fake))
            if penalty is not None:
                extra = penalty(discriminator, real, fake.detach())
                own = own._replace(discriminator=own.discriminator + extra)
            for network, loss in zip(pair, own, strict=True):
                parameters = list(network.parameters())
                gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
                for p, gradient in zip(parameters, gradients, strict=True):
                    p.grad = gradient
            is_both = step % discriminator_every == 0
            for optimizer in optimizers if is_both else optimizers[:1]:
                optimizer.step()
            if step % 10 == 0:
                positive.append((fake > 0).float().mean().item())
        with torch.no_grad():
            fake, real = generator(torch.randn(1000, NOISE)), real_numbers(1000)
            scores = discriminator(real)[:, 0], discriminator(fake)[:, 0]
            return Played(fake[:, 0], *scores, positive)
