"""The accuracy of the judge, in tables: the long version of tests/world/test_judge.py.

    python -m tests.benchmarks.judge [pictures per split, default 2000]

`calibration` shows the values behind the judge's thresholds, on `train` pictures only. The other
tables measure the accuracy with these thresholds. 2000 pictures take about 90 s on one core.
"""

import sys
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np

from minidalle import judge
from minidalle.world.captions import parse
from minidalle.world.facts import KINDS, mutations
from minidalle.world.scenes import SPAN, SPLITS, render
from minidalle.world.storybook import Storybook
from tests.world.test_judge import (
    NEIGHBOURS,
    RUINED,
    blurred,
    noisy,
    shifted,
    shuffled,
    smeared,
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


def tinted(image, rng, grey=12):
    """Each colour channel a little brighter or darker everywhere."""
    return to_bytes(image + rng.uniform(-grey, grey, 3))


def like_a_model(image, rng):
    """Wobble, tint, a soft edge and some noise at once."""
    image = tinted(blurred(wobbly(image, rng), 0.7), rng)
    return to_bytes(image + rng.normal(0, 4, image.shape))


SOFT = {
    "as drawn": lambda image, i, rng: image,
    "blur 0.5": lambda image, i, rng: blurred(image, 0.5),
    "blur 1": lambda image, i, rng: blurred(image, 1.0),
    "blur 1.5": lambda image, i, rng: blurred(image, 1.5),
    "blur 2": lambda image, i, rng: blurred(image, 2.0),
    "blur 3": lambda image, i, rng: blurred(image, 3.0),
    "noise 8": lambda image, i, rng: noisy(image, 8, rng),
    "noise 16": lambda image, i, rng: noisy(image, 16, rng),
    "noise 32": lambda image, i, rng: noisy(image, 32, rng),
    "shift 1": lambda image, i, rng: shifted(image, *NEIGHBOURS[i % 8]),
    "shift 2": lambda image, i, rng: shifted(
        shifted(image, *NEIGHBOURS[i % 8]), *NEIGHBOURS[i % 8]
    ),
    "tint 20": lambda image, i, rng: tinted(image, rng, 20),
    "wobble 0.7": lambda image, i, rng: wobbly(image, rng),
    "wobble 1.2": lambda image, i, rng: wobbly(image, rng, 1.2),
    "like a model": lambda image, i, rng: like_a_model(image, rng),
}
SOUND = ("blur 1", "blur 1.5", "noise 16", "shift 1", "tint 20", "wobble 0.7", "like a model")


def blended(scene, image, i, rng):
    """Thing i and another kind, drawn over each other half and half."""
    things = list(scene.facts.things)
    kinds = [k for k in KINDS if k != things[i].kind]
    things[i] = replace(things[i], kind=str(rng.choice(kinds)))
    other = render(replace(scene, facts=replace(scene.facts, things=tuple(things))))
    return to_bytes((image.astype(float) + other) / 2)


def calibration(n: int) -> None:
    """The values on both sides of the thresholds: quantiles over single things of `train`."""
    book, rng = Storybook(), np.random.default_rng(0)
    ruined = {
        **{k: v for k, v in RUINED.items() if "half" in k},
        "smeared 4": lambda scene, image, i, rng: smeared(scene, image, i, 4.0),
        "smeared 6": lambda scene, image, i, rng: smeared(scene, image, i, 6.0),
        "shuffled": shuffled,
        "blended": blended,
    }
    print(f"\ncalibration on train ({n} pictures per row; quantiles over things)")
    print(f"  {'':16s}  {'match':>19s}  {'half match':>19s}  {'lead':>19s}   named")
    for title, marks, rows in (
        ("sound: 0.5, 2, 50 %", (0.005, 0.02, 0.5), SOUND),
        ("ruined: 50, 90, 98 %", (0.5, 0.9, 0.98), ruined),
    ):
        print(f"  {title}")
        for name in rows:
            seen = []
            for i in range(n):
                scene, image = book.scene("train", i), book.image("train", i)
                which = int(rng.integers(len(scene.corners)))
                image = (
                    SOFT[name](image, i, rng)
                    if rows is SOUND
                    else ruined[name](scene, image, which, rng)
                )
                half = SPAN[scene.facts.things[which].size] / 2
                at = np.array(scene.corners[which]) + half
                things = judge._match_things(judge._prepare(image), scene.facts.place)
                near = [m for m in things if np.abs(np.array(m[0].centre) - at).max() < half]
                if near:
                    best, second, *_ = max(near)
                    named = judge._identify([best, second])[0].thing is not None
                    seen.append((best.match, best.half_match, best.match - second.match, named))
            seen = np.array(seen)
            cells = "  ".join(
                " ".join(f"{q:6.2f}" for q in np.quantile(seen[:, k], marks)) for k in range(3)
            )
            print(f"  {name:16s} {cells}   {seen[:, 3].mean():6.1%}", flush=True)


def fresh(n: int) -> None:
    book, wrong, total = Storybook(), [], 0
    print(f"\nfresh pictures, {n} per split: captions judged right")
    for split in SPLITS:
        right = 0
        for i in range(n):
            caption = book.caption(split, i, ("en", "zh")[i % 2])
            verdict = judge.score(book.image(split, i), caption)
            right += verdict.right
            if not verdict.right:
                wrong.append((split, i, caption, verdict.reasons))
        total += right
        print(f"  {split:14s} {right / n:8.2%}", flush=True)
    print(f"  {'all':14s} {total / (n * len(SPLITS)):8.2%}")
    for line in wrong[:10]:
        print("   ", *line)


def degraded(n: int) -> None:
    book = Storybook()
    print(f"\nsoft validation pictures, {n} per row: captions judged right")
    for name, soften in SOFT.items():
        rng = np.random.default_rng(1)
        right = [
            judge.score(
                soften(book.image("validation", i), i, rng), book.caption("validation", i)
            ).right
            for i in range(n)
        ]
        print(f"  {name:14s} {np.mean(right):8.2%}", flush=True)


def ruined(n: int) -> None:
    book = Storybook()
    print(f"\nvalidation pictures with one thing ruined, {n} per row: captions judged wrong")
    for name, ruin in {**RUINED, "blended": blended}.items():
        rng = np.random.default_rng(2)
        wrong = []
        for i in range(n):
            scene = book.scene("validation", i)
            which = int(rng.integers(len(scene.corners)))
            image = ruin(scene, book.image("validation", i), which, rng)
            wrong.append(not judge.score(image, book.caption("validation", i)).right)
        print(f"  {name:16s} {np.mean(wrong):8.2%}", flush=True)


def mutated(n: int) -> None:
    book, tried = Storybook(), {}
    for i in range(n):
        image = book.image("validation", i)
        seen = judge.read(image).facts  # None where a thing is unreadable
        for fact, facts in mutations(parse(book.caption("validation", i))):
            verdict = judge.holds(facts, seen) if seen else judge.score(image, facts)
            only = [f for f, right in verdict.facts.items() if not right] == [fact]
            tried.setdefault(fact, []).append((not verdict.right, only))
    print(
        f"\ncaptions of {n} validation pictures with one fact changed: rejected, for that fact only"
    )
    for fact, results in tried.items():
        rejected, only = np.mean(results, 0)
        print(f"  {fact:10s} {len(results):7d} {rejected:8.2%} {only:8.2%}")


def speed(n: int = 200) -> None:
    book = Storybook()
    images = [book.image("train", i) for i in range(n)]
    for image in images:
        judge.read(image)  # fill the caches
    marks = [time.process_time()]
    for image in images:
        judge.read(image)
        marks.append(time.process_time())
    spent = [b - a for a, b in pairwise(marks)]
    print(f"\nspeed: {np.mean(spent) * 1e3:.1f} ms of processor time per picture (one core)")


def main(n: int = 2000) -> None:
    fresh(n)
    degraded(n // 4)
    mutated(n // 2)
    ruined(n // 4)
    calibration(n // 8)
    speed()


if __name__ == "__main__":
    main(*(int(x) for x in sys.argv[1:2]))
