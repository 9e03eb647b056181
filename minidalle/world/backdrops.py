"""The six places, each in eighteen backdrops: three skies, two horizons, three layouts.

A backdrop is pixel art too: every pixel has one flat colour. Details (clouds, hills, stars, tufts)
stand on whole cells of the grid of codes, so that equal details become equal codes.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from minidalle.world.facts import PLACES, RGB

SIDE = 48  # pixels across the drawing; other sizes are resampled
CELL = 4  # pixels across a cell
HORIZONS = (24, 28)  # rows of pixels; the ground begins here
NUM_SKIES, NUM_LAYOUTS = 3, 3


@dataclass(frozen=True, order=True)
class Backdrop:
    """One of the backdrops of a place. A caption states the place only."""

    place: str
    sky: int  # 0 … 2
    horizon: int  # 0, 1
    layout: int  # 0 … 2


SKIES: dict[str, tuple[RGB, RGB, RGB]] = {  # clear, hazy, evening
    "grass": ((140, 208, 252), (186, 226, 246), (252, 220, 176)),
    "snow": ((190, 212, 240), (214, 220, 230), (226, 206, 232)),
    "sand": ((150, 216, 246), (252, 232, 186), (250, 206, 168)),
    "sea": ((150, 220, 250), (200, 232, 240), (252, 214, 196)),
    "night": ((58, 64, 142), (42, 78, 132), (94, 62, 136)),
    "road": ((160, 214, 248), (210, 218, 224), (246, 212, 178)),
}
GROUND: dict[str, RGB] = {
    "grass": (112, 190, 84),
    "snow": (238, 244, 252),
    "sand": (234, 200, 132),
    "sea": (58, 140, 204),
    "night": (86, 118, 116),
    "road": (100, 102, 114),
}
CLOUD = (
    "....######......",
    "..##########....",
    "################",
)
TUFT = ("#..#", ".##.")
STAR = (".#.", "###", ".#.")
WAVE = ("##..##", "..##..")
SUN = (
    "..####..",
    ".######.",
    "########",
    "########",
    "########",
    "########",
    ".######.",
    "..####..",
)
MOON = (
    "..###...",
    ".###....",
    "###.....",
    "###.....",
    "###.....",
    "####...#",
    ".######.",
    "..####..",
)


def _stamp(image: np.ndarray, x: int, y: int, shape: tuple[str, ...], colour: RGB) -> None:
    """Paint the marked pixels of a shape whose upper left corner is at (x, y)."""
    for row, line in enumerate(shape):
        for column, mark in enumerate(line):
            if mark == "#" and 0 <= y + row < SIDE and 0 <= x + column < SIDE:
                image[y + row, x + column] = colour


def _hill(image: np.ndarray, left: int, right: int, horizon: int, height: int, hue: RGB) -> None:
    """A stepped hill between two columns, on the horizon."""
    middle, half = (left + right) / 2, (right - left) / 2
    for x in range(max(0, left), min(SIDE, right)):
        top = round(height * (1 - abs(x + 0.5 - middle) / half) / 2) * 2
        image[horizon - top : horizon, x] = hue


# One function per place: details on the sky and the ground, for a layout of 0 … 2.


def _grass(image: np.ndarray, horizon: int, layout: int) -> None:
    for x, y in (((4, 4), (28, 8)), ((28, 4),), ((16, 8), (36, 0)))[layout]:
        _stamp(image, x, y, CLOUD, (250, 252, 255))
    for x, y in (
        ((4, 34), (28, 38), (40, 32)),
        ((8, 38), (24, 32), (40, 42)),
        ((0, 42), (16, 34), (36, 36)),
    )[layout]:
        _stamp(image, x, y, TUFT, (72, 150, 62))


def _snow(image: np.ndarray, horizon: int, layout: int) -> None:
    for left, right, height in (
        ((0, 28, 8), (24, 52, 12)),
        ((-8, 24, 12), (28, 48, 6)),
        ((8, 44, 10),),
    )[layout]:
        _hill(image, left, right, horizon, height, (220, 230, 246))
    for x, y in (
        ((5, 5), (21, 9), (33, 1), (45, 13), (13, 17)),
        ((1, 1), (17, 5), (29, 13), (41, 5), (9, 13)),
        ((9, 1), (25, 5), (41, 9), (1, 13), (33, 17)),
    )[layout]:
        _stamp(image, x, y, ("##", "##"), (255, 255, 255))


def _sand(image: np.ndarray, horizon: int, layout: int) -> None:
    for left, right, height in (((0, 32, 6),), ((20, 48, 8),), ((-12, 20, 8), (28, 56, 6)))[layout]:
        _hill(image, left, right, horizon, height, (222, 184, 114))
    _stamp(image, (36, 4, 20)[layout], 4, SUN, (255, 244, 170))
    for x, y in (((6, 36), (30, 42)), ((18, 34), (42, 38)), ((10, 42), (38, 34)))[layout]:
        _stamp(image, x, y, ("##",), (198, 158, 92))


def _sea(image: np.ndarray, horizon: int, layout: int) -> None:
    for x, y in (((28, 4),), ((4, 4), (32, 8)), ((12, 8),))[layout]:
        _stamp(image, x, y, CLOUD, (250, 252, 255))
    for x, y in (
        ((4, 30), (28, 34)),
        ((16, 30), (36, 34)),
        ((8, 34), (32, 30)),
    )[layout]:
        _stamp(image, x, y, WAVE, (150, 206, 240))
    image[40:] = (240, 216, 160)
    image[40:41] = (236, 246, 252)


def _night(image: np.ndarray, horizon: int, layout: int) -> None:
    _stamp(image, (36, 4, 20)[layout], 4, MOON, (252, 242, 196))
    for x, y in (
        ((4, 4), (20, 8), (12, 16), (32, 16)),
        ((20, 4), (36, 8), (28, 16), (8, 20)),
        ((4, 8), (36, 4), (12, 16), (40, 16)),
    )[layout]:
        _stamp(image, x, y, STAR, (250, 240, 190))


def _road(image: np.ndarray, horizon: int, layout: int) -> None:
    image[horizon : horizon + 4] = (150, 180, 120)
    image[horizon + 4 : horizon + 5] = (230, 230, 226)
    for left, height in (
        ((4, 8), (12, 12), (32, 8)),
        ((20, 12), (36, 8)),
        ((0, 12), (28, 8), (40, 12)),
    )[layout]:
        image[horizon - height : horizon, left : left + 8] = (176, 178, 190)
        for y in range(horizon - height + 2, horizon - 2, 4):
            image[y : y + 2, left + 2 : left + 4] = (214, 222, 232)
            image[y : y + 2, left + 5 : left + 7] = (214, 222, 232)
    for x in range((0, 4, 8)[layout], SIDE, 12):
        image[38:40, x : x + 6] = (250, 246, 214)


_DETAILS = {"grass": _grass, "snow": _snow, "sand": _sand, "sea": _sea, "night": _night,
            "road": _road}  # fmt: skip
BACKDROPS = tuple(
    Backdrop(*parts)
    for parts in product(PLACES, range(NUM_SKIES), range(len(HORIZONS)), range(NUM_LAYOUTS))
)


@cache
def paint_backdrop(backdrop: Backdrop) -> np.ndarray:
    """An empty place: uint8, 48 × 48 × 3."""
    image = np.empty((SIDE, SIDE, 3), np.uint8)
    horizon = HORIZONS[backdrop.horizon]
    image[:horizon] = SKIES[backdrop.place][backdrop.sky]
    image[horizon:] = GROUND[backdrop.place]
    _DETAILS[backdrop.place](image, horizon, backdrop.layout)
    return image
