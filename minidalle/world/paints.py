"""Paints: the shades in which a named colour appears, and the named mixtures of two colours."""

import math
import random
from functools import lru_cache

from minidalle.world.brush import shade
from minidalle.world.facts import COLOURS, RGB

# The shades of each colour: plain, deep, pale. A caption does not say which of them it means.
SHADES: dict[str, tuple[RGB, RGB, RGB]] = {
    colour: (rgb, shade(rgb, 0.86), shade(rgb, 1.16)) for colour, rgb in COLOURS.items()
} | {
    "black": (COLOURS["black"], (50, 48, 62), (84, 84, 100)),
    "white": (COLOURS["white"], (226, 234, 250), (255, 244, 220)),
}
NUM_SHADES = 3
MIXED_SHARE = 0.36  # of the first colour in a mixture: "reddish orange" is 36 % red


def nearest_colour(rgb: RGB) -> str:
    """The named colour nearest to an RGB value, in RGB space."""
    return min(COLOURS, key=lambda name: math.dist(COLOURS[name], rgb))


def nearest_shade(colour: str, rgb: RGB) -> int:
    """The index of the shade of a colour that is nearest to an RGB value."""
    return min(range(NUM_SHADES), key=lambda i: math.dist(SHADES[colour][i], rgb))


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """`share` of a, and the rest b."""
    r, g, b_ = (round(share * x + (1 - share) * y) for x, y in zip(a, b, strict=True))
    return r, g, b_


@lru_cache
def mixtures(excluded: tuple[str, ...] = ()) -> tuple[tuple[str, str], ...]:
    """All (first, second) pairs of colours, unless their mixture is nearest to an excluded one."""
    return tuple(
        (a, b)
        for a in COLOURS
        for b in COLOURS
        if a != b and nearest_colour(mix(COLOURS[a], COLOURS[b], MIXED_SHARE)) not in excluded
    )


def jitter(colour: str, rng: random.Random) -> RGB:
    """A colour mixed with another, by rejection: its nearest colour is still `colour`."""
    while True:
        mixed = mix(COLOURS[colour], COLOURS[rng.choice(list(COLOURS))], rng.random())
        if nearest_colour(mixed) == colour:
            return mixed
