"""CLIP: two towers that embed pictures and captions in one space.

    similarity = cosine( image tower(picture), text tower(caption) )

In a batch of B pairs, every picture must find its own caption among B, and every caption its own
picture (Radford et al. 2021, figure 3). This is InfoNCE in both directions: with logits
L = exp(s) · similarities, B × B,

    loss = ½ · cross-entropy(rows of L, diagonal) + ½ · cross-entropy(columns of L, diagonal)

Both halves are needed: rows alone overlook a picture that is near every caption, and columns alone
a caption that is near every picture.
DALL·E samples many candidates and keeps those that CLIP ranks first (Ramesh et al. 2021, §2.6).

Shapes: B batch, P patches, T text tokens, D width, E embedding, S sequence of a tower.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops.layers.torch import Rearrange
from torch import Tensor, nn

from minidalle.errors import MinidalleError, check_fields
from minidalle.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class CLIPConfig:
    """The shape of both towers."""

    vocab_size: int = 2048  # text tokens, padding left out: the tokenizer's
    text_length: int = 32  # T, tokens a caption is padded or cut to
    image_size: int = 48  # pixels across a picture
    patch: int = 8  # pixels across a patch
    width: int = 192  # D of both towers
    image_layers: int = 4
    text_layers: int = 3
    heads: int = 6
    embedding: int = 128  # E, dimensions of the common space
    max_scale: float = 100.0  # maximum of exp(s), the inverse temperature (CLIP: 100)

    @property
    def std(self) -> float:
        """Standard deviation of the initial weights: 1/√D, as in CLIP's own code. GPT-2's 0.02 is
        meant for D = 768; in so narrow a tower attention stays uniform for hundreds of updates."""
        return self.width**-0.5

    def __post_init__(self) -> None:
        check_fields(
            self, vocab_size=(1, 1_000_000), text_length=(1, 4096), image_size=(1, 4096),
            patch=(1, 4096), width=(1, 65_536), image_layers=(1, 1000), text_layers=(1, 1000),
            heads=(1, 1024), embedding=(1, 65_536), max_scale=(1, 1e6),
        )  # fmt: skip
        if self.image_size % self.patch:
            raise MinidalleError(
                f"image_size {self.image_size} is not a multiple of patch {self.patch}; change one"
            )


class CLIPLosses(NamedTuple):
    """Scalars: losses in nats, accuracies as shares of the batch."""

    total: Tensor
    image_to_text: Tensor
    text_to_image: Tensor
    accuracy: Tensor  # share of pictures whose own caption has the highest similarity


class Tower(nn.Module):
    """A class token and S vectors, B S D, become one unit vector, B E."""

    def __init__(self, length: int, layers: int, config: CLIPConfig) -> None:
        super().__init__()
        c = config
        self.class_embedding = nn.Parameter(c.std * torch.randn(c.width))
        self.position = nn.Parameter(c.std * torch.randn(length, c.width))
        self.transformer = Transformer(c.width, layers, c.heads, std=c.std)
        self.project = nn.Linear(c.width, c.embedding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x + self.position], dim=1)
        return F.normalize(self.project(self.transformer(x)[:, 0]).float(), dim=-1)


class CLIP(nn.Module):
    """Images (B 3 H W in [0, 1]) and captions (B T ids, padded) to unit vectors, B E."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.config = c = config
        self.patches = nn.Sequential(
            Rearrange("b c (h p) (w q) -> b (h w) (c p q)", p=c.patch, q=c.patch),
            nn.Linear(3 * c.patch**2, c.width),
        )
        self.token_embedding = nn.Embedding(c.vocab_size + c.text_length, c.width)
        nn.init.normal_(self.token_embedding.weight, std=c.std)
        self.image_tower = Tower((c.image_size // c.patch) ** 2, c.image_layers, c)
        self.text_tower = Tower(c.text_length, c.text_layers, c)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # s, CLIP's initial value

    def encode_image(self, images: Tensor) -> Tensor:
        """B 3 H W in [0, 1] → B E, of length one."""
        return self.image_tower(self.patches(2 * images - 1))

    def encode_text(self, text: Tensor) -> Tensor:
        """B T ids → B E, of length one."""
        return self.text_tower(self.token_embedding(text))

    def forward(self, images: Tensor, text: Tensor) -> CLIPLosses:
        """The symmetric contrastive loss of B pairs; no caption may occur twice in a batch."""
        image, text = self.encode_image(images), self.encode_text(text)
        return contrastive_loss(image, text, self.similarity_scale())

    def similarity_scale(self) -> Tensor:
        """exp(s), at most `max_scale`: what similarities are multiplied by in the loss."""
        # Capped in value only: with its gradient cut as well, s could never come down again.
        over = (self.logit_scale - math.log(self.config.max_scale)).clamp(min=0).detach()
        return (self.logit_scale - over).exp()


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor) -> CLIPLosses:
    """InfoNCE both ways, on unit vectors, B E each."""
    logits = scale * image @ text.T  # B B
    target = torch.arange(len(logits), device=logits.device)
    rows, columns = F.cross_entropy(logits, target), F.cross_entropy(logits.T, target)
    accuracy = (logits.argmax(1) == target).float().mean()
    return CLIPLosses((rows + columns) / 2, rows, columns, accuracy)


@torch.no_grad()
def rerank(clip: CLIP, images: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Rank n candidates of one caption: their order, best first, and similarities in that order.

    Raises MinidalleError where a similarity is NaN or infinite.
    """
    similarity = clip.encode_image(images) @ clip.encode_text(text)[0]
    if not similarity.isfinite().all():  # NaN has no rank
        raise MinidalleError(
            "similarity is not finite, so the pictures cannot be ranked; fetch a fresh copy of the"
            " bundle"
        )
    order = similarity.argsort(descending=True, stable=True)
    return order, similarity[order]


@torch.no_grad()
def retrieval_at_1(image: Tensor, text: Tensor, pool: int = 100) -> float:
    """Retrieval@1: share of pictures whose own caption is the nearest of `pool`; vectors B E.

    The B pairs are divided into pools in order; a last, smaller pool is left out.
    """
    if len(image) < pool:
        raise MinidalleError(f"{len(image)} pairs do not fill one pool of {pool}; give more pairs")
    hits = [
        (i @ t.T).argmax(1) == torch.arange(pool, device=i.device)
        for i, t in zip(image.split(pool), text.split(pool), strict=True)
        if len(i) == pool
    ]
    return torch.cat(hits).float().mean().item()
