"""Measures of a bundle: shares right, reconstruction, retrieval, Fréchet distance."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from minidalle.clip import retrieval_at_1
from minidalle.pipeline import MiniDALLE
from minidalle.quantize import Usage, usage
from minidalle.tensors import to_tensor, to_uint8
from minidalle.world import judge
from minidalle.world.facts import SKILLS
from minidalle.world.storybook import Storybook


def share_right_by_skill(skills: Sequence[str], right: Sequence[bool]) -> dict[str, float]:
    """Share right per skill, of those of the six that some caption tests."""
    by_skill = defaultdict(list)
    for skill, is_right in zip(skills, right, strict=True):
        by_skill[skill].append(is_right)
    return {skill: round(float(np.mean(by_skill[skill])), 4) for skill in SKILLS if by_skill[skill]}


class Reconstruction(NamedTuple):
    """How well the dVAE alone carries pictures."""

    psnr: float  # dB, mean over pictures
    usage: Usage
    facts_kept: list[bool]  # a caption a picture: do all its facts still hold?


@torch.no_grad()
def reconstruction(
    model: MiniDALLE, book: Storybook, split: str, language: str, n: int
) -> Reconstruction:
    """Encode and decode the split's own pictures."""
    counts = torch.zeros(model.dvae.config.codes, dtype=torch.int64)
    psnr, kept = [], []
    for start in range(0, n, 100):
        indices = range(start, min(n, start + 100))
        x = to_tensor([book.image(split, i) for i in indices], model.device)
        codes = model.dvae.encode(x)
        y = model.dvae.decode(codes)
        counts += torch.bincount(codes.flatten().cpu(), minlength=len(counts))
        psnr += (-10 * (x - y).square().mean((1, 2, 3)).clamp(min=1e-10).log10()).tolist()
        for i, picture in zip(indices, to_uint8(y), strict=True):
            kept.append(judge.score(picture, book.caption(split, i, language)).right)
    return Reconstruction(float(np.mean(psnr)), usage(counts), kept)


@torch.no_grad()
def retrieval(model: MiniDALLE, book: Storybook, split: str, language: str, n: int = 500) -> float:
    """CLIP alone: share of pictures that find their own caption among 100 different ones."""
    seen: set[str] = set()
    images: list[Tensor] = []
    captions: list[str] = []
    i = 0
    while len(captions) < n:
        caption = book.caption(split, i, language)
        if caption not in seen:
            seen.add(caption)
            captions.append(caption)
            images.append(to_tensor([book.image(split, i)], model.device))
        i += 1
    text = model.tokenizer.batch(captions, model.clip.config.text_length).to(model.device)
    image_vectors = torch.cat([model.clip.encode_image(x) for x in torch.cat(images).split(100)])
    text_vectors = torch.cat([model.clip.encode_text(t) for t in text.split(100)])
    return retrieval_at_1(image_vectors, text_vectors)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """How far apart two clouds of features lie, n × D each: the F and D of FID.

    |μa − μb|² + tr( Σa + Σb − 2 (Σa Σb)^½ ), the distance between the two Gaussians that fit best
    (Heusel et al. 2017, §A1; there the features are an Inception network's, here CLIP's). It wants
    many more rows than D: with fewer the covariances are too flat, and the distance too large.
    """
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    # The eigenvalues of Σa Σb are those of a positive matrix: real, but for rounding.
    root = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0).sqrt().sum()
    means = (a.mean(0) - b.mean(0)).square().sum()
    return max(0.0, (means + cov_a.trace() + cov_b.trace() - 2 * root).item())


def precision_recall(real: Tensor, drawn: Tensor, k: int = 3) -> tuple[float, float]:
    """Precision and recall of drawn pictures by their features, n × D and m × D.

    Precision: the share of drawn pictures that lie among real ones, no further from some real one
    than that is from its k-th nearest real one. Recall: the same with the two exchanged
    (Kynkäänniemi et al. 2019).
    """

    def share_among(points: Tensor, cloud: Tensor) -> float:
        radius = torch.cdist(cloud, cloud).kthvalue(k + 1, dim=1).values  # the nearest is itself
        return (torch.cdist(points, cloud) <= radius).any(1).float().mean().item()

    return share_among(drawn, real), share_among(real, drawn)
