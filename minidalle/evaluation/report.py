"""Measure a bundle: is what it draws what the caption says?

Every caption of a held-out split is drawn; the judge reads the pictures back; a caption counts as
right when every fact that it states holds. The same captions are counted twice: by the first
candidate, and by the one that CLIP ranks first of many. What is lost by the latter has two parts:

    prior    none of the candidates is right
    rerank   some candidate is right, but CLIP put another first

Beside them stands what the dVAE loses by itself, a bound on what can be drawn with its codes:

    dvae     the caption's own picture, only encoded and decoded, already loses a fact

And whether the pictures are as different as the world's own: how many of the candidates differ
(`diversity`), whether the four that `generate` shows do, and precision and recall of first drawings
against the split's own pictures, in CLIP's features.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from minidalle.clip import rerank
from minidalle.errors import MinidalleError
from minidalle.evaluation.diversity import distinct, relative_diversity
from minidalle.evaluation.metrics import (
    precision_recall,
    reconstruction,
    retrieval,
    share_right_by_skill,
)
from minidalle.evaluation.pictures import image_features
from minidalle.pipeline import MiniDALLE, distinct_first
from minidalle.tensors import to_uint8
from minidalle.world import judge
from minidalle.world.captions import parse
from minidalle.world.facts import Facts
from minidalle.world.storybook import Storybook

NUM_DIVERSITY = 100  # captions whose diversity is measured: each takes as many fresh pictures again
NUM_SHOWN = 4  # pictures that `generate` shows by default


class JudgedCaption(NamedTuple):
    """One caption, judged."""

    caption: str
    skill: str
    right: list[bool]  # of each candidate, in the order in which they were drawn
    order: list[int]  # candidates as CLIP ranks them, best first
    readings: list[judge.Reading]  # of each candidate
    shown: list[int]  # the candidates that `generate` would show
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
        codes, images = model.candidates(caption, n, seed + i)
        order = rerank(model.clip, images, model.text_for_clip(caption))[0].tolist()
        pictures = to_uint8(images)
        readings = [judge.read(picture) for picture in pictures]
        right = [judge.compare_reading(reading, facts).right for reading in readings]
        shown = [order[place] for place in distinct_first(codes[order])[:NUM_SHOWN]]
        yield JudgedCaption(
            caption, facts.skill, right, order, readings, shown, pictures[0], pictures[order[0]]
        )


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
        "diversity": _diversity(model, book, split, judged),
        "clip": {"retrieval_at_1_of_100": round(retrieval(model, book, split, language), 4)},
        "error": {
            "dvae": round(1 - float(np.mean(dvae.facts_kept)), 4),
            "prior": round(1 - float(np.mean(possible)), 4),
            "rerank": _share(missed),
        },
    }
    return report, judged


@torch.no_grad()
def _diversity(
    model: MiniDALLE, book: Storybook, split: str, judged: Sequence[JudgedCaption]
) -> dict[str, float | None]:
    """How different the pictures are: None where there are too few captions to tell."""
    relative = [relative_diversity(j.caption, j.readings) for j in judged[:NUM_DIVERSITY]]
    # Of captions that state every fact, so that no two of the four differ in what is asked for.
    whole = [j for j in judged if is_complete(parse(j.caption)) and len(j.shown) == NUM_SHOWN]
    differ = [distinct(j.readings[c] for c in j.shown) == NUM_SHOWN for j in whole]
    precision = recall = None
    if len(judged) > 3:  # else no picture has a third nearest other
        real = image_features(model, [book.image(split, i) for i in range(len(judged))])
        drawn = image_features(model, [j.first for j in judged])
        precision, recall = (round(share, 4) for share in precision_recall(real, drawn))
    return {
        "candidates_of_the_worlds": round(float(np.mean(relative)), 4),
        "four_shown_differ": _share(differ) if differ else None,
        "precision": precision,
        "recall": recall,
    }


def is_complete(facts: Facts) -> bool:
    """Whether a caption states all it can: colours, the place, and how two things stand."""
    stated = [thing.colour for thing in facts.things] + [facts.place]
    return None not in stated and (len(set(facts.things)) == 1 or facts.relation is not None)


def _share(values: Sequence[bool]) -> float:
    return round(float(np.mean(values)), 4)
