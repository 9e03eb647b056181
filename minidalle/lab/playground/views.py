"""Ranked pictures, with what the judge says of each."""

from dataclasses import replace

import numpy as np

from minidalle.errors import MinidalleError
from minidalle.lab.grids import Frame, Grid, pictures
from minidalle.normalise import clean, normalise_caption, quote
from minidalle.pipeline import Ranked
from minidalle.world import judge


def verdicts(
    ranked: Ranked, frame: Frame | None = None, note: str = "", columns: int = 4, side: int = 144
) -> Grid:
    """The ranked pictures, each with its score and what the judge says of it.

    frame: the part of each that is marked; note: words about it for the alternative text.
    """
    caption = normalise_caption(ranked.caption)  # as the models read it
    titles = [
        f"{score:.3f}\n{_read(image, caption)}"
        for image, score in zip(ranked.images, ranked.scores, strict=True)
    ]
    asked = f"{quote(clean(ranked.caption))}{', ' if note else ''}{note}"
    return pictures(
        list(ranked.images), titles, columns, side, frame=frame,
        alt=f"{len(titles)} pictures of {asked}, best first: " + "; ".join(titles),
    )  # fmt: skip


def _read(image: np.ndarray, caption: str) -> str:
    try:
        verdict = judge.score(image, caption)
    except MinidalleError:
        return "not a storybook caption"
    return "right" if verdict.right else "; ".join(verdict.reasons)


def best(ranked: Ranked, keep: int) -> Ranked:
    """The first of ranked pictures."""
    parts = ("images", "scores", "codes", "order")
    return replace(ranked, **{part: getattr(ranked, part)[:keep] for part in parts})


def growing(images: np.ndarray, rows: int, grid: int) -> Grid:
    """Pictures of which only the first rows of codes are drawn."""
    blank = images.copy()
    blank[:, blank.shape[1] * rows // grid :] = 255
    return pictures(
        list(blank), columns=4, side=144, alt=f"{rows} of {grid} rows of codes are drawn"
    )
