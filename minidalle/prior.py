"""The prior: one transformer that reads a caption and continues with a picture, code by code.

    stream   BOS  t₁ … t_T  c₁ … c_{N−1}
    target   t₁  …  t_T  c₁  …  c_N            each position predicts what comes next

    loss = 1/8 · mean over text of −ln p(t) + 7/8 · mean over codes of −ln p(c)

(Ramesh et al. 2021, §2.2.) A code's position embedding is a learned row plus a learned column.
Padding after a caption has a learned token for each position. Each layer has its own mask
(`attention.layer_kinds`). A tenth of the pictures are trained with the empty caption, all padding,
which classifier-free guidance needs.

Training is teacher forcing: the stream holds the true tokens, whatever the model would predict.

Three departures from the paper are switches of the config. Together they let a prior trained for
hours, not months, draw pairs of kind and colour that it has never seen:

- `rotary`: positions are turned into queries and keys too, as distances in rows and columns;
- `qk_norm`: queries and keys are normalised;
- `look_size`: embedding and head of a code are tied to what the code looks like. A code's vector is
  its own plus a small MLP of the pixels that the dVAE decodes it to, so codes that look alike are
  alike from the start, and what is learnt of one is learnt of all that look like it.

Shapes: B batch, T text tokens, N = grid² image tokens, K codebook, D width.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle.attention import KVCache, layer_kinds, rotary_angles, stream_mask
from minidalle.errors import MinidalleError, check_fields
from minidalle.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """The shape of a prior and of the stream that it models."""

    vocab_size: int = 2048  # text tokens, padding left out: the tokenizer's (paper: 16384)
    text_length: int = 32  # T, tokens a caption is padded or cut to (paper: 256)
    codes: int = 512  # K, the dVAE's codebook (paper: 8192)
    grid: int = 12  # codes across a picture (paper: 32)
    width: int = 256  # D (paper: 3968)
    layers: int = 8  # (paper: 64)
    heads: int = 8  # (paper: 62)
    kernel: int = 7  # codes across the convolutional mask of the last layer, odd (paper: 11)
    text_weight: float = 1 / 8  # share of the text in the loss, 0..1 (paper: 1/8)
    dropout: float = 0.0  # rate on the output of each attention and MLP, 0..1
    rotary: bool = False  # rotary positions in two dimensions (paper: none)
    qk_norm: bool = False  # normalised queries and keys (paper: none)
    look_size: int = 0  # subpixels of a code's look, tied to embedding and head; 0: none (paper)

    def __post_init__(self) -> None:
        check_fields(
            self, vocab_size=(1, 1_000_000), text_length=(1, 4096), codes=(1, 65_536),
            grid=(1, 256), width=(1, 65_536), layers=(1, 1000), heads=(1, 1024), kernel=(1, 255),
            dropout=(0, 1), look_size=(0, 65_536),
        )  # fmt: skip
        if self.text_length + self.grid**2 > 8192:
            raise MinidalleError(
                f"text_length {self.text_length} and grid {self.grid} make a stream of more than"
                " 8192 positions, and attention needs memory for its square; choose less"
            )
        if self.kernel % 2 == 0:
            raise MinidalleError(
                f"kernel must be odd, with the code in its middle, got {self.kernel}; try 7"
            )
        if self.rotary and self.width // self.heads % 4:
            raise MinidalleError(
                f"rotary positions need heads of a multiple of 4 dimensions, and width {self.width}"
                f" with {self.heads} heads has {self.width / self.heads:g}; change one of them"
            )
        if not 0 <= self.text_weight < 1:
            raise MinidalleError(
                f"text_weight must be from 0 to below 1, got {self.text_weight}; try 0.125"
            )


class PriorLosses(NamedTuple):
    """Scalars in nats."""

    total: Tensor
    text: Tensor  # mean over caption tokens, padding left out
    image: Tensor  # mean over image tokens


def joint_loss(text: Tensor, image: Tensor, text_weight: float) -> PriorLosses:
    """Weigh the two losses: text_weight for the text, the rest for the picture."""
    return PriorLosses(text_weight * text + (1 - text_weight) * image, text, image)


def _look_mlp(look_size: int, width: int) -> nn.Sequential:
    """From the pixels of a code to a vector: a linear map, GELU, and another."""
    first, second = nn.Linear(look_size, 2 * width), nn.Linear(2 * width, width)
    nn.init.normal_(first.weight, std=look_size**-0.5)
    nn.init.normal_(second.weight, std=0.02)
    nn.init.zeros_(first.bias)
    nn.init.zeros_(second.bias)
    return nn.Sequential(first, nn.GELU(), second)


class CodeVectors(nn.Module):
    """The input and output vectors of the codes: what every model of codes inherits.

    A subclass sets `config`, `code_token` and `code_head`, and calls `_add_looks`.
    """

    looks: Tensor
    config: Any
    code_token: nn.Embedding
    code_head: nn.Linear

    def _add_looks(self) -> None:
        """Make room for what the codes look like, if the config says so."""
        c = self.config
        if c.look_size:
            self.register_buffer("looks", torch.zeros(c.codes, c.look_size))
            self.look_embedding = _look_mlp(c.look_size, c.width)
            self.look_head = _look_mlp(c.look_size, c.width)

    def set_looks(self, looks: Tensor) -> None:
        """Tell the prior what each code looks like: K × look_size (`DVAE.looks`). Each column is
        standardised."""
        looks = looks.flatten(1)
        self.looks.copy_((looks - looks.mean(0)) / looks.std(0).clamp(min=1e-3))

    def code_vectors(self) -> Tensor:
        """The input vector of every code, K D."""
        own = self.code_token.weight
        return own + self.look_embedding(self.looks) if self.config.look_size else own

    def head_vectors(self) -> Tensor:
        """The output vector of every code, K D: its logit is the product with the last layer."""
        own = self.code_head.weight
        return own + self.look_head(self.looks) if self.config.look_size else own


class Prior(CodeVectors):
    """A joint model of captions (B T ids, padded) and pictures (B N codes in raster order)."""

    config: PriorConfig
    angles: Tensor

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = c = config
        # BOS. Not zero: the norm of a zero vector multiplies the first gradient by 1/√ε.
        self.start = nn.Parameter(0.02 * torch.randn(c.width))
        self.text_token = nn.Embedding(c.vocab_size + c.text_length, c.width)  # words, then padding
        self.text_position = nn.Embedding(c.text_length, c.width)
        self.code_token = nn.Embedding(c.codes, c.width)
        self.row, self.column = nn.Embedding(c.grid, c.width), nn.Embedding(c.grid, c.width)
        self.transformer = Transformer(c.width, c.layers, c.heads, c.dropout, qk_norm=c.qk_norm)
        self.text_head = nn.Linear(c.width, c.vocab_size, bias=False)
        self.code_head = nn.Linear(c.width, c.codes, bias=False)
        for module in self.children():
            if isinstance(module, nn.Embedding) or module in (self.text_head, self.code_head):
                nn.init.normal_(module.weight, std=0.02)
        self.text_head.weight = nn.Parameter(self.text_token.weight.data[: c.vocab_size].clone())
        self._add_looks()
        if c.rotary:
            angles = rotary_angles(c.text_length + 1, c.grid, c.width // c.heads)
            self.register_buffer("angles", angles, persistent=False)
        kinds = layer_kinds(c.layers)
        masks = {kind: stream_mask(kind, c.text_length + 1, c.grid, c.kernel) for kind in kinds}
        self.kinds = kinds
        for kind, mask in masks.items():
            self.register_buffer(f"mask_{kind}", mask, persistent=False)

    def masks(self, start: int, end: int) -> list[Tensor]:
        """Each layer's mask, queries start..end−1 of the stream over keys 0..end−1."""
        return [getattr(self, f"mask_{kind}")[start:end, :end] for kind in self.kinds]

    def _angles(self, start: int, end: int) -> Tensor | None:
        """Of positions start..end−1 of the stream."""
        return self.angles[start:end] if self.config.rotary else None

    def embed_text(self, text: Tensor) -> Tensor:
        """BOS and the caption: B T → B (1 + T) D."""
        x = self.text_token(text) + self.text_position.weight
        return torch.cat([self.start.expand(len(x), 1, -1), x], dim=1)

    def embed_codes(self, codes: Tensor, first: int = 0, vectors: Tensor | None = None) -> Tensor:
        """Codes at raster positions first, first + 1, …: B n → B n D. `vectors`: `code_vectors()`,
        where they are at hand."""
        vectors = self.code_vectors() if vectors is None else vectors
        at = first + torch.arange(codes.shape[1], device=codes.device)
        grid = self.config.grid
        return F.embedding(codes, vectors) + self.row(at // grid) + self.column(at % grid)

    def embed(self, text: Tensor, codes: Tensor) -> Tensor:
        """The input that predicts B T tokens and B N codes: B (T + N) D. It starts with BOS and
        lacks the last code, which predicts nothing."""
        return torch.cat([self.embed_text(text), self.embed_codes(codes[:, :-1])], dim=1)

    def forward(self, text: Tensor, codes: Tensor) -> PriorLosses:
        """The losses on captions, B T, and their pictures' codes, B N."""
        text_logits, code_logits = self.logits(text, codes)
        is_word = text < self.config.vocab_size
        target = text.where(is_word, -100)  # padding is no target
        text_loss = F.cross_entropy(text_logits.float().flatten(0, 1), target.flatten(),
                                    reduction="sum") / is_word.sum().clamp(min=1)  # fmt: skip
        image_loss = F.cross_entropy(code_logits.float().flatten(0, 1), codes.flatten())
        return joint_loss(text_loss, image_loss, self.config.text_weight)

    def logits(self, text: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the next token at each position: text B T vocab, codes B N K."""
        x = self.embed(text, codes)
        length = x.shape[1]
        y = self.transformer(x, self.masks(0, length), angles=self._angles(0, length))
        t = self.config.text_length
        return self.text_head(y[:, :t]), F.linear(y[:, t:], self.head_vectors())

    # --- Sampling, one code at a time -------------------------------------------------------------

    def prefill(self, text: Tensor) -> tuple["DecodingState", Tensor]:
        """Read captions once: B T → what decoding goes on from, and the logits of the first code,
        B K."""
        c = self.config
        x = self.embed_text(text)
        length = 1 + c.text_length + c.grid**2
        caches = [KVCache(len(x), c.heads, length, c.width // c.heads, x) for _ in range(c.layers)]
        state = DecodingState(caches, self.code_vectors(), self.head_vectors())
        length = x.shape[1]
        y = self.transformer(x, self.masks(0, length), caches, self._angles(0, length))
        return state, F.linear(y[:, -1], state.head_vectors)

    def decode_step(self, code: Tensor, position: int, state: "DecodingState") -> Tensor:
        """Append the code at a raster position, B; the logits of the one after it, B K."""
        x = self.embed_codes(code[:, None], position, state.code_vectors)
        start = 1 + self.config.text_length + position
        seen = {k: getattr(self, f"mask_{k}")[start, : start + 1].nonzero()[:, 0]
                for k in set(self.kinds)}  # fmt: skip
        masks, angles = [seen[kind] for kind in self.kinds], self._angles(start, start + 1)
        y = self.transformer(x, masks, state.caches, angles)
        return F.linear(y[:, -1], state.head_vectors)


class DecodingState(NamedTuple):
    """What sampling keeps between two steps."""

    caches: list[KVCache]  # one per layer
    code_vectors: Tensor  # K D, computed once
    head_vectors: Tensor  # K D

    def repeat(self, n: int) -> None:
        """Copy each sequence n times: n candidates continue from one caption."""
        for cache in self.caches:
            cache.repeat(n)
