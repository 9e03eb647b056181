"""Compare systems under one judge: the same captions, the first drawing, no reranking.

    right         of validation captions, and of held-out pairs of kind and colour (compositions)
    diversity     how many drawings of one caption differ, as a share of the world's own
    FID           Fréchet distance of first drawings to the pictures of the validation split, in
                  the features of one CLIP for all systems
    speed         pictures per second, several of one caption at a time

FID grows as pictures get fewer (`metrics.frechet_distance`): compare it at equal `captions` only.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import product

import numpy as np
import torch

from minidalle.errors import MinidalleError
from minidalle.evaluation.diversity import relative_diversity
from minidalle.evaluation.metrics import frechet_distance
from minidalle.evaluation.pictures import FEWEST, image_features
from minidalle.evaluation.summary import Measured
from minidalle.evaluation.systems import System
from minidalle.pipeline import MiniDALLE
from minidalle.tensors import to_uint8
from minidalle.world import judge
from minidalle.world.captions import parse
from minidalle.world.storybook import Storybook

SPLITS = ("validation", "compositions")
NUM_DIVERSE = 30  # captions of which several pictures are drawn
REPEATS = 5  # of the timing, whose median counts
# Chosen before anything was drawn: each of the six skills, and a colour that training never shows.
EXAMPLES = (
    "a rabbit", "a yellow umbrella on the sand", "a big brown bear in the snow",
    "a dog and a ball by the sea", "three apples on the grass", "a cat left of a house",
    "a red car and a white dog at night", "a blue car on the road",
)  # fmt: skip
LONE_EXAMPLES = (
    "a rabbit", "a yellow umbrella on the sand", "a big brown bear in the snow",
    "a red rocket at night", "a small green boat by the sea", "a pink flower on the grass",
    "an orange fish", "a blue car on the road",
)  # fmt: skip

# The items of some work, and its name → the same items, with a bar
Progress = Callable[[Sequence, str], Iterable]


@torch.no_grad()
def measure(
    systems: Sequence[System],
    features: MiniDALLE,
    book: Storybook,
    *,
    captions: int = 300,
    candidates: int = 16,
    seed: int = 0,
    progress: Progress = lambda items, _: items,
) -> list[Measured]:
    """Measure every system on the same captions of each split.

    features: a bundle whose CLIP gives FID's features; candidates: pictures of one caption, for
    diversity and speed. Raises MinidalleError where there is too little to count.
    """
    if captions < FEWEST or candidates < 2:
        raise MinidalleError(
            f"captions must be at least {FEWEST} and candidates at least 2, got {captions} and"
            f" {candidates}"
        )
    right: list[dict[str, list[bool]]] = [{split: [] for split in SPLITS} for _ in systems]
    drawn: list[list[np.ndarray]] = [[] for _ in systems]
    jobs = list(product(range(len(systems)), SPLITS, range(captions)))
    for k, split, i in progress(jobs, "judging"):
        caption = book.caption(split, i)
        [picture] = to_uint8(systems[k].draw(caption, 1, seed + i))
        right[k][split].append(judge.score(picture, caption).right)
        if split == "validation":
            drawn[k].append(picture)
    diversity: list[list[float]] = [[] for _ in systems]
    repeated = list(product(range(len(systems)), range(min(NUM_DIVERSE, captions))))
    for k, i in progress(repeated, "diversity"):
        caption = book.caption("validation", i)
        pictures = to_uint8(systems[k].draw(caption, candidates, seed + i))
        readings = [judge.read(picture) for picture in pictures]
        diversity[k].append(relative_diversity(caption, readings))
    real = image_features(features, [book.image("validation", i) for i in range(captions)])
    fid = [frechet_distance(real, image_features(features, pictures)) for pictures in drawn]
    speed = pictures_per_second(systems, EXAMPLES[0], candidates, REPEATS, progress)
    return [Measured(*row) for row in zip(systems, right, diversity, fid, speed, strict=True)]


def skills(book: Storybook, captions: int) -> list[str]:
    """The skill that each of the first validation captions tests."""
    return [parse(book.caption("validation", i)).skill for i in range(captions)]


def pictures_per_second(
    systems: Sequence[System],
    caption: str,
    n: int,
    repeats: int = REPEATS,
    progress: Progress = lambda items, _: items,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """How fast each system draws n pictures of a caption at a time: the median of some repeats.

    The systems take turns, so that a busy minute of the machine does not fall on one of them. A
    first round warms up and does not count.
    """
    seconds: list[list[float]] = [[] for _ in systems]
    turns = list(product(range(1 + repeats), range(len(systems))))
    for repeat, k in progress(turns, "speed"):
        began = clock()
        to_uint8(systems[k].draw(caption, n, repeat))  # on the CPU: nothing is left to compute
        seconds[k].append(clock() - began)
    return [n / statistics.median(taken[1:]) for taken in seconds]


def draw_examples(
    systems: Sequence[System], lone: bool, seed: int = 0
) -> tuple[list[str], list[list[np.ndarray]]]:
    """The example captions, and for each a row of first drawings, one per system."""
    captions = list(LONE_EXAMPLES if lone else EXAMPLES)
    rows = [
        [to_uint8(system.draw(caption, 1, seed))[0] for system in systems] for caption in captions
    ]
    return captions, rows
