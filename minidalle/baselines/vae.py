"""The Gaussian VAE (Kingma and Welling 2014): a picture becomes a point in a continuous space.

    encoder     q(z|x) = N( μ(x), σ(x)² )
    sample      z = μ + σ · ε,   ε ~ N(0, 1)                      (reparameterisation, §2.4)
    decoder     p(x|z) = N( decode(z), s² )                        s is fixed
    ELBO        E_q[ ln p(x|z) ] − KL( q(z|x) ‖ N(0, 1) )  ≤  ln p(x)

where KL = ½ Σ ( μ² + σ² − 1 − ln σ² ), which is never negative (appendix B).

DALL·E's dVAE keeps all of this and changes one thing: z is a grid of discrete codes.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops.layers.torch import Rearrange
from torch import Tensor, nn

from minidalle.errors import MinidalleError, check_fields
from minidalle.residual import residual_stack


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """The shape of a Gaussian VAE."""

    image_size: int = 48  # pixels across a picture
    latent: int = 32  # L, dimensions of z
    patch: int = 8  # pixels across the squares folded into channels
    width: int = 192  # channels on the grid
    blocks: int = 2  # residual blocks each way
    noise: float = 0.1  # s, the decoder's standard deviation; pixels are in [0, 1]
    beta: float = 1.0  # weight of the KL term; 1 is the ELBO (Higgins et al. 2017 raise it)

    def __post_init__(self) -> None:
        check_fields(
            self, image_size=(1, 4096), latent=(1, 65_536), patch=(1, 4096), width=(4, 65_536),
            blocks=(1, 100), noise=(1e-6, 1e6), beta=(0, 1e6),
        )  # fmt: skip
        if self.image_size % self.patch:
            raise MinidalleError(
                f"image_size {self.image_size} is not a multiple of patch {self.patch}; change one"
            )


class VAELosses(NamedTuple):
    """Scalars in nats, means over the batch, per picture."""

    total: Tensor
    nll: Tensor  # −E_q[ ln p(x|z) ], estimated with one sample
    kl: Tensor  # KL( q(z|x) ‖ N(0, 1) )


def reparameterise(mu: Tensor, ln_var: Tensor, noise: Tensor) -> Tensor:
    """A sample of N(μ, σ²) through which gradients reach μ and σ; `noise` is N(0, 1)."""
    return mu + (0.5 * ln_var).exp() * noise


def gaussian_kl(mu: Tensor, ln_var: Tensor) -> Tensor:
    """KL( N(μ, σ²) ‖ N(0, 1) ), elementwise, in nats."""
    return 0.5 * (mu.square() + ln_var.exp() - 1 - ln_var)


def gaussian_nll(x: Tensor, mean: Tensor, scale: float) -> Tensor:
    """−ln N(x; mean, scale²), elementwise, in nats."""
    return 0.5 * ((x - mean) / scale).square() + math.log(scale * math.sqrt(2 * math.pi))


class VAE(nn.Module):
    """Images in [0, 1], B 3 H W, to points, B L, and back."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = c = config
        grid = c.image_size // c.patch
        flat = c.width * grid**2
        self.encoder = nn.Sequential(
            Rearrange("b c (h p) (w q) -> b (c p q) h w", p=c.patch, q=c.patch),
            nn.Conv2d(3 * c.patch**2, c.width, 3, padding=1),
            residual_stack((c.width,), c.blocks, num_3x3=3, up=False),
            nn.Flatten(),
            nn.Linear(flat, 2 * c.latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(c.latent, flat),
            nn.Unflatten(1, (c.width, grid, grid)),
            residual_stack((c.width,), c.blocks, num_3x3=3, up=True),
            nn.Conv2d(c.width, 3 * c.patch**2, 1),
            Rearrange("b (c p q) h w -> b c (h p) (w q)", p=c.patch, q=c.patch),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of images: μ and ln σ², B L each."""
        return self.encoder(2 * images - 1).float().chunk(2, dim=1)

    def decode(self, z: Tensor) -> Tensor:
        """The mean of p(x|z): B L → B 3 H W."""
        return torch.sigmoid(self.decoder(z).float())

    def forward(self, images: Tensor) -> VAELosses:
        """The losses on a batch."""
        mu, ln_var = self.encode(images)
        z = reparameterise(mu, ln_var, torch.randn_like(mu))
        nll = gaussian_nll(images, self.decode(z), self.config.noise).sum((1, 2, 3)).mean()
        kl = gaussian_kl(mu, ln_var).sum(1).mean()
        # Divided by the number of subpixels, so that the learning rate need not know the size.
        return VAELosses((nll + self.config.beta * kl) / images[0].numel(), nll, kl)
