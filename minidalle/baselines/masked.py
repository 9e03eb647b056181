"""A masked-code model (MaskGIT, Chang et al. 2022): it fills in any part of a picture's codes.

Training hides some codes, and predicts them from the visible ones and the caption, as BERT does
with words (Devlin et al. 2019, §3.1):

    L_mask = − Σ log P(hidden code | visible codes, caption)

The share of hidden codes is cos(πu/2), u ~ U(0, 1): the model meets every share, most often a large
one (Chang et al., §3.1). A hidden code has a learned vector, MASK, in place of its own. No mask is
causal: every position looks both ways, so a region can be filled in from below as well.
`masked_sampling` draws from the model.

Plain attention with learned positions ignores the visible codes for long. So positions are rotary,
in two dimensions; queries and keys are normalised; and in every other layer a position sees only
the text and a window of codes. Padding of the caption has learned vectors, as in the prior. Then
the empty caption is a caption like any other, and one mask serves the whole batch.

Shapes: B batch, T text tokens, N = grid² codes, K codebook, D width, H hidden codes of a batch.
"""

import math
import random
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle.attention import rotary_angles
from minidalle.errors import MinidalleError, check_fields
from minidalle.prior import CodeVectors
from minidalle.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class MaskedConfig:
    """The shape of a masked-code model."""

    vocab_size: int = 2048  # text tokens, padding left out: the tokenizer's
    text_length: int = 32  # T, tokens a caption is padded or cut to
    codes: int = 512  # K, the dVAE's codebook
    grid: int = 12  # codes across a picture
    width: int = 128  # D
    layers: int = 6  # every other one sees only a window
    heads: int = 4
    window: int = 5  # codes across the window, odd; 2 · grid − 1 and more see all codes
    dropout: float = 0.0  # rate on the output of each attention and MLP, 0..1
    look_size: int = 0  # subpixels of a code's look, tied to embedding and head; 0: none

    def __post_init__(self) -> None:
        check_fields(
            self, vocab_size=(1, 1_000_000), text_length=(1, 4096), codes=(1, 65_536),
            grid=(1, 64), width=(1, 65_536), layers=(1, 1000), heads=(1, 1024), window=(1, 255),
            dropout=(0, 1), look_size=(0, 65_536),
        )  # fmt: skip
        if self.window % 2 == 0:
            raise MinidalleError(
                f"window must be odd, with the code in its middle, got {self.window}; try 5"
            )
        if self.width // self.heads % 4:
            raise MinidalleError(
                f"rotary positions need heads of a multiple of 4 dimensions, and width {self.width}"
                f" with {self.heads} heads has {self.width / self.heads:g}; change one of them"
            )


class MaskedLosses(NamedTuple):
    """Scalars."""

    total: Tensor  # L_mask as a mean over the hidden codes of the batch, nats
    hidden: Tensor  # share of codes that were hidden, 0..1


def hidden_cells(u: float, cells: int, rng: random.Random) -> Tensor:
    """The cells to hide, at random: bool N. A share cos(πu/2), at least one; u: 0..1."""
    hidden = torch.zeros(cells, dtype=torch.bool)
    hidden[rng.sample(range(cells), math.ceil(math.cos(math.pi * u / 2) * cells))] = True
    return hidden


def window_mask(text: int, grid: int, window: int) -> Tensor:
    """Which positions may see which: bool, S × S with S = text + grid². All see the text; a code
    also sees the codes in a square of `window` codes around it."""
    at = torch.arange(grid**2)
    down, across = at[:, None] // grid - at // grid, at[:, None] % grid - at % grid
    mask = torch.zeros(text + grid**2, text + grid**2, dtype=torch.bool)
    mask[:, :text] = True
    mask[text:, text:] = (down.abs() <= window // 2) & (across.abs() <= window // 2)
    return mask


class Masked(CodeVectors):
    """Hidden codes of pictures (B N) given the visible ones and captions (B T ids, padded)."""

    config: MaskedConfig
    window: Tensor
    angles: Tensor

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        self.config = c = config
        self.mask = nn.Parameter(0.02 * torch.randn(c.width))  # the vector of a hidden code
        self.text_token = nn.Embedding(c.vocab_size + c.text_length, c.width)  # words, then padding
        self.text_position = nn.Embedding(c.text_length, c.width)
        self.code_token = nn.Embedding(c.codes, c.width)
        self.row, self.column = nn.Embedding(c.grid, c.width), nn.Embedding(c.grid, c.width)
        self.code_head = nn.Linear(c.width, c.codes, bias=False)
        for module in self.children():
            nn.init.normal_(module.weight, std=0.02)  # type: ignore[arg-type]
        self.transformer = Transformer(c.width, c.layers, c.heads, c.dropout, qk_norm=True)
        self.add_looks(c.look_size)
        angles = rotary_angles(c.text_length, c.grid, c.width // c.heads)
        self.register_buffer("angles", angles, persistent=False)
        mask = window_mask(c.text_length, c.grid, c.window)
        self.register_buffer("window", mask, persistent=False)

    def embed(
        self, text: Tensor, codes: Tensor, hidden: Tensor, vectors: Tensor | None = None
    ) -> Tensor:
        """Captions, B T, and codes, B N, of which some are hidden, bool B N: → B (T + N) D.
        `vectors`: `code_vectors()`, where they are at hand."""
        words = self.text_token(text) + self.text_position.weight
        vectors = self.code_vectors() if vectors is None else vectors
        vectors = torch.cat([vectors, self.mask[None]])  # K + 1, D
        cells = F.embedding(codes.masked_fill(hidden, self.config.codes), vectors)
        place = (self.row.weight[:, None] + self.column.weight).flatten(0, 1)  # N D
        return torch.cat([words, cells + place], dim=1)

    def logits(
        self,
        text: Tensor,
        codes: Tensor,
        hidden: Tensor,
        vectors: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Logits of the hidden codes only, in the order of `hidden`: H K. `vectors`:
        `code_vectors()` and `head_vectors()`, where they are at hand."""
        inputs, outputs = vectors or (self.code_vectors(), self.head_vectors())
        masks = [self.window if i % 2 == 0 else None for i in range(self.config.layers)]
        x = self.embed(text, codes, hidden, inputs)
        y = self.transformer(x, masks, angles=self.angles)
        return F.linear(y[:, self.config.text_length :][hidden], outputs)

    def forward(self, text: Tensor, codes: Tensor, hidden: Tensor) -> MaskedLosses:
        """The losses on captions, B T, and their pictures' codes, B N; `hidden`: bool B N."""
        logits = self.logits(text, codes, hidden).float()
        return MaskedLosses(F.cross_entropy(logits, codes[hidden]), hidden.float().mean())
