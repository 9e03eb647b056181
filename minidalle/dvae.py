"""The discrete VAE: a picture becomes a small grid of codes, and codes become a picture.

    image x ─ encoder ─ logits ─ Gumbel-softmax ─ codes z ─ decoder ─ μ, ln b of every subpixel

It is trained to make the evidence lower bound large (Ramesh et al. 2021, §2.1):

    ELBO = E_q(z|x)[ ln p(x|z) ] − β KL( q(z|x) ‖ uniform )

The likelihood is the *logit-Laplace* (appendix A.3): a Laplace density squeezed into (0, 1) by a
sigmoid, so that no probability falls where no pixel can be. The network is the paper's, narrower:
convolutional residual blocks in groups, max-pooling down, nearest-neighbour up.

The paper trains for three million updates, we for some thousands. Six departures buy the speed:

- `patch`: p × p pixels are folded into channels before the first convolution and unfolded after the
  last, which saves the groups at full resolution. patch = 1, four widths and sight 3 both ways is
  the paper's network; patch = 4 and one width is ours: all its work is done on the grid of codes;
- `encoder_sight`: with 0, a code is chosen from its own square alone. Equal squares then have equal
  codes wherever they stand, which is what a prior learns fast; one that looks around gives the
  same ear another code beside another neighbour. The decoder looks one square further a block;
- the residual gain is 1/√n, not 1/n²: with the latter a short training ends before it begins;
- the logits are normalised code by code over the batch, so that every code stays in play;
- a bonus for the information that codes carry: without it, noise drowns the first faint logits and
  the posterior collapses to uniform (`information_bonus`). It fades, but not to nothing: at f = 4
  it outweighs the charge β / 3 f² to the end, so that on balance our KL is paid for. Codes are
  then certain, as a prior likes them; that is no longer the plain ELBO;
- a floor under b, 1 at first and 0.3 in the end: a drawn sky is exact, and an unbounded density
  pays more for its millionth decimal than for the things in front of it (`least_b_at`).
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops.layers.torch import Rearrange
from torch import Tensor, nn

from minidalle.errors import MinidalleError
from minidalle.quantize import GumbelQuantizer, VectorQuantizer

EPSILON = 0.1  # pixels are mapped to [ε, 1 − ε], where the logit is tame
LOGIT_SCALE = 8.0  # standard deviation of a code's logits at the start: at 3 a quarter never won
QUANTIZERS = ("gumbel", "straight-through", "vq")


@dataclass(frozen=True, kw_only=True)
class DVAEConfig:
    """The shape of a dVAE and the terms of its loss."""

    image_size: int = 48  # pixels across a picture
    codes: int = 512  # K, the size of the codebook (paper: 8192)
    patch: int = 4  # pixels across what is folded into channels (paper: 1)
    widths: tuple[int, ...] = (160,)  # channels of each group; the grid halves between groups
    blocks: int = 3  # residual blocks in a group (paper: 2)
    encoder_sight: int = 0  # 3×3 convolutions in each block of the encoder (paper: 3)
    decoder_sight: int = 1  # and of the decoder (paper: 3)
    code_width: int = 128  # D, the length of a code's vector
    quantizer: str = "gumbel"  # gumbel (the paper's), straight-through, or vq
    beta: float = 6.6  # final weight of the KL term, before the division by 3 f² (paper: 6.6)
    information_bonus: float = 0.3  # per nat of I(picture; code), at the start (paper: none)

    def __post_init__(self) -> None:
        if self.image_size % self.factor:
            raise MinidalleError(
                f"image_size {self.image_size} is no multiple of {self.factor}, what one code"
                " covers (patch × 2 for every width but the first): change one of the three"
            )
        if not (0 <= self.encoder_sight <= 3 and 0 <= self.decoder_sight <= 3):
            raise MinidalleError("encoder_sight and decoder_sight: 0 to 3 convolutions of a block")
        if self.quantizer not in QUANTIZERS:
            raise MinidalleError(f"quantizer {self.quantizer!r}: choose of {', '.join(QUANTIZERS)}")

    @property
    def factor(self) -> int:
        """f: pixels across the square that one code stands for."""
        return self.patch * 2 ** (len(self.widths) - 1)

    @property
    def grid(self) -> int:
        """Codes across a picture."""
        return self.image_size // self.factor


class DVAELosses(NamedTuple):
    """The loss and its parts; every part is a scalar in nats."""

    total: Tensor
    nll: Tensor  # −ln p(x|z), mean over subpixels
    kl: Tensor  # KL(q ‖ uniform), mean over positions
    entropy: Tensor  # of the mean posterior: ln K when all codes serve equally


# --- Likelihood -----------------------------------------------------------------------------------


def to_unit(x: Tensor) -> Tensor:
    """Map pixels in [0, 1] to [ε, 1 − ε]."""
    return (1 - 2 * EPSILON) * x + EPSILON


def from_unit(x: Tensor) -> Tensor:
    """The inverse of `to_unit`, clamped to [0, 1]."""
    return ((x - EPSILON) / (1 - 2 * EPSILON)).clamp(0, 1)


def logit_laplace_nll(x: Tensor, mu: Tensor, ln_b: Tensor) -> Tensor:
    """−ln of the logit-Laplace density of x in (0, 1), elementwise (appendix A.3, equation 2).

    f(x | μ, b) = 1 / (2 b x (1 − x)) · exp( −|logit(x) − μ| / b )
    """
    return (
        math.log(2) + ln_b + x.log() + (1 - x).log() + (torch.logit(x) - mu).abs() * (-ln_b).exp()
    )


# --- Network --------------------------------------------------------------------------------------


class Block(nn.Module):
    """x + gain · path(x): ReLU before each of four convolutions, `sight` of them 3×3, the rest 1×1.

    The paper has sight = 3 (appendix A.1). `gain` is 1/√n with n the number of blocks, so that
    their sum is no larger than one alone.
    """

    def __init__(self, c_in: int, c_out: int, gain: float, sight: int, up: bool) -> None:
        super().__init__()
        hidden = c_out // 4
        kernels = (1, *[3] * sight, *[1] * (3 - sight))  # a 1×1 stands next to the bottleneck
        kernels = kernels if up else kernels[::-1]
        sizes = (c_in, hidden, hidden, hidden, c_out)
        self.path = nn.Sequential()
        for kernel, (a, b) in zip(kernels, pairwise(sizes), strict=True):
            self.path.extend([nn.ReLU(), nn.Conv2d(a, b, kernel, padding=kernel // 2)])
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.gain * self.path(x)


def groups(widths: tuple[int, ...], blocks: int, sight: int, up: bool) -> nn.Sequential:
    """Residual blocks at each width, the grid halved (or doubled) between two widths."""
    gain = (len(widths) * blocks) ** -0.5
    layers, c_in = [], widths[0]
    for i, width in enumerate(widths):
        if i:
            layers.append(nn.Upsample(scale_factor=2) if up else nn.MaxPool2d(2))
        for _ in range(blocks):
            layers.append(Block(c_in, width, gain, sight, up))
            c_in = width
    return nn.Sequential(*layers, nn.ReLU())


class DVAE(nn.Module):
    """Images in [0, 1], B 3 H W, to codes, B h w, and back; h = w = H / f."""

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        self.config = config
        p, widths, width = config.patch, config.widths, config.code_width
        if config.quantizer == "vq":
            self.quantizer = VectorQuantizer(config.codes, width)
        else:
            hard = config.quantizer == "straight-through"
            self.quantizer = GumbelQuantizer(config.codes, width, hard)
        stem = 1 if config.encoder_sight == 0 else 7 if p == 1 else 3
        self.encoder = nn.Sequential(
            Rearrange("b c (h p) (w q) -> b (c p q) h w", p=p, q=p),
            nn.Conv2d(3 * p * p, widths[0], stem, padding=stem // 2),
            groups(widths, config.blocks, config.encoder_sight, up=False),
            nn.Conv2d(widths[-1], self.quantizer.features, 1),
            nn.BatchNorm2d(self.quantizer.features),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(width, widths[-1], 1),
            groups(widths[::-1], config.blocks, config.decoder_sight, up=True),
            nn.Conv2d(widths[0], 6 * p * p, 1),
            Rearrange("b (c p q) h w -> b c (h p) (w q)", p=p, q=p),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        nn.init.constant_(self.encoder[-1].weight, LOGIT_SCALE)

    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)  # the codes of a picture must not depend on who asks
    def encode(self, images: Tensor) -> Tensor:
        """The codes of images: B 3 H W in [0, 1] → B h w, int64."""
        return self.quantizer.codes(self.encoder(2 * images - 1))

    def decode(self, codes: Tensor) -> Tensor:
        """The images of codes: B h w → B 3 H W in [0, 1]."""
        mu, _ = self.decoder(self.quantizer.embed(codes)).float().chunk(2, dim=1)
        return from_unit(torch.sigmoid(mu))

    def forward(self, images: Tensor, tau: float = 1 / 16, progress: float = 1.0) -> DVAELosses:
        """The losses on a batch. `progress`: 0..1 through training, which sets β and the bonus."""
        x = to_unit(images)
        z = self.quantizer(self.encoder(2 * images - 1), tau)
        mu, spread = self.decoder(z.vectors).float().chunk(2, dim=1)
        ln_b = math.log(least_b_at(progress)) + F.softplus(spread)
        nll = logit_laplace_nll(x, mu, ln_b).mean()
        c = self.config
        # The paper divides the loss by H · W · 3: a code's KL is shared by its 3 f² subpixels.
        price = beta_at(progress, c.beta) / (3 * c.factor**2)
        # I(picture; code) = H(mean q) − mean H(q) = entropy + kl − ln K: the bonus is for both.
        # It fades, the bonus for spread further than that for certainty: codes that serve the sky
        # as often as it fills the picture are lost to the things in front of it.
        bonus = c.information_bonus
        certain, spread_out = (bonus * max(least, 1 - progress / FADED) for least in (0.6, 0.3))
        total = nll + (price - certain) * z.kl - spread_out * z.entropy + z.commitment
        return DVAELosses(total, nll, z.kl, z.entropy)


# --- Schedules (§2.1): the paper's ends and shapes, stretched over any number of steps ------------


def cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine wave from `start` to `end` as progress goes from 0 to 1."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))


ANNEALED = 0.45  # share of training after which τ is at its end
FADED = 0.6  # and after which the information bonus is


def tau_at(progress: float) -> float:
    """τ: 1 → 1/16 over the first 45 % of training, then held. (A linear schedule diverged.)"""
    return cosine(1.0, 1 / 16, progress / ANNEALED)


def least_b_at(progress: float) -> float:
    """The floor under b: 1 while the codes are shared out, then 0.3 for sharper colours."""
    return cosine(1.0, 0.3, (progress - 0.6) / 0.3)


def beta_at(progress: float, beta: float = 6.6) -> float:
    """β: 0 → 6.6 over the first tenth of training, then held."""
    return cosine(0.0, beta, progress / 0.1)
