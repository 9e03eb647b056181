"""From vectors to codes: five ways to put a discrete choice inside a network.

An encoder gives every cell of a grid some features. A quantiser picks one of K codes for it and
gives the decoder that code's vector. Picking is an argmax, which has no gradient, so each quantiser
below is another way to train through it:

    argmax             codes = argmax_k logits_k                  no gradient; for inference only
    Gumbel-softmax     y = softmax((logits + g) / τ),  g ~ Gumbel(0, 1)      soft, exact as τ → 0
    straight-through   one-hot of argmax y forwards, y backwards             hard, biased gradient
    VQ with EMA        the nearest codebook vector; codebook = running mean of what chose it
    FSQ                each of a few numbers bounded and rounded; the codebook is a fixed grid

`k_means` finds a codebook without a network, and is where one may begin.

Shapes: B batch, K codebook, D width, h w grid. DALL·E trains with Gumbel-softmax and uses argmax
(Ramesh et al. 2021, §2.1); Gumbel-softmax: Jang et al. 2017; VQ: van den Oord et al. 2017; FSQ:
Mentzer et al. 2023.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, combinations_with_replacement
from operator import mul
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minidalle.errors import MinidalleError
from minidalle.tensors import full_precision


class Quantized(NamedTuple):
    """The output of every quantiser."""

    vectors: Tensor  # B D h w, for the decoder
    codes: Tensor  # B h w, int64 in 0..K-1
    kl: Tensor  # mean over positions of KL(q ‖ uniform), nats; ln K where q is one-hot
    entropy: (
        Tensor  # of the posterior averaged over batch and grid, nats; high when all codes are used
    )
    commitment: Tensor  # mean squared distance of features to their code (VQ only, else 0)


def gumbel_noise(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """g = −ln(−ln u), u ~ U(0, 1): then argmax(logits + g) is a sample of softmax(logits)."""
    u = torch.rand(like.shape, generator=generator, device=like.device, dtype=torch.float32)
    return u.clamp_(1e-20, 1 - 1e-7).log_().neg_().log_().neg_()  # in place: it is a large array


def gumbel_softmax(
    logits: Tensor, tau: float, generator: torch.Generator | None = None, dim: int = 1
) -> Tensor:
    """A relaxed one-hot sample of softmax(logits); one-hot as τ → 0, uniform as τ → ∞."""
    return torch.softmax((logits + gumbel_noise(logits, generator)) / tau, dim)


def straight_through(soft: Tensor, dim: int = 1) -> Tensor:
    """The straight-through estimator: the one-hot of the maximum, with the gradient of `soft`."""
    hard = F.one_hot(soft.argmax(dim), soft.shape[dim]).movedim(-1, dim).to(soft.dtype)
    return hard + (soft - soft.detach())  # the bracket is exactly zero


class GumbelQuantizer(nn.Module):
    """Features are K logits; the decoder sees a mixture of code vectors that sharpens as τ falls.

    hard: straight-through, so the decoder sees one code even in training.
    """

    def __init__(self, codes: int, width: int, hard: bool = False) -> None:
        super().__init__()
        self.features, self.width, self.hard = codes, width, hard
        self.codebook = nn.Parameter(torch.randn(codes, width))  # K D

    def forward(self, logits: Tensor, tau: float) -> Quantized:
        """Logits B K h w to code vectors B D h w: mixtures at this τ in training, else argmax."""
        logits = rearrange(logits.float(), "b k h w -> b h w k")  # K last: no copies
        log_q = F.log_softmax(logits, dim=-1)
        q = log_q.exp()
        kl = (q * log_q).sum(-1).mean() + math.log(logits.shape[-1])
        mean_q = q.mean((0, 1, 2))
        entropy = -(mean_q * (mean_q + 1e-12).log()).sum()
        codes = logits.argmax(-1)
        if self.training:
            y = gumbel_softmax(logits, tau, dim=-1)
            y = straight_through(y, dim=-1) if self.hard else y
            vectors = rearrange(y @ self.codebook, "b h w d -> b d h w")
        else:
            vectors = self.embed(codes)
        return Quantized(vectors, codes, kl, entropy, logits.new_zeros(()))

    def codes(self, logits: Tensor) -> Tensor:
        """The most probable code of each cell: B K h w → B h w."""
        return logits.argmax(1)

    def sample(self, logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Codes sampled from q instead (the paper's footnote 6 trains the prior on these)."""
        return (logits.float() + gumbel_noise(logits, generator)).argmax(1)

    def embed(self, codes: Tensor) -> Tensor:
        """B h w → B D h w."""
        return rearrange(F.embedding(codes, self.codebook), "b h w d -> b d h w")


class VectorQuantizer(nn.Module):
    """Features are D numbers; the code is the nearest codebook vector.

    The codebook is no parameter: each vector follows the running mean of the features that chose
    it (decay `decay`). A code used less than 1/30 as often as average is re-initialised to a
    feature of the batch, which is the cure for collapse here.
    """

    codebook: Tensor  # K D
    counts: Tensor  # K, running mean of how often each code is chosen; 1 is average
    sums: Tensor  # K D, running mean of the features that chose each code

    def __init__(self, codes: int, width: int, decay: float = 0.99) -> None:
        super().__init__()
        self.features, self.width, self.decay = width, width, decay
        start = torch.randn(codes, width)
        self.register_buffer("codebook", start)
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("sums", start.clone())

    @full_precision
    def forward(self, features: Tensor, tau: float = 0.0) -> Quantized:
        """Features B D h w to the nearest code vectors, B D h w; τ is not used."""
        features = features.float()
        codes = self.codes(features)
        chosen = self.embed(codes)  # before the codebook moves on
        share = torch.bincount(codes.flatten(), minlength=len(self.codebook)) / codes.numel()
        if self.training:
            self.update_codebook(
                rearrange(features.detach(), "b d h w -> (b h w) d"), codes.flatten()
            )
        commitment = F.mse_loss(features, chosen.detach())
        vectors = features + (chosen - features).detach()
        entropy = -(share * (share + 1e-12).log()).sum()
        kl = features.new_tensor(math.log(len(self.codebook)))
        return Quantized(vectors, codes, kl, entropy, commitment)

    @torch.no_grad()
    def update_codebook(self, flat: Tensor, codes: Tensor) -> None:
        """Move the running means by one batch: features, n D, and the codes they chose, n."""
        average = len(flat) / len(self.codebook)  # cells per code
        choice = F.one_hot(codes, len(self.codebook)).float() / average  # cells K
        self.counts.lerp_(choice.sum(0), 1 - self.decay)
        self.sums.lerp_(choice.T @ flat, 1 - self.decay)
        dead = self.counts < 1 / 30
        restarted = flat[torch.randint(len(flat), (int(dead.sum()),), device=flat.device)]
        self.counts[dead], self.sums[dead] = 1.0, restarted
        self.codebook.copy_(self.sums / self.counts[:, None])

    @full_precision  # distances in half precision choose wrong neighbours
    def codes(self, features: Tensor) -> Tensor:
        """The nearest code of each cell: B D h w → B h w."""
        flat = rearrange(features.float(), "b d h w -> b h w d")
        return (flat.square().sum(-1, keepdim=True) - 2 * flat @ self.codebook.T
                + self.codebook.square().sum(-1)).argmin(-1)  # fmt: skip

    def sample(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Deterministic: the nearest vector, the same as `codes`."""
        return self.codes(features)

    def embed(self, codes: Tensor) -> Tensor:
        """B h w → B D h w."""
        return rearrange(F.embedding(codes, self.codebook), "b h w d -> b d h w")


class FiniteScalarQuantizer(nn.Module):
    """Features are d numbers; each is bounded and rounded to one of L levels.

        n_i = round((L_i − 1) (tanh h_i + 1) / 2)  in 0..L_i − 1,      k = Σ n_i ∏_{j<i} L_j

    The decoder sees the d levels, spread from −1 to 1. The codebook is this grid of K = ∏ L_i
    points: nothing of it is learned, so nothing can die, and no term of the loss must keep codes in
    use. (The paper, §3.1, rounds around zero and shifts even L by a half: as many levels.)
    """

    levels: Tensor  # d, each at least 2
    strides: Tensor  # d, the product of the levels before each

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.features = self.width = len(levels)
        strides = list(accumulate(levels, mul, initial=1))
        self.size = strides.pop()  # K
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("strides", torch.tensor(strides), persistent=False)

    def forward(self, features: Tensor, tau: float = 0.0) -> Quantized:
        """Features B d h w to points of the grid, B d h w in [−1, 1]; τ is not used."""
        n = self._bound(features)
        vectors = self._spread(n.round() + (n - n.detach()))  # straight-through
        codes = self.codes(features)
        share = torch.bincount(codes.flatten(), minlength=self.size) / codes.numel()
        entropy = -(share * (share + 1e-12).log()).sum()
        kl = vectors.new_tensor(math.log(self.size))
        return Quantized(vectors, codes, kl, entropy, vectors.new_zeros(()))

    def codes(self, features: Tensor) -> Tensor:
        """The code of the point that each cell is rounded to: B d h w → B h w."""
        return (self._bound(features).round().long() * self.strides[:, None, None]).sum(1)

    def sample(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Deterministic: the same as `codes`."""
        return self.codes(features)

    def embed(self, codes: Tensor) -> Tensor:
        """The points of codes, B h w → B d h w: the digits of k, the first one fastest."""
        n = codes[:, None] // self.strides[:, None, None] % self.levels[:, None, None]
        return self._spread(n.float())

    def _bound(self, features: Tensor) -> Tensor:
        """Any number to one between 0 and L − 1."""
        return (self.levels - 1)[:, None, None] * (torch.tanh(features.float()) + 1) / 2

    def _spread(self, n: Tensor) -> Tensor:
        """Levels 0..L − 1 to numbers from −1 to 1."""
        return 2 * n / (self.levels - 1)[:, None, None] - 1


def fsq_levels(codes: int) -> tuple[int, ...]:
    """Levels whose product is `codes`: the fewest, of 2 to 8 each, and then the most alike.

    512 → (8, 8, 8); 240 → (8, 6, 5). Raises MinidalleError where there are none.
    """
    for d in range(1, 17):
        choices = combinations_with_replacement(range(8, 1, -1), d)
        if found := [levels for levels in choices if math.prod(levels) == codes]:
            return min(found, key=lambda levels: levels[0] - levels[-1])
    raise MinidalleError(
        f"{codes} codes are no product of levels from 2 to 8; choose a power of 2, such as 512"
    )


# --- All of them ----------------------------------------------------------------------------------

Quantizer = GumbelQuantizer | VectorQuantizer | FiniteScalarQuantizer
QUANTIZERS = ("gumbel", "straight-through", "vq", "fsq")


def build_quantizer(kind: str, codes: int, width: int) -> Quantizer:
    """The quantiser of this name, one of QUANTIZERS. FSQ chooses a width of its own."""
    if kind == "fsq":
        return FiniteScalarQuantizer(fsq_levels(codes))
    if kind == "vq":
        return VectorQuantizer(codes, width)
    return GumbelQuantizer(codes, width, hard=kind == "straight-through")


class Usage(NamedTuple):
    """Codebook usage, from counts of hard codes over a whole epoch."""

    used: float  # share of the K codes that occur
    perplexity: float  # exp of the entropy of the code frequencies: K when all are equally frequent


def usage(counts: Tensor) -> Usage:
    """counts: K occurrences, over an epoch: the perplexity of one batch depends on its size."""
    p = counts.double() / counts.sum()
    entropy = -(p[p > 0] * p[p > 0].log()).sum()
    return Usage((counts > 0).double().mean().item(), entropy.exp().item())


def k_means(points: Tensor, weights: Tensor, k: int, seed: int = 0, rounds: int = 8) -> Tensor:
    """k centres of n weighted points, n D and n → k D.

    Lloyd's algorithm: k of the points by chance, then each centre becomes the mean of the points
    that are nearest to it, and over again.
    """
    generator = torch.Generator().manual_seed(seed)
    centres = points[torch.multinomial(weights.cpu(), k, generator=generator).to(points.device)]
    for _ in range(rounds):
        nearest = torch.cat([torch.cdist(p, centres).argmin(1) for p in points.split(8192)])
        sums = torch.zeros_like(centres).index_add_(0, nearest, points * weights[:, None])
        mass = torch.zeros_like(centres[:, 0]).index_add_(0, nearest, weights)[:, None]
        centres = torch.where(mass > 0, sums / mass.clamp(min=1e-9), centres)
    return centres
