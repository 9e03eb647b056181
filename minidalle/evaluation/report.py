"""Measure a bundle: is what it draws what the caption says?

Every caption of a held-out split is drawn; the judge reads the pictures back; a caption counts as
right when every fact that it states holds. The same captions are counted twice: by the first
candidate, and by the one that CLIP ranks first of many. What is lost by the latter has two parts:

    prior    none of the candidates is right
    rerank   some candidate is right, but CLIP put another first

Beside them stands what the dVAE loses by itself, a bound on what can be drawn with its codes:

    dvae     the caption's own picture, only encoded and decoded, already loses a fact
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from minidalle.clip import rerank
from minidalle.errors import MinidalleError
from minidalle.evaluation.metrics import reconstruction, retrieval, share_right_by_skill
from minidalle.pipeline import MiniDALLE
from minidalle.tensors import to_uint8
from minidalle.world import judge
from minidalle.world.captions import parse
from minidalle.world.storybook import Storybook


class JudgedCaption(NamedTuple):
    """One caption, judged."""

    caption: str
    skill: str
    right: list[bool]  # of each candidate, in the order in which they were drawn
    order: list[int]  # candidates as CLIP ranks them, best first
    first: np.ndarray  # uint8 H W 3, candidate 0
    best: np.ndarray  # uint8 H W 3, CLIP's choice

    def right_of_best(self, n: int) -> bool:
        """Whether CLIP's choice among the first n candidates is right."""
        return self.right[next(c for c in self.order if c < n)]


@torch.no_grad()
def generate_and_judge(
    model: MiniDALLE, book: Storybook, split: str, language: str, captions: int, n: int, seed: int
) -> Iterator[JudgedCaption]:
    """Draw n candidates of every caption and judge each picture."""
    for i in range(captions):
        caption = book.caption(split, i, language)
        facts = parse(caption)
        _, images = model.candidates(caption, n, seed + i)
        order = rerank(model.clip, images, model.text_for_clip(caption))[0].tolist()
        pictures = to_uint8(images)
        right = [judge.score(picture, facts).right for picture in pictures]
        yield JudgedCaption(caption, facts.skill, right, order, pictures[0], pictures[order[0]])


def evaluate(
    model: MiniDALLE,
    split: str = "validation",
    language: str = "en",
    captions: int = 600,
    candidates: Sequence[int] = (1, 32),
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[dict, list[JudgedCaption]]:
    """The whole report, ready for JSON, and every caption's drawings.

    candidates: how many drawings CLIP chooses from, for each column of the report. 1 is the first
    drawing, with no choice. Raises MinidalleError where there is nothing to count.
    """
    if captions < 1 or min(candidates, default=0) < 1:
        raise MinidalleError("captions and candidates must be at least 1")
    book = Storybook(model.dvae.config.image_size)
    most = max(candidates)
    judged = list(progress(generate_and_judge(model, book, split, language, captions, most, seed)))
    columns = {}
    for n in candidates:
        right = [caption.right_of_best(n) for caption in judged]
        columns[str(n)] = {
            "overall": _share(right),
            "skills": share_right_by_skill([caption.skill for caption in judged], right),
        }
    dvae = reconstruction(model, book, split, language, captions)
    possible = [any(caption.right) for caption in judged]
    missed = [any(caption.right) and not caption.right_of_best(most) for caption in judged]
    report: dict[str, Any] = {
        "split": split,
        "language": language,
        "captions": captions,
        "seed": seed,
        "candidates": columns,
        "dvae": {
            "psnr": round(dvae.psnr, 2),
            "codes_used": round(dvae.usage.used, 4),
            "perplexity": round(dvae.usage.perplexity, 1),
            "facts_kept": _share(dvae.facts_kept),
        },
        "clip": {"retrieval_at_1_of_100": round(retrieval(model, book, split, language), 4)},
        "error": {
            "dvae": round(1 - float(np.mean(dvae.facts_kept)), 4),
            "prior": round(1 - float(np.mean(possible)), 4),
            "rerank": _share(missed),
        },
    }
    return report, judged


def _share(values: Sequence[bool]) -> float:
    return round(float(np.mean(values)), 4)
