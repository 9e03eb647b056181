"""Compare systems under one judge: the same captions, the first drawing, no reranking.

    right         share of validation captions whose drawing is right, in all and by skill
    compositions  the same of held-out pairs of kind and colour
    diversity     different drawings of a caption, as a share of the world's own
    FID           Fréchet distance to the split's pictures, in the features of one CLIP for all
    cost          parameters, minutes of training, pictures per second, lines of code

Over several seeds, each number is a mean with an interval: twice the standard error.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from minidalle.evaluation.diversity import relative_diversity
from minidalle.evaluation.metrics import frechet_distance, share_right_by_skill
from minidalle.evaluation.pictures import image_features
from minidalle.evaluation.systems import System
from minidalle.pipeline import MiniDALLE
from minidalle.tensors import to_uint8
from minidalle.world import judge
from minidalle.world.captions import parse
from minidalle.world.storybook import Storybook

NUM_DRAWN = 16  # drawings of one caption, for diversity and speed
NUM_DIVERSE = 20  # captions of which so many are drawn


def measure(
    system: System,
    features: MiniDALLE,
    book: Storybook,
    captions: int = 300,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, Any]:
    """One row of the table. features: a bundle whose CLIP gives FID's features."""
    row: dict[str, Any] = {
        "stage": system.stage, "name": system.name, "parameters": system.parameters,
        "minutes": round(system.minutes, 1), "lines": system.lines,
    }  # fmt: skip
    drawn: list[np.ndarray] = []
    for split in ("validation", "compositions"):
        right, skills = [], []
        for i in progress(range(captions)):
            caption = book.caption(split, i)
            [picture] = to_uint8(system.draw(caption, 1, seed + i))
            right.append(judge.score(picture, caption).right)
            skills.append(parse(caption).skill)
            if split == "validation":
                drawn.append(picture)
        row[split] = round(float(np.mean(right)), 4)
        if split == "validation":
            row["skills"] = share_right_by_skill(skills, right)
    real = [book.image("validation", i) for i in range(captions)]
    with torch.no_grad():
        row["fid"] = round(
            frechet_distance(image_features(features, real), image_features(features, drawn)), 4
        )
    relative, seconds = [], 0.0
    for i in progress(range(NUM_DIVERSE)):
        caption, began = book.caption("validation", i), time.perf_counter()
        pictures = to_uint8(system.draw(caption, NUM_DRAWN, seed))
        seconds += time.perf_counter() - began
        relative.append(relative_diversity(caption, [judge.read(p) for p in pictures]))
    row["diversity"] = round(float(np.mean(relative)), 4)
    row["images_per_second"] = round(NUM_DIVERSE * NUM_DRAWN / seconds, 1)
    return row


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per system from a row per system and seed: each number becomes (mean, ±)."""
    summary = []
    for stage in dict.fromkeys(row["stage"] for row in rows):
        own = [row for row in rows if row["stage"] == stage]
        numbers = [_flat(row) for row in own]
        line: dict[str, Any] = {"stage": stage, "name": own[0]["name"], "seeds": len(own)}
        for key in numbers[0]:
            values = [n[key] for n in numbers if key in n]
            error = 2 * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
            line[key] = (statistics.fmean(values), error)
        summary.append(line)
    return summary


def _flat(row: dict[str, Any]) -> dict[str, float]:
    """The numbers of a row, those of the skills among them."""
    skills = {f"skill: {name}": share for name, share in row.get("skills", {}).items()}
    return {k: v for k, v in row.items() if isinstance(v, (int, float))} | skills
