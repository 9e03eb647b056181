"""The transformer: a stack of blocks, each with attention and an MLP on a residual stream.

    x ← x + attention(norm(x))
    x ← x + cross-attention(norm(x), context)        only in a decoder that has a context
    x ← x + MLP(norm(x))

The same stack serves the prior, with causal masks and a KV cache, and both CLIP towers, without
them. Its pre-norm residual blocks are those of GPT-2 (Radford et al. 2019) and of the sparse
transformers (Child et al. 2019), on which the paper builds (appendix B.1).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from minidalle.attention import Attention, KVCache


class Block(nn.Module):
    """One layer: B S D → B S D. cross: with cross-attention to a context, B C D."""

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        qk_norm: bool = False,
        cross: bool = False,
    ) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, qk_norm)
        self.cross = cross
        if cross:
            self.cross_norm = nn.LayerNorm(width)
            self.cross_attention = Attention(width, heads, qk_norm)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        angles: Tensor | None = None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        assert (context is not None) == self.cross, "cross-attention and a context go together"
        x = x + self.dropout(self.attention(self.norm_1(x), mask, cache, angles))
        if context is not None:
            y = self.cross_attention(self.cross_norm(x), context_mask, cache, context=context)
            x = x + self.dropout(y)
        return x + self.dropout(self.mlp(self.norm_2(x)))


class Transformer(nn.Module):
    """`layers` blocks and a final norm: B S D → B S D.

    std: standard deviation of the initial matrices, which are normal.
    qk_norm: normalise the queries and keys of every layer.
    cross: every layer has cross-attention to a context.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        dropout: float = 0.0,
        std: float = 0.02,
        qk_norm: bool = False,
        cross: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(width, heads, dropout, qk_norm, cross) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        for name, p in self.named_parameters():
            if name.endswith("weight") and p.ndim == 2:
                # What is added to the residual stream starts smaller: so many terms add up.
                terms = (3 if cross else 2) * layers
                writes = name.endswith(("out.weight", "mlp.2.weight"))
                nn.init.normal_(p, std=std / terms**0.5 if writes else std)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(
        self,
        x: Tensor,
        masks: Sequence[Tensor | None] | None = None,
        caches: Sequence[KVCache] | None = None,
        angles: Tensor | None = None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """`masks` and `caches`: one per layer; `angles`: of rotary positions, S × d/2. `context`,
        B C D, and its mask, B 1 1 C, are those of all layers."""
        for i, block in enumerate(self.blocks):
            x = block(x, masks[i] if masks else None, caches[i] if caches else None, angles,
                      context, context_mask)  # fmt: skip
        return self.norm(x)

    def attention_weights(
        self,
        x: Tensor,
        masks: Sequence[Tensor | None] | None = None,
        angles: Tensor | None = None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> list[Tensor]:
        """The attention weights of every layer for x, B S D: one B M S S per layer. With a context,
        those of the cross-attention: B M S C."""
        weights = []
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            mask = masks[i] if masks else None
            if context is None:
                weights.append(block.attention.weights(block.norm_1(x), mask, angles))
            else:
                y = block.cross_norm(x + block.attention(block.norm_1(x), mask, angles=angles))
                weights.append(block.cross_attention.weights(y, context_mask, context=context))
            x = block(x, mask, None, angles, context, context_mask)
        return weights
