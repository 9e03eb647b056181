"""Measure a bundle: is what it draws what the caption says?

Every caption of a held-out split is drawn; the judge reads the pictures back; a caption counts as
right when every fact that it states holds. The same captions are counted twice: by the first
candidate, and by the one that CLIP ranks first of many. What is lost by the latter has two parts:

    prior    none of the candidates is right
    rerank   some candidate is right, but CLIP put another first

Beside them stands what the dVAE loses by itself, a bound on what can be drawn with its codes:

    dvae     the caption's own picture, only encoded and decoded, already loses a fact
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from minidalle.clip import retrieval_at_1
from minidalle.datasets.source import to_tensor, to_uint8
from minidalle.errors import MinidalleError
from minidalle.pipeline import MiniDALLE
from minidalle.quantize import Usage, usage
from minidalle.world import judge
from minidalle.world.captions import parse
from minidalle.world.facts import SKILLS
from minidalle.world.storybook import Storybook


class Drawn(NamedTuple):
    """One caption, judged."""

    caption: str
    skill: str
    right: list[bool]  # of each candidate, in the order in which they were drawn
    order: list[int]  # candidates as CLIP ranks them, best first
    first: np.ndarray  # uint8 H W 3, candidate 0
    best: np.ndarray  # uint8 H W 3, CLIP's choice


@torch.no_grad()
def draw_all(
    model: MiniDALLE, book: Storybook, split: str, language: str, captions: int, n: int, seed: int
) -> Iterator[Drawn]:
    """Draw n candidates of every caption and judge each picture."""
    length = model.clip.config.text_length
    for i in range(captions):
        caption = book.caption(split, i, language)
        facts = parse(caption)
        _, images = model.candidates(caption, n, seed + i)
        text = model.tokenizer.batch([caption], length).to(model.device)
        scores = model.clip.encode_image(images) @ model.clip.encode_text(text)[0]
        order = scores.argsort(descending=True, stable=True).tolist()
        pictures = to_uint8(images)
        right = [judge.score(picture, facts).right for picture in pictures]
        yield Drawn(caption, facts.skill, right, order, pictures[0], pictures[order[0]])


def skills(drawn: Sequence[Drawn], right: Sequence[bool]) -> dict[str, float]:
    """Share right of each skill, of those of the six that some caption tests."""
    by_skill = defaultdict(list)
    for d, r in zip(drawn, right, strict=True):
        by_skill[d.skill].append(r)
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


def evaluate(
    model: MiniDALLE,
    split: str = "validation",
    language: str = "en",
    captions: int = 600,
    candidates: Sequence[int] = (1, 32),
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[dict, list[Drawn]]:
    """The whole report, ready for JSON, and every caption's drawings.

    candidates: how many drawings CLIP chooses from, for each column of the report. 1 is the first
    drawing, with no choice. Raises MinidalleError where there is nothing to count.
    """
    if captions < 1 or min(candidates, default=0) < 1:
        raise MinidalleError("captions and candidates must be at least 1")
    book = Storybook(model.dvae.config.image_size)
    most = max(candidates)
    drawn = list(progress(draw_all(model, book, split, language, captions, most, seed)))
    report: dict = {"split": split, "language": language, "captions": captions, "seed": seed}
    report["candidates"] = {}
    for n in candidates:
        right = [d.right[next(c for c in d.order if c < n)] for d in drawn]
        report["candidates"][str(n)] = {
            "overall": round(float(np.mean(right)), 4),
            "skills": skills(drawn, right),
        }
    dvae = reconstruction(model, book, split, language, captions)
    some = [any(d.right) for d in drawn]
    best = [d.right[d.order[0]] for d in drawn]
    report["dvae"] = {
        "psnr": round(dvae.psnr, 2),
        "codes_used": round(dvae.usage.used, 4),
        "perplexity": round(dvae.usage.perplexity, 1),
        "facts_kept": round(float(np.mean(dvae.facts_kept)), 4),
    }
    report["clip"] = {"retrieval_at_1_of_100": round(retrieval(model, book, split, language), 4)}
    report["error"] = {
        "dvae": round(1 - float(np.mean(dvae.facts_kept)), 4),
        "prior": round(1 - float(np.mean(some)), 4),
        "rerank": round(float(np.mean([s and not b for s, b in zip(some, best, strict=True)])), 4),
    }
    return report, drawn
