"""The networks of unCLIP: two that predict data from noisy data, and one that reads captions.

The denoisers are a transformer for pictures and an MLP for vectors. Both have a time and a context,
a few tokens that state what to draw, by adaptive layer norm (adaLN-Zero, Peebles and Xie 2023,
§3.2). A condition shifts and scales the input of each layer, and gates its output:

    x ← x + gate · layer( norm(x) · (1 + scale) + shift )
    (shift, scale, gate) = W · condition + b                W and b start at zero
    condition = SiLU( MLP of the time + linear map of the sum of the context )

So each layer starts as the identity, and each prediction at zero. For the transformer a picture is
folded: each square of p × p pixels is one patch, and patches attend to one another and to the
context. 3 p² numbers do not fit through a token of D, so a cell, a quarter of a patch, also has a
few channels that pass by the transformer. Convolutions join the two, as in a U-Net (Ronneberger et
al. 2015):

    picture ─ fold ─ stem ─┬─ transformer on patches ─ + ─ residual blocks ─ unfold ─ prediction
                           └───────── cells ───────────┘

Shapes: B batch, T text tokens, C context tokens, N = (H / p)² patches, h w = H / p, D width, E
embedding, c channels.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
import torch.nn.functional as F
from einops.layers.torch import Rearrange
from torch import Tensor, nn

from minidalle.attention import rotary_angles
from minidalle.residual import residual_stack
from minidalle.transformer import Block, Transformer

NUM_FREQUENCIES = 16  # of the sines and cosines that a time becomes
MAX_FREQUENCY = 30.0  # radians per unit of time; DiT's 1000 slowed down a short training


def adaptive(x: Tensor, norm: Callable, layer: Callable, modulation: Tensor) -> Tensor:
    """x + gate · layer(norm(x) · (1 + scale) + shift): x is … D and `modulation` … 3D."""
    shift, scale, gate = modulation.chunk(3, dim=-1)
    return x + gate * layer(norm(x) * (1 + scale) + shift)


Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def zeroed(layer: Layer) -> Layer:
    """The same layer, which now starts at zero."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class Condition(nn.Module):
    """Times in [0, 1], B, and their context, B C D, to the vectors that modulate, B `width`.

    The context is summed. A linear map of all C · D numbers took such large steps that it saturated
    the SiLU: it was 4 in the mean, and varied by 0.5 from one caption to the next.
    """

    def __init__(self, context_width: int, width: int) -> None:
        super().__init__()
        frequencies = torch.logspace(0, math.log10(MAX_FREQUENCY), NUM_FREQUENCIES)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.time = nn.Sequential(
            nn.Linear(2 * NUM_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.context = nn.Linear(context_width, width)

    def forward(self, t: Tensor, context: Tensor) -> Tensor:
        angles = t[:, None] * self.get_buffer("frequencies")
        time = self.time(torch.cat([angles.cos(), angles.sin()], dim=1))
        return F.silu(time + self.context(context.sum(1)))


class AdaptiveBlock(nn.Module):
    """A block of the lesson's transformer, with adaptive layer norm: B S D and B 1 D → B S D."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.block = Block(width, heads, qk_norm=True)
        self.modulation = zeroed(nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor, angles: Tensor) -> Tensor:
        first, second = self.modulation(condition).chunk(2, dim=-1)  # B 1 3D
        attention = partial(self.block.attention, angles=angles)
        x = adaptive(x, self.block.norm_1, attention, first)
        return adaptive(x, self.block.norm_2, self.block.mlp, second)


class PictureDenoiser(nn.Module):
    """Noisy pictures, B 3 H W in about [−1, 1], times, B, and context, B C D, to pictures."""

    def __init__(
        self, image_size: int, patch: int, width: int, layers: int, heads: int, context: int,
        channels: int,
    ) -> None:  # fmt: skip
        """context: C, the number of context tokens; channels: c, of a cell."""
        super().__init__()
        grid, cell = image_size // patch, patch // 2
        self.fold = Rearrange("b c (h p) (w q) -> b (c p q) h w", p=cell, q=cell)
        self.unfold = Rearrange("b (c p q) h w -> b c (h p) (w q)", p=cell, q=cell)
        self.merge = Rearrange("b c (h p) (w q) -> b (h w) (c p q)", p=2, q=2)
        self.split = Rearrange("b (h w) (c p q) -> b c (h p) (w q)", h=grid, p=2, q=2)
        self.stem = nn.Conv2d(3 * cell**2, channels, 3, padding=1)
        self.patches = nn.Linear(4 * channels, width)
        self.position = nn.Parameter(0.02 * torch.randn(grid**2, width))
        angles = rotary_angles(context, grid, width // heads)
        self.register_buffer("angles", angles, persistent=False)
        self.condition = Condition(width, width)
        self.blocks = nn.ModuleList(AdaptiveBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.last_modulation = zeroed(nn.Linear(width, 2 * width))
        self.cells = nn.Linear(width, 4 * channels)
        self.tail = residual_stack((channels,), 2, num_3x3=1, up=True, bottleneck=2)
        self.out = zeroed(nn.Conv2d(channels, 3 * cell**2, 1))

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        condition = self.condition(t, context)[:, None]  # B 1 D
        cells = self.stem(self.fold(x))  # B c 2h 2w
        y = self.patches(self.merge(cells)) + self.position  # B N D
        y = torch.cat([context, y], dim=1)  # B (C + N) D
        for block in self.blocks:
            y = block(y, condition, self.get_buffer("angles"))
        y = y[:, context.shape[1] :]  # B N D
        shift, scale = self.last_modulation(condition).chunk(2, dim=-1)
        y = self.split(self.cells(self.norm(y) * (1 + scale) + shift))  # B c 2h 2w
        return self.unfold(self.out(self.tail(cells + y))).float()


class VectorDenoiser(nn.Module):
    """Noisy vectors, B E, times, B, and context, B C D, to vectors: a residual MLP."""

    def __init__(self, embedding: int, width: int, layers: int, context_width: int) -> None:
        super().__init__()
        self.input = nn.Linear(embedding, width)
        self.condition = Condition(context_width, width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(layers)
        )
        self.modulations = nn.ModuleList(zeroed(nn.Linear(width, 3 * width)) for _ in range(layers))
        self.out = zeroed(nn.Linear(width, embedding))

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        condition = self.condition(t, context)  # B D
        y = self.input(x)
        for mlp, modulation in zip(self.mlps, self.modulations, strict=True):
            y = adaptive(y, self.norm, mlp, modulation(condition))
        return self.out(self.norm(y)).float()


class TextEncoder(nn.Module):
    """Captions, B T ids, padded, to context tokens, B C D: C learned queries attend to the words.

    Padding is hidden from them, since most of a short caption is padding. The tokens are normalised
    over the batch (BatchNorm): otherwise their mean, which says nothing, outgrows what differs from
    one caption to the next.
    """

    def __init__(
        self, vocab_size: int, text_length: int, width: int, layers: int, heads: int, context: int
    ) -> None:
        super().__init__()
        std = width**-0.5  # as in CLIP's towers
        self.vocab_size = vocab_size
        self.token_embedding = nn.Embedding(vocab_size + text_length, width)
        nn.init.normal_(self.token_embedding.weight, std=std)
        # Smaller, so that a token begins as the mean of its words more than as its query.
        self.position = nn.Parameter(std / 2 * torch.randn(text_length, width))
        self.queries = nn.Parameter(std / 4 * torch.randn(context, width))
        self.transformer = Transformer(width, layers, heads, std=std)
        self.norm = nn.BatchNorm1d(context * width, affine=False)

    def forward(self, text: Tensor) -> Tensor:
        n, num_queries = len(text), len(self.queries)
        is_word = text < self.vocab_size
        length = int(is_word.sum(1).max())  # columns of nothing but padding cost nothing
        words = self.token_embedding(text[:, :length]) + self.position[:length]
        x = torch.cat([self.queries.expand(n, -1, -1), words], dim=1)  # B (C + length) D
        seen = F.pad(is_word[:, :length], (num_queries, 0), value=True)[:, None, None]  # B 1 1 S
        tokens = self.transformer(x, [seen] * len(self.transformer.blocks))[:, :num_queries]
        return self.norm(tokens.flatten(1)).view_as(tokens)
