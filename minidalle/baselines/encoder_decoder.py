"""Encoder and decoder: the caption is encoded first, and the picture attends to it.

    context   h = encoder( BOS  t₁ … t_n )             every token sees all of the caption
    picture   p( c₁ … c_N | h ) = Π p( c_i | c_<i, h )  by causal attention and cross-attention

    loss = mean over codes of −ln p(c)

This is the transformer of Vaswani et al. (2017, §3.1), and often taken for DALL·E's. DALL·E has one
stream and no encoder (Ramesh et al. 2021, §2.2). The difference: here caption and picture have
layers of their own, nothing predicts the caption, and a word sees the words after it.

What is not as in 2017 is as in the prior, so that only the two streams are compared:

- the norm stands before each layer, not after its sum (§3.1 there);
- positions are learned vectors and rotary angles, no sinusoids (§3.5 there);
- queries and keys are normalised, and self-attention over codes has the prior's masks, of rows,
  columns and neighbours;
- embedding and head of a code are tied to its look, not to each other (§3.4 there).

Padding is masked out of both attentions, so a caption is read the same at any length. BOS is never
masked: an empty caption still leaves one position to attend to.

Shapes: B batch, T text tokens, N = grid² image tokens, K codebook, D width.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle.attention import KVCache, rotary_angles
from minidalle.errors import check_fields
from minidalle.prior import CodeStream, DecodingState, check_stream
from minidalle.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig:
    """The shape of an encoder and a decoder."""

    vocab_size: int = 2048  # text tokens, padding left out: the tokenizer's
    text_length: int = 32  # T, tokens a caption is padded or cut to
    codes: int = 512  # K, the dVAE's codebook
    grid: int = 12  # codes across a picture
    width: int = 128  # D of both stacks (Vaswani et al.: 512)
    encoder_layers: int = 1  # (Vaswani et al.: 6)
    decoder_layers: int = 4  # (Vaswani et al.: 6)
    heads: int = 4  # (Vaswani et al.: 8)
    kernel: int = 7  # codes across the convolutional mask of the last layer, odd
    dropout: float = 0.0  # rate on the output of each attention and MLP, 0..1
    look_size: int = 0  # subpixels of a code's look, tied to embedding and head; 0: none

    def __post_init__(self) -> None:
        check_fields(
            self, vocab_size=(1, 1_000_000), text_length=(1, 4096), codes=(1, 65_536),
            grid=(1, 256), width=(1, 65_536), encoder_layers=(1, 1000), decoder_layers=(1, 1000),
            heads=(1, 1024), kernel=(1, 255), dropout=(0, 1), look_size=(0, 65_536),
        )  # fmt: skip
        check_stream(self, rotary=True)


class EncoderDecoderLosses(NamedTuple):
    """Scalars in nats."""

    total: Tensor
    image: Tensor  # mean over image tokens; the total, since nothing predicts the caption


class EncoderDecoder(CodeStream):
    """Captions (B T ids, padded) to a distribution over pictures (B N codes in raster order).

    The decoder's stream is a start vector and the codes: `first_code` is 1.
    """

    text_angles: Tensor

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config = c = config
        self.text_start = nn.Parameter(0.02 * torch.randn(c.width))  # BOS
        self.code_start = nn.Parameter(0.02 * torch.randn(c.width))
        self.text_token = nn.Embedding(c.vocab_size, c.width)  # padding needs none
        self.text_position = nn.Embedding(c.text_length, c.width)
        self.code_token = nn.Embedding(c.codes, c.width)
        self.row, self.column = nn.Embedding(c.grid, c.width), nn.Embedding(c.grid, c.width)
        self.encoder = Transformer(c.width, c.encoder_layers, c.heads, c.dropout, qk_norm=True)
        self.decoder = Transformer(
            c.width, c.decoder_layers, c.heads, c.dropout, qk_norm=True, cross=True
        )
        self.code_head = nn.Linear(c.width, c.codes, bias=False)
        for module in self.children():
            if isinstance(module, nn.Embedding) or module is self.code_head:
                nn.init.normal_(module.weight, std=0.02)
        self.add_looks(c.look_size)
        self.add_masks(1, c, c.decoder_layers, rotary=True)
        angles = rotary_angles(1 + c.text_length, c.grid, c.width // c.heads)
        self.register_buffer("text_angles", angles[: 1 + c.text_length], persistent=False)

    def encode(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Captions, B T with any T up to text_length, to a context, B (1 + T) D, and its mask, bool
        B 1 1 (1 + T): True for BOS and words, False for padding."""
        is_word = F.pad(text < self.config.vocab_size, (1, 0), value=True)[:, None, None]
        tokens = self.text_token(text.clamp(max=self.config.vocab_size - 1))  # padding: any word
        x = tokens + self.text_position.weight[: text.shape[1]]  # B T D
        x = torch.cat([self.text_start.expand(len(x), 1, -1), x], dim=1)  # B (1 + T) D
        masks = [is_word] * self.config.encoder_layers
        return self.encoder(x, masks, angles=self.text_angles[: x.shape[1]]), is_word

    def _embed(self, codes: Tensor) -> Tensor:
        """The decoder's input that predicts B N codes: B N D. It starts with the start vector and
        lacks the last code, which predicts nothing."""
        start = self.code_start.expand(len(codes), 1, -1)
        return torch.cat([start, self.embed_codes(codes[:, :-1])], dim=1)

    def forward(self, text: Tensor, codes: Tensor) -> EncoderDecoderLosses:
        """The losses on captions, B T, and their pictures' codes, B N."""
        logits = self.logits(text, codes).float()
        loss = F.cross_entropy(logits.flatten(0, 1), codes.flatten())
        return EncoderDecoderLosses(loss, loss)

    def logits(self, text: Tensor, codes: Tensor) -> Tensor:
        """Logits of the code at each position, given the caption and the codes before it: B N K."""
        x, n = self._embed(codes), codes.shape[1]
        y = self.decoder(x, self.masks(0, n), None, self._angles(0, n), *self.encode(text))
        return F.linear(y, self.head_vectors())

    def cross_attention_weights(self, text: Tensor, codes: Tensor) -> list[Tensor]:
        """How much the position that predicts each code attends to BOS and to each word: one
        B M N (1 + T) per layer of the decoder."""
        x, n = self._embed(codes), codes.shape[1]
        return self.decoder.attention_weights(
            x, self.masks(0, n), self._angles(0, n), *self.encode(text)
        )

    # --- Sampling, one code at a time; the interface is the prior's -------------------------------

    def prefill(self, text: Tensor) -> tuple["EncoderDecoderState", Tensor]:
        """Encode captions once: B T → what decoding goes on from, and the logits of the first code,
        B K."""
        c, batch = self.config, len(text)
        x = self.code_start.expand(batch, 1, -1)
        d = c.width // c.heads
        caches = [KVCache(batch, c.heads, c.grid**2, d, x) for _ in range(c.decoder_layers)]
        decoding = DecodingState(caches, self.code_vectors(), self.head_vectors())
        state = EncoderDecoderState(decoding, *self.encode(text))
        return state, self._decode(x, 0, state)

    def decode_step(self, code: Tensor, position: int, state: "EncoderDecoderState") -> Tensor:
        """Append the code at a raster position, B; the logits of the one after it, B K."""
        x = self.embed_codes(code[:, None], position, state.decoding.code_vectors)
        return self._decode(x, self.first_code + position, state)

    def _decode(self, x: Tensor, at: int, state: "EncoderDecoderState") -> Tensor:
        """The logits, B K, after the vector at one position of the decoder's stream, B 1 D."""
        masks, angles = self.seen_keys(at), self._angles(at, at + 1)
        caches, context = state.decoding.caches, (state.context, state.context_mask)
        y = self.decoder(x, masks, caches, angles, *context)
        return F.linear(y[:, -1], state.decoding.head_vectors)


class EncoderDecoderState(NamedTuple):
    """What sampling keeps between two steps."""

    decoding: DecodingState
    context: Tensor  # B (1 + T) D; its keys and values are in the caches after the first step
    context_mask: Tensor  # bool, B 1 1 (1 + T)

    def repeat(self, n: int) -> None:
        """Copy each sequence n times: n candidates continue from one caption, which they share."""
        self.decoding.repeat(n)
