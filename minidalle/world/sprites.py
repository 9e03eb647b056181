"""The sixteen kinds of things, drawn with Pillow.

Coordinates are in the unit square, x to the right and y downwards. A drawing is painted at eight
times its size and averaged down (supersampling). It is cached, so rendering a picture is a few
pastes. Dark outlines keep a white thing visible on snow and a pale fill apart from the sky.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from minidalle.world.facts import COLOURS, RGB

Point = tuple[float, float]  # x, y in the unit square
OVERSAMPLE = 8  # samples per pixel and axis
INK = (30, 28, 38)
CREAM = (255, 244, 220)
GLASS = (196, 232, 250)
WOOD = (112, 70, 38)


def shade(rgb: RGB, factor: float) -> RGB:
    """Darken a colour (factor 0 … 1) or mix it with white (factor 1 … 2)."""
    if factor <= 1:
        r, g, b = (round(c * factor) for c in rgb)
    else:
        r, g, b = (round(255 - (255 - c) * (2 - factor)) for c in rgb)
    return r, g, b


class Brush:
    """Draws outlined shapes, in unit coordinates, on a supersampled canvas.

    Args:
        width: pixels across the finished drawing.
        ink: width of the outlines, in pixels.
        background: red, green, blue, alpha, each 0 … 255.
    """

    def __init__(
        self, width: int, ink: float = 1.3, background: tuple[int, int, int, int] = (0, 0, 0, 0)
    ) -> None:
        self.scale = width * OVERSAMPLE
        self.ink = max(1, round(ink * OVERSAMPLE))
        self.image = Image.new("RGBA", (self.scale, self.scale), background)
        self.draw = ImageDraw.Draw(self.image)

    def _to_samples(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.scale, y * self.scale) for x, y in points]

    def oval(
        self, x: float, y: float, rx: float, ry: float, fill: RGB | None, outline: RGB | None = INK
    ) -> None:
        """An ellipse about (x, y) with the half-axes rx and ry."""
        box = self._to_samples([(x - rx, y - ry), (x + rx, y + ry)])
        self.draw.ellipse(box, fill=fill, outline=outline, width=self.ink if outline else 0)

    def poly(self, points: Sequence[Point], fill: RGB | None, outline: RGB | None = INK) -> None:
        """A closed polygon."""
        corners = self._to_samples(points)
        self.draw.polygon(corners, fill=fill)
        if outline:
            self.draw.line([*corners, *corners[:2]], fill=outline, width=self.ink, joint="curve")

    def box(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        fill: RGB | None,
        outline: RGB | None = INK,
    ) -> None:
        """A rectangle from (x0, y0) to (x1, y1)."""
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill, outline)

    def wedge(self, corners: Sequence[Point], start: int, end: int, fill: RGB) -> None:
        """A pie slice, in degrees clockwise from the right, of the ellipse in a box."""
        self.draw.pieslice(self._to_samples(corners), start, end, fill=fill)

    def line(self, points: Sequence[Point], colour: RGB = INK, px: float = 1.3) -> None:
        """An open line, `px` pixels wide."""
        width = max(1, round(px * OVERSAMPLE))
        self.draw.line(self._to_samples(points), fill=colour, width=width, joint="curve")

    def dot(self, x: float, y: float, px: float = 0.8, colour: RGB = INK) -> None:
        """A round dot of `px` pixels radius, whatever the size of the drawing."""
        r = px * OVERSAMPLE / self.scale
        self.oval(x, y, r, r, colour, outline=None)

    def finish(self, width: int) -> np.ndarray:
        """The drawing: uint8, width × width × 4, each pixel the mean of its samples.

        Colours are weighted by alpha.
        """
        a = np.asarray(self.image, np.float64).reshape(width, OVERSAMPLE, width, OVERSAMPLE, 4)
        alpha = a[..., 3:].mean((1, 3))
        colour = (a[..., :3] * a[..., 3:]).mean((1, 3)) / np.maximum(alpha, 1e-9)
        return np.concatenate([colour, alpha], -1).round().astype(np.uint8)


def ring(n: int, radius: float, inner: float | None = None, phase: float = -0.25) -> list[Point]:
    """n points on a circle about the centre; with an `inner` radius, a star of 2n points.

    phase: direction of the first point, in turns clockwise from the right.
    """
    radii = [radius] if inner is None else [radius, inner]
    total = n * len(radii)
    return [
        (
            0.5 + radii[i % len(radii)] * math.cos(2 * math.pi * (i / total + phase)),
            0.5 + radii[i % len(radii)] * math.sin(2 * math.pi * (i / total + phase)),
        )
        for i in range(total)
    ]


# One function per kind. b is the brush, c the colour of the thing.


def circle(b: Brush, c: RGB) -> None:
    b.oval(0.5, 0.5, 0.44, 0.44, c)


def square(b: Brush, c: RGB) -> None:
    b.box(0.1, 0.1, 0.9, 0.9, c)


def triangle(b: Brush, c: RGB) -> None:
    b.poly([(0.5, 0.08), (0.95, 0.9), (0.05, 0.9)], c)


def star(b: Brush, c: RGB) -> None:
    b.poly([(x, y + 0.04) for x, y in ring(5, 0.47, 0.21)], c)


def heart(b: Brush, c: RGB) -> None:
    t = [2 * math.pi * i / 80 for i in range(80)]
    xs = [16 * math.sin(a) ** 3 for a in t]
    ys = [13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a) for a in t]
    b.poly([(0.5 + x / 37, 0.46 - y / 36) for x, y in zip(xs, ys, strict=True)], c)


def car(b: Brush, c: RGB) -> None:
    b.poly([(0.2, 0.5), (0.32, 0.2), (0.68, 0.2), (0.82, 0.5)], c)
    b.poly([(0.32, 0.46), (0.39, 0.29), (0.47, 0.29), (0.47, 0.46)], GLASS, None)
    b.poly([(0.55, 0.46), (0.55, 0.29), (0.63, 0.29), (0.7, 0.46)], GLASS, None)
    b.poly([(0.04, 0.78), (0.04, 0.52), (0.12, 0.46), (0.9, 0.46), (0.96, 0.54), (0.96, 0.78)], c)
    for x in (0.26, 0.74):
        b.oval(x, 0.79, 0.12, 0.12, INK)
        b.oval(x, 0.79, 0.045, 0.045, (200, 200, 206), None)


def bear(b: Brush, c: RGB) -> None:
    for x in (0.27, 0.73):
        b.oval(x, 0.15, 0.12, 0.12, c)
    b.oval(0.5, 0.73, 0.36, 0.24, c)
    b.oval(0.5, 0.33, 0.32, 0.28, c)
    b.oval(0.5, 0.42, 0.14, 0.11, CREAM, None)
    b.dot(0.5, 0.39, 1.0)
    for x in (0.38, 0.62):
        b.dot(x, 0.28, 0.8, INK if sum(c) > 160 else CREAM)
    b.oval(0.5, 0.77, 0.17, 0.14, shade(c, 1.35), None)


def dog(b: Brush, c: RGB) -> None:
    dark = shade(c, 0.72) if sum(c) > 160 else shade(c, 1.3)
    b.line([(0.88, 0.5), (0.96, 0.24)], INK, 3.4)
    b.line([(0.88, 0.5), (0.955, 0.26)], c, 1.6)
    for x in (0.34, 0.76):
        b.box(x - 0.07, 0.6, x + 0.07, 0.95, c)
    b.poly([(0.24, 0.42), (0.9, 0.42), (0.92, 0.72), (0.26, 0.72)], c)
    b.oval(0.26, 0.3, 0.21, 0.2, c)
    b.oval(0.12, 0.37, 0.11, 0.08, c)
    b.dot(0.04, 0.34, 1.0)
    b.dot(0.2, 0.25, 0.8, INK if sum(c) > 160 else CREAM)
    b.oval(0.4, 0.34, 0.09, 0.19, dark)


def cat(b: Brush, c: RGB) -> None:
    b.line([(0.74, 0.86), (0.93, 0.8), (0.93, 0.5)], INK, 3.6)
    b.line([(0.74, 0.86), (0.92, 0.8), (0.93, 0.52)], c, 1.7)
    b.poly([(0.5, 0.5), (0.72, 0.66), (0.78, 0.94), (0.22, 0.94), (0.28, 0.66)], c)
    b.poly([(0.2, 0.36), (0.2, 0.04), (0.44, 0.2)], c)
    b.poly([(0.8, 0.36), (0.8, 0.04), (0.56, 0.2)], c)
    b.oval(0.5, 0.36, 0.33, 0.25, c)
    eye = INK if sum(c) > 160 else CREAM
    for x in (0.37, 0.63):
        b.dot(x, 0.33, 0.9, eye)
    b.poly([(0.46, 0.41), (0.54, 0.41), (0.5, 0.46)], (255, 150, 160), None)
    for y in (0.42, 0.48):
        b.line([(0.04, y - 0.01), (0.27, y)], INK, 0.6)
        b.line([(0.96, y - 0.01), (0.73, y)], INK, 0.6)


def house(b: Brush, c: RGB) -> None:
    roof = shade(c, 0.68) if sum(c) > 160 else shade(c, 1.25)
    b.box(0.15, 0.46, 0.85, 0.94, c)
    b.poly([(0.03, 0.48), (0.5, 0.06), (0.97, 0.48)], roof)
    b.box(0.42, 0.64, 0.6, 0.94, WOOD)
    b.box(0.22, 0.58, 0.34, 0.7, CREAM, None)
    b.box(0.68, 0.58, 0.79, 0.7, CREAM, None)


def tree(b: Brush, c: RGB) -> None:
    b.box(0.42, 0.6, 0.58, 0.96, WOOD)
    for fill, grow in ((INK, 1.3 / 24), (c, 0.0)):
        b.oval(0.3, 0.47, 0.22 + grow, 0.2 + grow, fill, None)
        b.oval(0.7, 0.47, 0.22 + grow, 0.2 + grow, fill, None)
        b.oval(0.5, 0.27, 0.25 + grow, 0.21 + grow, fill, None)


def boat(b: Brush, c: RGB) -> None:
    b.line([(0.5, 0.06), (0.5, 0.7)], INK, 1.6)
    b.poly([(0.55, 0.08), (0.92, 0.6), (0.55, 0.6)], c)
    b.poly([(0.44, 0.2), (0.44, 0.6), (0.16, 0.6)], CREAM)
    b.poly([(0.04, 0.68), (0.96, 0.68), (0.8, 0.92), (0.2, 0.92)], c)


def fish(b: Brush, c: RGB) -> None:
    b.poly([(0.66, 0.5), (0.96, 0.24), (0.9, 0.5), (0.96, 0.76)], shade(c, 0.85))
    b.poly([(0.36, 0.32), (0.5, 0.14), (0.62, 0.34)], shade(c, 0.85))
    b.oval(0.4, 0.5, 0.36, 0.25, c)
    b.oval(0.22, 0.44, 0.07, 0.07, (255, 255, 255), None)
    b.dot(0.21, 0.44, 0.7)
    b.line([(0.36, 0.32), (0.41, 0.5), (0.36, 0.68)], INK, 0.8)


def flower(b: Brush, c: RGB) -> None:
    b.line([(0.5, 0.5), (0.5, 0.97)], INK, 3.2)
    b.line([(0.5, 0.5), (0.5, 0.96)], (48, 140, 60), 1.6)
    b.oval(0.63, 0.8, 0.12, 0.06, (48, 140, 60))
    for x, y in ring(6, 0.22):
        b.oval(x, y - 0.15, 0.15, 0.15, c)
    b.oval(0.5, 0.35, 0.13, 0.13, (255, 200, 40) if c[2] > 60 or c[1] < 100 else WOOD)


def bird(b: Brush, c: RGB) -> None:
    for x in (0.42, 0.56):
        b.line([(x, 0.72), (x, 0.95)], (200, 110, 20), 1.4)
    b.poly([(0.66, 0.5), (0.98, 0.34), (0.96, 0.6), (0.7, 0.68)], c)
    b.oval(0.5, 0.55, 0.31, 0.24, c)
    b.poly([(0.12, 0.25), (0.0, 0.34), (0.12, 0.4)], (255, 170, 30))
    b.oval(0.27, 0.3, 0.18, 0.17, c)
    b.dot(0.22, 0.26, 0.8, INK if sum(c) > 160 else CREAM)
    b.oval(0.58, 0.53, 0.17, 0.11, shade(c, 0.75) if sum(c) > 160 else shade(c, 1.3))


def ball(b: Brush, c: RGB) -> None:
    b.oval(0.5, 0.5, 0.42, 0.42, c)
    pale = (255, 255, 255) if c[2] < 240 or c[0] < 240 else (150, 156, 170)
    for start in (-70, 50, 170):
        b.wedge([(0.1, 0.1), (0.9, 0.9)], start, start + 40, pale)
    b.oval(0.5, 0.5, 0.42, 0.42, None)
    b.oval(0.5, 0.5, 0.09, 0.09, c)


_DRAWINGS = (
    circle, square, triangle, star, heart, car, bear, dog, cat, house, tree, boat, fish, flower,
    bird, ball,
)  # fmt: skip
THINGS: dict[str, Callable[[Brush, RGB], None]] = {draw.__name__: draw for draw in _DRAWINGS}


@lru_cache(maxsize=4096)
def sprite(kind: str, colour: str | RGB, width: int, ink: float = 1.3) -> np.ndarray:
    """A thing on a transparent background: uint8, width × width × 4.

    Args:
        kind: one of KINDS.
        colour: one of COLOURS, or an RGB value.
        width: pixels across.
        ink: width of the outlines, in pixels.
    """
    brush = Brush(width, ink)
    THINGS[kind](brush, COLOURS[colour] if isinstance(colour, str) else colour)
    return brush.finish(width)
