"""The transformer: blocks that look around (attention) and think (MLP), one after the other.

    x ← x + attention(norm(x))
    x ← x + MLP(norm(x))

The same stack serves the prior, with causal masks and a cache, and both towers of CLIP, with none.
Pre-norm residual blocks as in GPT-2 (Radford et al. 2019) and in the sparse transformers (Child et
al. 2019), of which the paper's is one (appendix B.1).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from minidalle.attention import Attention, KVCache


class Block(nn.Module):
    """One layer: B S D → B S D."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_1(x), mask, cache))
        return x + self.dropout(self.mlp(self.norm_2(x)))


class Transformer(nn.Module):
    """`layers` blocks and a last norm: B S D → B S D. Matrices begin at random, `std` wide."""

    def __init__(
        self, width: int, layers: int, heads: int, dropout: float = 0.0, std: float = 0.02
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for name, p in self.named_parameters():
            if name.endswith("weight") and p.ndim == 2:
                # What writes into the residual stream starts smaller: 2 · layers writes add up.
                writes = name.endswith(("out.weight", "mlp.2.weight"))
                nn.init.normal_(p, std=std / (2 * layers) ** 0.5 if writes else std)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(
        self,
        x: Tensor,
        masks: Sequence[Tensor | None] | None = None,
        caches: Sequence[KVCache] | None = None,
    ) -> Tensor:
        """`masks` and `caches`: one a layer."""
        for i, block in enumerate(self.blocks):
            x = block(x, masks[i] if masks else None, caches[i] if caches else None)
        return self.norm(x)

    def attention_weights(
        self, x: Tensor, masks: Sequence[Tensor | None] | None = None
    ) -> list[Tensor]:
        """Where each layer looks while it reads x, B S D: a B M S S a layer."""
        weights = []
        for i, block in enumerate(self.blocks):
            mask = masks[i] if masks else None
            weights.append(block.attention.weights(block.norm_1(x), mask))
            x = block(x, mask)
        return weights
