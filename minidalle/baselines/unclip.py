"""unCLIP, the idea of DALL·E 2: first the CLIP vector of a picture, then the picture (Ramesh et al.
2022, "Hierarchical text-conditional image generation with CLIP latents").

    prior      p(z | y)       caption y → z, the vector that CLIP would give its picture
    decoder    p(x | z, y)    that vector, with the caption or without → picture x
    both       p(x | y) = p(x, z | y) = p(x | z, y) p(z | y)       z is a function of x   (§2)

Both generate by flow matching (`flow`), where the paper has diffusion; their networks are in
`denoisers`. CLIP is trained before, and only its vectors of the training pictures are used here.

In training the caption, the vector or both are left out of some rows: the empty caption is all
padding, and a standardised vector becomes zero. So one decoder draws from either, and has the
unconditional prediction that classifier-free guidance needs. Without a caption it can vary a
picture, by drawing anew what the vector leaves open (§3.1), or draw what lies between two (§3.2).

Shapes: B batch, T text tokens, C context tokens of a caption or a vector, D width, E embedding.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle.baselines.denoisers import PictureDenoiser, TextEncoder, VectorDenoiser
from minidalle.baselines.flow import Generators, euler, flow_loss, gaussian_noise, guided
from minidalle.errors import MinidalleError, check_fields

BOTH, VECTOR_ALONE, CAPTION_ALONE, NEITHER = range(4)  # what a training row is conditioned on


@dataclass(frozen=True, kw_only=True)
class UnCLIPConfig:
    """The shape of a prior and a decoder, and what they are conditioned on in training."""

    vocab_size: int = 2048  # text tokens, padding left out: the tokenizer's
    text_length: int = 32  # T, tokens a caption is padded or cut to
    embedding: int = 128  # E, dimensions of CLIP's vectors
    image_size: int = 48  # pixels across a picture
    patch: int = 8  # pixels across the squares folded into tokens
    width: int = 128  # D of the decoder and of the text encoder
    layers: int = 6  # of the decoder
    text_layers: int = 2  # of the text encoder
    heads: int = 4
    channels: int = 96  # of a cell, a quarter of a patch, in the decoder's convolutions
    context: int = 4  # C, tokens that a caption becomes, and a vector too (paper: 4 of a vector)
    prior_width: int = 512  # of the prior's MLP
    prior_layers: int = 3
    prior_weight: float = 0.1  # weight of the prior's loss in the sum
    # Shares of rows with both, vector alone, caption alone, neither (paper: .45, .45, .05, .05)
    shares: tuple[float, ...] = (0.3, 0.3, 0.3, 0.1)

    def __post_init__(self) -> None:
        check_fields(
            self, vocab_size=(1, 1_000_000), text_length=(1, 4096), embedding=(1, 65_536),
            image_size=(1, 4096), patch=(1, 4096), width=(1, 65_536), layers=(1, 1000),
            text_layers=(1, 1000), heads=(1, 1024), context=(1, 4096), prior_width=(1, 65_536),
            prior_layers=(1, 1000), channels=(2, 65_536), prior_weight=(0, 1e6), shares=(0, 1),
        )  # fmt: skip
        if self.image_size % self.patch or self.patch % 2:
            size = self.image_size
            raise MinidalleError(f"patch must be even and divide {size} pixels, got {self.patch}")
        if self.width % (4 * self.heads):
            raise MinidalleError(
                f"width {self.width} is not a multiple of 4 · heads, {4 * self.heads}; change one"
            )
        if len(self.shares) != 4 or abs(sum(self.shares) - 1) > 1e-6:
            raise MinidalleError(
                f"shares must be four numbers with the sum 1, got {self.shares}; try"
                " (0.3, 0.3, 0.3, 0.1)"
            )


class UnCLIPLosses(NamedTuple):
    """Scalars: the mean squared errors of velocities, and their weighted sum."""

    total: Tensor
    prior: Tensor  # of dimensions of standardised vectors
    decoder: Tensor  # of subpixels in [−1, 1]


class UnCLIP(nn.Module):
    """A prior and a decoder with one text encoder: captions and CLIP vectors to pictures."""

    vector_mean: Tensor  # E
    vector_std: Tensor  # E
    empty_caption: Tensor  # 1 T

    def __init__(self, config: UnCLIPConfig) -> None:
        super().__init__()
        self.config = c = config
        self.text_encoder = TextEncoder(
            c.vocab_size, c.text_length, c.width, c.text_layers, c.heads, c.context
        )
        self.prior = VectorDenoiser(c.embedding, c.prior_width, c.prior_layers, c.width)
        self.vector_context = nn.Linear(c.embedding, c.context * c.width)
        shape = c.image_size, c.patch, c.width, c.layers, c.heads, 2 * c.context, c.channels
        self.decoder = PictureDenoiser(*shape)
        self.register_buffer("vector_mean", torch.zeros(c.embedding))
        self.register_buffer("vector_std", torch.ones(c.embedding))
        empty = torch.arange(c.vocab_size, c.vocab_size + c.text_length)[None]
        self.register_buffer("empty_caption", empty, persistent=False)

    def set_vector_statistics(self, vectors: Tensor) -> None:
        """Standardise vectors from now on by the mean and standard deviation of these, B E."""
        self.vector_mean.copy_(vectors.mean(0))
        self.vector_std.copy_(vectors.std(0).clamp(min=1e-3))

    def standardise(self, vectors: Tensor) -> Tensor:
        """CLIP's vectors, B E, with every dimension of mean 0 and variance 1."""
        return (vectors - self.vector_mean) / self.vector_std

    def encode_text(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Context tokens of captions, B T, and of the empty caption: B C D and 1 C D."""
        encoded = self.text_encoder(torch.cat([text, self.empty_caption]))
        return encoded[:-1], encoded[-1:]

    def decoder_context(self, captions: Tensor, standardised: Tensor) -> Tensor:
        """Tokens of captions, B C D, and standardised vectors, B E, to a context, B 2C D."""
        tokens = self.vector_context(standardised).unflatten(1, captions.shape[1:])
        return torch.cat([captions, tokens], dim=1)

    def forward(self, images: Tensor, text: Tensor, vectors: Tensor) -> UnCLIPLosses:
        """The losses on images, B 3 H W in [0, 1], captions, B T, and CLIP's image vectors, B E."""
        shares = torch.tensor(self.config.shares, device=text.device)
        case = torch.multinomial(shares, len(text), replacement=True)
        captions, empty = self.encode_text(text)
        vectors = self.standardise(vectors)
        keep_caption = (case == BOTH) | (case == CAPTION_ALONE)
        keep_vector = (case == BOTH) | (case == VECTOR_ALONE)
        context = self.decoder_context(
            captions.where(keep_caption[:, None, None], empty), vectors * keep_vector[:, None]
        )
        # The prior never has a vector: it keeps the caption of every row but NEITHER.
        prior_context = captions.where((case != NEITHER)[:, None, None], empty)
        prior = flow_loss(partial(self.prior, context=prior_context), vectors)
        decoder = flow_loss(partial(self.decoder, context=context), 2 * images - 1)
        return UnCLIPLosses(self.config.prior_weight * prior + decoder, prior, decoder)

    # --- Drawing, with one generator on the CPU per picture ---------------------------------------

    @torch.no_grad()
    def sample_vectors(
        self, text: Tensor, generators: Generators, *, steps: int = 25, guidance: float = 1.0
    ) -> Tensor:
        """Sample the CLIP vectors of n pictures of a caption, 1 T, or of n: n E, of length 1."""
        noise = gaussian_noise(generators, self.vector_mean.shape).to(text.device)
        cond, uncond = (_rows(tokens, len(noise)) for tokens in self.encode_text(text))
        z = euler(guided(self.prior, cond, uncond, guidance), noise, steps)
        return F.normalize(z * self.vector_std + self.vector_mean, dim=-1)

    @torch.no_grad()
    def draw(
        self, text: Tensor, generators: Generators, *, steps: int = 25, guidance: float = 2.0,
        vector: Tensor | None = None, use_caption: bool = True, use_vector: bool = True,
    ) -> Tensor:  # fmt: skip
        """Draw n pictures of a caption, 1 T, or of n: n 3 H W in [0, 1].

        vector: CLIP vectors, E or n E; None: sampled by the prior. steps: of each flow. guidance:
        of the decoder, 1 for none. use_caption, use_vector: whether the decoder gets them.
        Raises MinidalleError where captions and vectors are neither one nor n.
        """
        c, n = self.config, len(generators)
        noise = gaussian_noise(generators, (3, c.image_size, c.image_size)).to(text.device)
        z = nothing = self.vector_mean.new_zeros(n, c.embedding)
        if use_vector:
            if vector is None:
                vector = self.sample_vectors(text, generators, steps=steps)
            z = _rows(self.standardise(torch.atleast_2d(vector)), n)
        encoded = self.encode_text(text if use_caption else self.empty_caption)
        captions, empty = (_rows(tokens, n) for tokens in encoded)
        cond, uncond = self.decoder_context(captions, z), self.decoder_context(empty, nothing)
        x = euler(guided(self.decoder, cond, uncond, guidance), noise, steps)
        return ((x + 1) / 2).clamp(0, 1)

    def variations(self, vector: Tensor, generators: Generators, **settings: Any) -> Tensor:
        """Draw n pictures of a CLIP vector alone, E, or of n: n 3 H W. settings: as of `draw`."""
        return self.draw(self.empty_caption, generators, vector=vector, **settings)

    def interpolate(self, a: Tensor, b: Tensor, n: int, seed: int = 0, **settings: Any) -> Tensor:
        """Draw n pictures from CLIP vector a to b, E each, all from the same noise: n 3 H W."""
        generators = [torch.Generator().manual_seed(seed) for _ in range(n)]
        return self.variations(slerp(a, b, n), generators, **settings)


def _rows(x: Tensor, n: int) -> Tensor:
    """Captions or vectors of n pictures, given for each of them or one for all."""
    if len(x) not in (1, n):
        raise MinidalleError(f"{n} generators draw {n} pictures: give 1 or {n}, not {len(x)}")
    return x.expand(n, *x.shape[1:])


def slerp(a: Tensor, b: Tensor, n: int) -> Tensor:
    """n unit vectors at equal angles along the great circle from a to b, E each: n E."""
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    across = b - (a @ b) * a  # at right angles to a
    angles = torch.linspace(0, 1, n, device=a.device)[:, None] * torch.atan2(across.norm(), a @ b)
    return angles.cos() * a + angles.sin() * F.normalize(across, dim=-1)
