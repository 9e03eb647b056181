"""Diversity: how many different pictures a model draws of one caption.

A caption leaves open where things stand, which drawing of its kind each is, which shade of its
colour, and the sky. The judge reads all of that, so pictures can be counted by what they show: two
pictures that only differ in noise count as one. The measure is the world's own: of as many fresh
renders of the same caption, as many are different as chance has it.
"""

import random
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from minidalle.world import judge
from minidalle.world.captions import parse
from minidalle.world.facts import Facts
from minidalle.world.scenes import complete, lay_out, render

Appearance = tuple  # of hashable parts: all that the judge reads of a picture


def appearance(reading: judge.Reading) -> Appearance | None:
    """Spot, drawing and shade of every thing, and the sky; None where the judge cannot read it."""
    if reading.backdrop is None or reading.problems:
        return None
    things = sorted(
        (round(f.centre[0]), round(f.centre[1]), f.pose.drawing, f.pose.mirrored, f.shade)
        for f in reading.found
    )
    return (reading.backdrop.sky, reading.backdrop.horizon, *things)


def distinct(readings: Iterable[judge.Reading]) -> int:
    """How many different appearances pictures have; one that cannot be read counts for nothing."""
    return len({appearance(reading) for reading in readings} - {None})


def fresh_renders(facts: Facts, n: int, seed: int | str) -> list[np.ndarray]:
    """n pictures of the world that show stated facts, all else by chance: uint8, H × W × 3 each."""
    rng = random.Random(f"fresh {seed}")
    return [render(lay_out(complete(facts, rng), rng)) for _ in range(n)]


def relative_diversity(
    caption: str, readings: Sequence[judge.Reading], seed: int | str = 0
) -> float:
    """Different pictures among those drawn, as a share of those among as many fresh renders."""
    return distinct(readings) / max(1, _distinct_of_the_world(caption, len(readings), seed))


@lru_cache(maxsize=1024)  # the same for every system that is compared
def _distinct_of_the_world(caption: str, n: int, seed: int | str) -> int:
    return distinct(map(judge.read, fresh_renders(parse(caption), n, seed)))
