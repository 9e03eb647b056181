"""Attention: every position sends a query and receives a mixture of the values it may see.

    attention(Q, K, V) = softmax( Q Kᵀ / √d + mask ) V        (Vaswani et al. 2017, §3.2)

DALL·E models one stream, caption first and picture second. Each layer attends to another part of
the past (Ramesh et al. 2021, appendix B.1, figure 11). A mask is a boolean
matrix, True where the query (row) may see the key (column). With every mask here a position sees
all earlier text; the masks differ in which earlier *codes* a code may see:

    causal         all of them
    row            the W codes before it, and itself: back to the one straight above
    column         those straight above it, and itself
    convolutional  the earlier ones within a square of `kernel` codes around it

Two later ideas are switches. Rotary positions (Su et al. 2021) turn queries and keys by an angle
that grows with their place, so a score depends on how far apart two places are, in rows and in
columns. Normalised queries and keys (Henry et al. 2020) keep the scores small at a high learning
rate.

In cross-attention the keys and values come from another sequence, the context (Vaswani et al. 2017,
§3.2.3). The prior has none: there the caption is part of the stream.

Shapes: B batch, M heads, S stream, C context, D width, d = D / M.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minidalle.errors import MinidalleError

MASKS = ("causal", "row", "column", "convolutional")


def stream_mask(kind: str, text: int, grid: int, kernel: int = 11) -> Tensor:
    """Which positions of the stream may see which: bool, S × S with S = text + grid².

    text: positions before the first code; grid: W, codes across a picture.
    """
    if kind not in MASKS:
        raise MinidalleError(f"no attention mask {kind!r}; choose one of: {', '.join(MASKS)}")
    length = text + grid * grid
    i, j = torch.arange(length)[:, None], torch.arange(length)[None, :]
    past = j <= i
    query, key = i - text, j - text  # raster indices of codes; negative inside the text
    down = query.div(grid, rounding_mode="floor") - key.div(grid, rounding_mode="floor")
    across = query % grid - key % grid
    near = {
        "causal": past,
        "row": query - key <= grid,
        "column": across == 0,
        "convolutional": (down <= kernel // 2) & (across.abs() <= kernel // 2),
    }[kind]
    return past & (near | (key < 0))


def layer_kinds(layers: int) -> list[str]:
    """The paper's order: row, column, row, row, and over again; the last layer convolutional."""
    kinds = ["column" if (i - 2) % 4 == 0 else "row" for i in range(1, layers + 1)]
    return [*kinds[:-1], "convolutional"]


def rotary_angles(text: int, grid: int, d: int) -> Tensor:
    """The angles by which rotary positions turn the pairs of a head's d dimensions: S × d/2.

    Half of the pairs turn with the row and half with the column, pair j by 1.5⁻ʲ a step. The text
    lies on a row of its own, three above the picture. text: positions before the first code.
    """
    at = torch.arange(grid * grid)
    rows = torch.cat([torch.full((text,), -3), at // grid])
    columns = torch.cat([torch.arange(text), at % grid])
    frequencies = 1.5 ** -torch.arange(d // 4)
    return torch.cat([rows[:, None] * frequencies, columns[:, None] * frequencies], dim=1)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn the pairs (xᵢ, xᵢ₊d/2) of … S d by angles, S × d/2."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class KVCache:
    """The keys and values of one layer so far, in buffers allocated once for the whole stream.

    While sampling, only the newest position is computed; the rest is read from here. The keys and
    values of a context never change: they are computed once and kept in `context`.
    """

    def __init__(self, batch: int, heads: int, length: int, d: int, like: Tensor) -> None:
        self.keys = like.new_empty(batch, heads, length, d)  # B M S d
        self.values = torch.empty_like(self.keys)
        self.length = 0
        self.context: tuple[Tensor, Tensor] | None = None  # of cross-attention, B M C d each

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store B M t d more of each; returns everything stored so far."""
        end = self.length + keys.shape[2]
        assert end <= self.keys.shape[2], "the cache is full: the stream is longer than planned"
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def repeat(self, n: int) -> None:
        """Copy each sequence n times: n candidates continue from one caption, prefilled once.
        They share the context as it is."""
        self.keys = self.keys.repeat_interleave(n, 0)
        self.values = self.values.repeat_interleave(n, 0)


class Attention(nn.Module):
    """Multi-head attention, to the stream itself or to a context: B S D → B S D.

    qk_norm: normalise queries and keys, each with a learned scale per dimension.
    """

    def __init__(self, width: int, heads: int, qk_norm: bool = False) -> None:
        super().__init__()
        if width % heads:
            raise MinidalleError(
                f"width {width} does not divide into {heads} heads; change one of them"
            )
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.q_norm = nn.RMSNorm(width // heads, eps=1e-6) if qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(width // heads, eps=1e-6) if qk_norm else nn.Identity()

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        angles: Tensor | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """`mask`: bool, queries × keys, True where seen; None sees all. With a `cache`, x holds
        only the newest positions and the keys are all positions so far; the mask of a single query
        may then be the indices of the keys that it sees, int64, and the others cost nothing.
        `angles`: of the positions in x, S × d/2, for rotary positions.
        `context`: B C D, has the keys; x may then hold n sequences for each, nB S D, and the mask
        is B 1 1 C. With a `cache` the context is read in the first call only."""
        if context is None:
            q, k, v = self._split(x, angles)
            if cache is not None:
                k, v = cache.append(k, v)
        else:
            q, k, v = self._split_cross(x, context, cache)
        if mask is not None and mask.dtype == torch.int64:
            k, v, mask = k.index_select(2, mask), v.index_select(2, mask), None
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # B M S d
        return self.out(rearrange(y, "b m (n s) d -> (b n) s (m d)", s=x.shape[1]))

    def _split(self, x: Tensor, angles: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of every head: B S D → B M S d each."""
        q, k, v = rearrange(self.qkv(x), "b s (n m d) -> n b m s d", n=3, m=self.heads)
        q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        return q, k, v

    def _split_cross(
        self, x: Tensor, context: Tensor, cache: KVCache | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of x and keys and values of the context, by the same weights as in `_split`.

        The n sequences of a context become one, nB S D → B M nS d: queries do not see each other.
        """
        width = x.shape[-1]
        q = F.linear(x, self.qkv.weight[:width], self.qkv.bias[:width])
        q = rearrange(q, "(b n) s (m d) -> b m (n s) d", b=len(context), m=self.heads)
        keys_values = None if cache is None else cache.context
        if keys_values is None:
            kv = F.linear(context, self.qkv.weight[width:], self.qkv.bias[width:])
            k, v = rearrange(kv, "b c (n m d) -> n b m c d", n=2, m=self.heads)
            keys_values = self.k_norm(k).to(v.dtype), v
            if cache is not None:
                cache.context = keys_values
        return self.q_norm(q).to(keys_values[1].dtype), *keys_values

    def weights(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        angles: Tensor | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """The attention weights, for figures: B S D → B M S S, rows that sum to one. With a
        `context`, B C D: B M S C.

        `forward` uses the same weights inside a fused kernel, which does not return them.
        """
        if context is None:
            q, k, _ = self._split(x, angles)
        else:
            q, k, _ = self._split_cross(x, context)
        scores = q @ k.mT / q.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(-1)
