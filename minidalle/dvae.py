"""The discrete VAE: a picture becomes a small grid of codes, and codes become a picture.

    image x ─ encoder ─ logits ─ Gumbel-softmax ─ codes z ─ decoder ─ μ, ln b of every subpixel

It is trained to maximise the evidence lower bound (Ramesh et al. 2021, §2.1):

    ELBO = E_q(z|x)[ ln p(x|z) ] − β KL( q(z|x) ‖ uniform )

The likelihood is the *logit-Laplace* (appendix A.3): the sigmoid of a Laplace variable, whose
density lies inside (0, 1) as pixels do. The network is the paper's, narrower: groups of
convolutional residual blocks, max-pooling down, nearest-neighbour upsampling.

The paper trains for three million updates, we for some thousands. Seven departures make it faster:

- `patch`: p × p pixels are folded into channels before the first convolution and unfolded after the
  last, which saves the groups at full resolution. patch = 1, four widths and three 3×3 convolutions
  per block is the paper's network; patch = 4 and one width is ours: it works on the grid of codes;
- `encoder_num_3x3`: with 0, a code is chosen from its own square alone. Equal squares then have the
  same code wherever they stand, which a prior learns fast; an encoder that looks around gives the
  same ear another code beside another neighbour. The decoder looks one square further per block;
- the residual gain is 1/√n, not 1/n², with which a short training hardly starts;
- the logits are normalised per code over the batch (BatchNorm), so that every code stays in use;
- a bonus for the mutual information of picture and code: without it, noise drowns the first weak
  logits and the posterior collapses to uniform (`information_bonus`). It fades, but not to zero:
  at f = 4 it outweighs the KL weight β / 3 f² to the end, so on balance our KL is rewarded. Codes
  are then certain, which suits a prior; the objective is no longer the plain ELBO;
- `prototypes`, in place of an encoder and of the last two: each code has a prototype, a picture of
  f × f pixels, found by k-means before training and then fixed. The logit of a code is how much a
  square looks like it, its mean colour above all, so all codes are in use from the first step and
  none is lost. The code's vector begins with the prototype, and the decoder corrects it by what
  lies around. Prototypes that are trained on drift towards what training shows: after 4,000 updates
  they alone kept 0.93 of the facts of unseen pairs, and 0.98 before;
- a floor under b, 1 at first and 0.3 at the end: a drawn sky is exact, and an unbounded density
  gains more from its last decimals than from the things in front of it (`min_b_at`).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from einops.layers.torch import Rearrange
from torch import Tensor, nn

from minidalle.errors import MinidalleError, check_fields
from minidalle.quantize import QUANTIZERS, GumbelQuantizer, build_quantizer, fsq_levels, k_means
from minidalle.residual import residual_stack
from minidalle.tensors import full_precision

EPSILON = 0.1  # pixels are mapped to [ε, 1 − ε], where the logit is tame
LOGIT_SCALE = 8.0  # initial standard deviation of a code's logits; at 3 a quarter were never used
FSQ_SCALE = 1.0  # and of FSQ's numbers: normal ones then use their levels nearly equally
SHARPNESS = 15.0  # at first, of the likeness to prototypes: codes are sure, and not yet certain
MEAN_WEIGHT = 2.0  # of a square's mean colour against its shape, where squares are compared: at 1,
# the k-means alone loses a fact of 8 % of the pictures, most often a colour; at 2, of 3 %


@dataclass(frozen=True, kw_only=True)
class DVAEConfig:
    """The shape of a dVAE and the terms of its loss."""

    image_size: int = 48  # pixels across a picture
    codes: int = 512  # K, the size of the codebook (paper: 8192)
    patch: int = 4  # pixels across the squares folded into channels (paper: 1)
    widths: tuple[int, ...] = (160,)  # channels of each group; the grid halves between groups
    blocks: int = 3  # residual blocks in a group (paper: 2)
    encoder_num_3x3: int = 0  # 3×3 convolutions in each block of the encoder (paper: 3)
    decoder_num_3x3: int = 1  # and of the decoder (paper: 3)
    bottleneck: int = 4  # a block's channels divided by those inside it (paper: 4)
    prototypes: bool = False  # codes are the k-means of squares (paper: no)
    code_width: int = 128  # D, dimensions of a code's embedding (fsq: as many as its levels)
    quantizer: str = "gumbel"  # gumbel (the paper's), straight-through, vq or fsq
    beta: float = 6.6  # final weight of the KL term, before the division by 3 f² (paper: 6.6)
    information_bonus: float = 0.3  # per nat of I(picture; code), at the start (paper: none)

    def __post_init__(self) -> None:
        check_fields(
            self, image_size=(1, 4096), codes=(2, 65_536), patch=(1, 256), widths=(4, 65_536),
            blocks=(1, 100), bottleneck=(1, 64), encoder_num_3x3=(0, 3), decoder_num_3x3=(0, 3),
            code_width=(1, 65_536), beta=(0, 1e6), information_bonus=(0, 1e6),
        )  # fmt: skip
        if len(self.widths) > 8:
            raise MinidalleError(f"widths has {len(self.widths)} groups; at most 8")
        if self.prototypes and (
            len(self.widths) > 1
            or self.quantizer in ("vq", "fsq")
            or self.code_width < 3 * self.patch**2
        ):
            raise MinidalleError(
                "prototypes need one width, Gumbel codes and a code_width of at least 3 patch², got"
                f" widths {self.widths}, {self.quantizer!r} and {self.code_width}; change these or"
                " set prototypes to false"
            )
        if self.image_size % self.factor:
            raise MinidalleError(
                f"image_size {self.image_size} is not a multiple of {self.factor}, the pixels of"
                " one code (patch × 2 for every width but the first); change one of the three"
            )
        if self.quantizer not in QUANTIZERS:
            raise MinidalleError(
                f"no quantizer {self.quantizer!r}; choose one of: {', '.join(QUANTIZERS)}"
            )
        if self.quantizer == "fsq":
            fsq_levels(self.codes)  # raises where there are none

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
    entropy: Tensor  # of the mean posterior; ln K when all codes are used equally


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


class DVAE(nn.Module):
    """Images in [0, 1], B 3 H W, to codes, B h w, and back; h = w = H / f."""

    prototypes: Tensor  # K × 3f² in [−1, 1]; only where the config asks for them

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        self.config = config
        p, widths = config.patch, config.widths
        self.quantizer = build_quantizer(config.quantizer, config.codes, config.code_width)
        stem = 1 if config.encoder_num_3x3 == 0 else 7 if p == 1 else 3
        shape = {"blocks": config.blocks, "bottleneck": config.bottleneck}
        fold = Rearrange("b c (h p) (w q) -> b (c p q) h w", p=p, q=p)
        if config.prototypes:
            self.encoder: nn.Module = fold
            self.register_buffer("prototypes", torch.zeros(config.codes, 3 * p * p))
            self.log_sharpness = nn.Parameter(torch.tensor(math.log(SHARPNESS)))
        else:
            norm = nn.BatchNorm2d(self.quantizer.features)
            scale = FSQ_SCALE if config.quantizer == "fsq" else LOGIT_SCALE
            nn.init.constant_(norm.weight, scale)
            self.encoder = nn.Sequential(
                fold,
                nn.Conv2d(3 * p * p, widths[0], stem, padding=stem // 2),
                residual_stack(widths, num_3x3=config.encoder_num_3x3, up=False, **shape),
                nn.Conv2d(widths[-1], self.quantizer.features, 1),
                norm,
            )
        self.decoder = nn.Sequential(
            nn.Conv2d(self.quantizer.width, widths[-1], 1),
            residual_stack(widths[::-1], num_3x3=config.decoder_num_3x3, up=True, **shape),
            nn.Conv2d(widths[0], 6 * p * p, 1),
            Rearrange("b (c p q) h w -> b c (h p) (w q)", p=p, q=p),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    @torch.no_grad()
    def set_prototypes(self, images: Tensor) -> None:
        """Let the codes be the k-means of the squares of images, B 3 H W in [0, 1]."""
        squares = self.encoder(2 * images - 1).movedim(1, -1).flatten(0, 2)
        squares, counts = squares.unique(dim=0, return_counts=True)
        if len(squares) < self.config.codes:  # fewer squares than codes: some codes are equal
            repeats = -(-self.config.codes // len(squares))
            squares, counts = squares.repeat(repeats, 1), counts.repeat(repeats)
        # Weighed by how often they occur, nearly all codes would be sky; each weighed alike, none.
        centres = k_means(_weigh_mean(squares), counts.float().sqrt(), self.config.codes)
        self.prototypes.copy_(_weigh_mean(centres, 1 / MEAN_WEIGHT))
        assert isinstance(self.quantizer, GumbelQuantizer)
        self.quantizer.codebook[:, : self.prototypes.shape[1]] = self.prototypes
        last = self.decoder.get_submodule("2")
        assert isinstance(last, nn.Conv2d)
        last.weight.mul_(0.1)  # so that pictures begin as their prototypes

    def features(self, images: Tensor) -> Tensor:
        """What a cell's code is chosen by: images in [0, 1], B 3 H W → B K h w logits, or B D h w
        features for VQ and FSQ."""
        if not self.config.prototypes:
            return self.encoder(2 * images - 1)
        squares = _weigh_mean(self.encoder(2 * images - 1).movedim(1, -1))
        c = _weigh_mean(self.prototypes)
        likeness = 2 * squares @ c.T - (c**2).sum(1)  # −|square − c|², up to a constant
        return (self.log_sharpness.exp() * likeness).movedim(-1, 1)

    @full_precision  # codes must not depend on the caller's autocast
    def encode(self, images: Tensor) -> Tensor:
        """The codes of images: B 3 H W in [0, 1] → B h w, int64."""
        return self.quantizer.codes(self.features(images))

    def decode(self, codes: Tensor) -> Tensor:
        """The images of codes: B h w → B 3 H W in [0, 1]."""
        mu, _ = self._likelihood(self.quantizer.embed(codes))
        return from_unit(torch.sigmoid(mu))

    def _likelihood(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """μ and the spread of the pixels, B 3 H W each, from code vectors, B D h w."""
        mu, spread = self.decoder(vectors).float().chunk(2, dim=1)
        if self.config.prototypes:
            f = self.config.factor
            looks = rearrange(vectors[:, : 3 * f * f], "b (c p q) h w -> b c (h p) (w q)", p=f, q=f)
            mu = mu + torch.logit(to_unit((looks.float() + 1) / 2), eps=EPSILON / 2)
        return mu, spread

    @torch.no_grad()
    def looks(self) -> Tensor:
        """What each code looks like: the middle of a 3 × 3 grid of itself, K × 3f²."""
        codes = torch.arange(self.config.codes, device=next(self.parameters()).device)
        f = self.config.factor
        looks = [self.decode(c[:, None, None].expand(-1, 3, 3)) for c in codes.split(256)]
        return torch.cat(looks)[:, :, f : 2 * f, f : 2 * f].flatten(1)

    def forward(self, images: Tensor, tau: float = 1 / 16, progress: float = 1.0) -> DVAELosses:
        """The losses on a batch. progress: 0..1 through training; sets β, the bonus and min b."""
        x = to_unit(images)
        z = self.quantizer(self.features(images), tau)
        mu, spread = self._likelihood(z.vectors)
        ln_b = math.log(min_b_at(progress)) + F.softplus(spread)
        nll = logit_laplace_nll(x, mu, ln_b).mean()
        c = self.config
        # The paper divides the loss by H · W · 3, so a code's KL is divided by its 3 f² subpixels.
        kl_weight = beta_at(progress, c.beta) / (3 * c.factor**2)
        # I(picture; code) = H(mean q) − mean H(q) = entropy + kl − ln K: the bonus is for both.
        # The bonus for the entropy of the mean posterior fades further than that for certainty:
        # with equal use most codes would go to the sky, which fills most of a picture.
        bonus = c.information_bonus
        fade = 1 - progress / BONUS_FADE_SHARE
        certainty_bonus, spread_bonus = bonus * max(0.6, fade), bonus * max(0.3, fade)
        total = nll + (kl_weight - certainty_bonus) * z.kl - spread_bonus * z.entropy + z.commitment
        return DVAELosses(total, nll, z.kl, z.entropy)


def _weigh_mean(squares: Tensor, weight: float = MEAN_WEIGHT) -> Tensor:
    """Squares, … 3f², with their mean red, green and blue multiplied by `weight`, and the
    differences from these means as they are."""
    channels = squares.unflatten(-1, (3, -1))
    return (channels + (weight - 1) * channels.mean(-1, keepdim=True)).flatten(-2)


# --- Schedules (§2.1): the paper's values and shapes, stretched over any number of steps ----------


def cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine wave from `start` to `end` as progress goes from 0 to 1."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))


TAU_ANNEAL_SHARE = 0.45  # share of training after which τ has its final value
BONUS_FADE_SHARE = 0.6  # and after which the information bonus has


def tau_at(progress: float) -> float:
    """τ: 1 → 1/16 over the first 45 % of training, then held. (A linear schedule diverged.)"""
    return cosine(1.0, 1 / 16, progress / TAU_ANNEAL_SHARE)


def min_b_at(progress: float) -> float:
    """The floor under b: 1 while codes find their use, then 0.3 for sharper colours."""
    return cosine(1.0, 0.3, (progress - 0.6) / 0.3)


def beta_at(progress: float, beta: float = 6.6) -> float:
    """β: 0 → 6.6 over the first tenth of training, then held."""
    return cosine(0.0, beta, progress / 0.1)
