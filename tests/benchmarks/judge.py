"""The accuracy of the judge, in tables: the long version of tests/world/test_judge.py.

    python -m tests.benchmarks.judge [pictures per split, default 5000]

The storybook's seed 77 is used for nothing else. 5000 pictures per split take ten minutes.
"""

import sys
import time
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from tqdm import tqdm

from minidalle import judge
from minidalle.world.captions import parse
from minidalle.world.facts import mutations
from minidalle.world.scenes import SPLITS
from tests.world.test_judge import (
    BOOK,
    NEIGHBOURS,
    RUINED,
    SOFT,
    blurred,
    noisy,
    shifted,
    tinted,
    to_bytes,
)


def wobbly(image, rng, pixels=0.7):
    """A smooth random displacement of about `pixels` pixels, like the ragged lines of a model."""
    coarse = rng.normal(0, 1, (2, 12, 12))
    grid = np.linspace(0, 11, 48)
    low, part = np.minimum(grid.astype(int), 10), grid - np.minimum(grid.astype(int), 10)
    field = coarse[:, low] * (1 - part)[:, None] + coarse[:, low + 1] * part[:, None]
    field = field[:, :, low] * (1 - part) + field[:, :, low + 1] * part
    field *= pixels / field.std()
    rows, columns = np.mgrid[:48, :48] + field
    return bilinear(image, np.clip(rows, 0, 47), np.clip(columns, 0, 47))


def bilinear(image, rows, columns):
    y, x = np.minimum(rows.astype(int), 46), np.minimum(columns.astype(int), 46)
    b, a = (rows - y)[..., None], (columns - x)[..., None]
    upper = image[y, x] * (1 - a) + image[y, x + 1] * a
    lower = image[y + 1, x] * (1 - a) + image[y + 1, x + 1] * a
    return to_bytes(upper * (1 - b) + lower * b)


def like_a_model(image, rng):
    """Wobble, tint, a soft edge and some noise at once."""
    image = tinted(blurred(wobbly(image, rng), 0.7), 12, rng)
    return to_bytes(image + rng.normal(0, 4, image.shape))


DEGRADED = {
    **SOFT,
    "blur 2": lambda image, i, rng: blurred(image, 2.0),
    "blur 3": lambda image, i, rng: blurred(image, 3.0),
    "noise 24": lambda image, i, rng: noisy(image, 24, rng),
    "noise 48": lambda image, i, rng: noisy(image, 48, rng),
    "shift 2": lambda image, i, rng: shifted(
        shifted(image, *NEIGHBOURS[i % 8]), *NEIGHBOURS[i % 8]
    ),
    "tint 20": lambda image, i, rng: tinted(image, 20, rng),
    "wobble 0.7": lambda image, i, rng: wobbly(image, rng),
    "wobble 1.2": lambda image, i, rng: wobbly(image, rng, 1.2),
    "like a model": lambda image, i, rng: like_a_model(image, rng),
}


def numbered(n: int, name: str) -> Iterable[int]:
    return tqdm(range(n), name, leave=False)


def fresh(n: int) -> None:
    wrong = []
    print(f"\nfresh pictures, {n} per split: captions judged right")
    for split in SPLITS:
        right = 0
        for i in numbered(n, split):
            caption = BOOK.caption(split, i, ("en", "zh")[i % 2])
            verdict = judge.score(BOOK.image(split, i), caption)
            right += verdict.right
            if not verdict.right:
                wrong.append((split, i, caption, verdict.reasons))
        print(f"  {split:14s} {right / n:8.2%}", flush=True)
    for line in wrong[:12]:
        print("   ", *line)


def degraded(n: int) -> None:
    print(f"\ndegraded validation pictures, {n} per row: captions judged right")
    for name, degrade in DEGRADED.items():
        rng = np.random.default_rng(1)
        right = [
            judge.score(
                degrade(BOOK.image("validation", i), i, rng), BOOK.caption("validation", i)
            ).right
            for i in numbered(n, name)
        ]
        print(f"  {name:14s} {np.mean(right):8.2%}", flush=True)


def ruined(n: int) -> None:
    print(f"\nvalidation pictures with one thing ruined, {n} per row: captions judged wrong")
    for name, ruin in RUINED.items():
        rng = np.random.default_rng(2)
        wrong = []
        for i in numbered(n, name):
            scene = BOOK.scene("validation", i)
            which = int(rng.integers(len(scene.corners)))
            image = ruin(scene, BOOK.image("validation", i), which, rng)
            wrong.append(not judge.score(image, BOOK.caption("validation", i)).right)
        print(f"  {name:16s} {np.mean(wrong):8.2%}", flush=True)


def mutated(n: int) -> None:
    tried: dict[str, list[tuple[bool, bool]]] = {}
    for i in numbered(n, "mutations"):
        reading = judge.read(BOOK.image("validation", i))
        for fact, facts in mutations(parse(BOOK.caption("validation", i))):
            verdict = judge.compare_reading(reading, facts)
            only = [f for f, right in verdict.facts.items() if not right] == [fact]
            tried.setdefault(fact, []).append((not verdict.right, only))
    print(
        f"\ncaptions of {n} validation pictures with one fact changed: rejected, for that fact only"
    )
    for fact, results in tried.items():
        rejected, only = np.mean(results, 0)
        print(f"  {fact:10s} {len(results):7d} {rejected:8.2%} {only:8.2%}")


def speed(n: int = 200) -> None:
    images = [BOOK.image("train", i) for i in range(n)]
    for image in images:
        judge.read(image)  # fill the caches
    marks = [time.process_time()]
    for image in images:
        judge.read(image)
        marks.append(time.process_time())
    spent = [b - a for a, b in pairwise(marks)]
    print(f"\nspeed: {np.median(spent) * 1e3:.1f} ms of processor time per picture (one core)")


def main(n: int = 5000) -> None:
    fresh(n)
    degraded(n // 10)
    mutated(n // 5)
    ruined(n // 10)
    speed()


if __name__ == "__main__":
    main(*(int(x) for x in sys.argv[1:2]))
