"""The six places, drawn with the brush of `sprites`: a sky, a ground and a few details."""

from functools import lru_cache

import numpy as np

from minidalle.world.facts import RGB
from minidalle.world.sprites import Brush

HORIZON = 0.56  # height of the horizon, 0 … 1 from the top


# One function per place. b is the brush, in unit coordinates.


def grass(b: Brush) -> None:
    sky(b, (166, 216, 252), (112, 190, 84))
    cloud(b, 0.2, 0.13)
    for x, y in ((0.1, 0.66), (0.32, 0.94), (0.55, 0.72), (0.83, 0.9), (0.94, 0.64)):
        b.line([(x - 0.02, y - 0.035), (x, y), (x + 0.025, y - 0.04)], (70, 146, 58), 0.9)


def snow(b: Brush) -> None:
    sky(b, (196, 214, 236), (240, 246, 252))
    b.poly([(0, 0.56), (0.22, 0.46), (0.5, 0.56)], (224, 234, 246), None)
    b.poly([(0.5, 0.56), (0.78, 0.44), (1, 0.56)], (224, 234, 246), None)
    for x, y in ((0.07, 0.1), (0.24, 0.3), (0.43, 0.08), (0.6, 0.26), (0.79, 0.12), (0.93, 0.33)):
        b.dot(x, y, 0.9, (250, 252, 255))


def sand(b: Brush) -> None:
    sky(b, (255, 226, 180), (232, 196, 128))
    b.oval(0.84, 0.16, 0.1, 0.1, (255, 246, 214), None)
    b.poly([(0, 0.58), (0.3, 0.48), (0.7, 0.58)], (222, 182, 112), None)
    for x, y in ((0.15, 0.72), (0.4, 0.9), (0.62, 0.7), (0.86, 0.82)):
        b.dot(x, y, 0.8, (198, 156, 90))


def sea(b: Brush) -> None:
    sky(b, (190, 232, 246), (60, 146, 200))
    cloud(b, 0.76, 0.14)
    for y in (0.64, 0.76):
        for x in (0.08, 0.42, 0.76) if y < 0.7 else (0.25, 0.59, 0.9):
            b.line([(x - 0.06, y), (x, y - 0.02), (x + 0.06, y)], (150, 210, 236), 0.9)
    b.box(0, 0.875, 1, 1, (238, 212, 156), None)
    b.box(0, 0.86, 1, 0.885, (236, 248, 252), None)


def night(b: Brush) -> None:
    sky(b, (52, 56, 112), (52, 78, 92))
    b.oval(0.85, 0.14, 0.09, 0.09, (250, 240, 190), None)
    b.oval(0.81, 0.12, 0.08, 0.08, (52, 56, 112), None)
    for x, y in ((0.08, 0.12), (0.28, 0.06), (0.5, 0.2), (0.2, 0.36), (0.66, 0.08), (0.72, 0.38)):
        b.dot(x, y, 0.8, (236, 232, 190))


def road(b: Brush) -> None:
    sky(b, (214, 222, 226), (128, 130, 138))
    b.box(0, 0.53, 1, 0.6, (150, 176, 120), None)
    b.box(0, 0.6, 1, 0.62, (228, 228, 224), None)
    for x in (0.02, 0.36, 0.7):
        b.box(x, 0.8, x + 0.2, 0.83, (248, 244, 210), None)


def sky(b: Brush, above: RGB, ground: RGB) -> None:
    """Fill the picture with sky and ground."""
    b.box(0, 0, 1, HORIZON, above, None)
    b.box(0, HORIZON, 1, 1, ground, None)


def cloud(b: Brush, x: float, y: float) -> None:
    """A cloud about the centre (x, y)."""
    for dx, r in ((-0.08, 0.045), (0.0, 0.065), (0.08, 0.05)):
        b.oval(x + dx, y, r * 1.2, r, (246, 250, 255), None)


GROUNDS = {draw.__name__: draw for draw in (grass, snow, sand, sea, night, road)}


@lru_cache(maxsize=64)
def backdrop(place: str, width: int) -> np.ndarray:
    """An empty place: uint8, width × width × 3."""
    brush = Brush(width, background=(255, 255, 255, 255))
    GROUNDS[place](brush)
    return brush.finish(width)[..., :3]
