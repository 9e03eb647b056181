"""A brush for pixel art: shapes become a small picture of *roles*, and a colour paints the roles.

A drawing is made in a square of 16 × 16 units, x to the right and y downwards. It is painted at
eight times its size, and each finished pixel takes the role that most of its samples have, so every
pixel is of one flat colour. A role says what a pixel is for: the colour of the thing, its shadow,
its outline, or something with a colour of its own, such as glass. The same roles are then painted
in any colour.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from minidalle.world.facts import RGB

Point = tuple[float, float]  # x, y in units
UNITS = 16  # across a drawing
OVERSAMPLE = 8  # samples per pixel and axis

# Roles. BASE to STRIPE follow the colour of the thing.
CLEAR, BASE, DARK, LIGHT, EYE, STRIPE, INK, WHITE, CREAM, GLASS, WOOD, LEAF, GOLD, METAL, ROSE = (
    range(15)
)
FIXED: dict[int, RGB] = {
    INK: (38, 34, 48),
    WHITE: (255, 255, 255),
    CREAM: (255, 236, 204),
    GLASS: (176, 226, 248),
    WOOD: (124, 78, 44),
    LEAF: (70, 168, 74),
    GOLD: (255, 202, 58),
    METAL: (196, 200, 210),
    ROSE: (255, 138, 150),
}
NUM_ROLES = 15


def shade(rgb: RGB, factor: float) -> RGB:
    """Darken a colour (factor 0 … 1) or mix it with white (factor 1 … 2)."""
    if factor <= 1:
        r, g, b = (round(c * factor) for c in rgb)
    else:
        r, g, b = (round(255 - (255 - c) * (2 - factor)) for c in rgb)
    return r, g, b


def is_bright(colour: RGB) -> bool:
    """Whether a colour is so nearly white that white stripes would not show on it."""
    return sum(colour) > 620


def palette(colour: RGB, bright: bool | None = None) -> np.ndarray:
    """The colour of each role for a thing of that colour: uint8, 15 × 3.

    bright: paint stripes and shadows as on white; by default as the colour needs.
    """
    bright = is_bright(colour) if bright is None else bright
    shadow, light = shade(colour, 0.84 if bright else 0.76), shade(colour, 1.28)
    eye = FIXED[CREAM if sum(colour) < 250 else INK]  # seen on black as well
    stripe = (140, 148, 164) if bright else FIXED[WHITE]
    rows = [(0, 0, 0), colour, shadow, light, eye, stripe]
    return np.array(rows + [FIXED[role] for role in range(INK, NUM_ROLES)], np.uint8)


class Brush:
    """Paints shapes on a canvas of roles, `width` pixels across when finished."""

    def __init__(self, width: int, background: int = CLEAR) -> None:
        self.width = width
        self.scale = width * OVERSAMPLE / UNITS  # samples per unit
        self.image = Image.new("L", (width * OVERSAMPLE,) * 2, background)
        self.draw = ImageDraw.Draw(self.image)
        self.dots: list[tuple[float, float, int]] = []

    def _to_samples(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.scale, y * self.scale) for x, y in points]

    def oval(
        self, x: float, y: float, rx: float, ry: float, role: int = BASE, edge: int | None = None
    ) -> None:
        """An ellipse about (x, y) with the half-axes rx and ry; `edge`: the role of a line of one
        pixel around it."""
        for fill, grow in ((edge, UNITS / self.width), (role, 0.0)):
            if fill is not None:
                box = [(x - rx - grow, y - ry - grow), (x + rx + grow, y + ry + grow)]
                self.draw.ellipse(self._to_samples(box), fill=fill)

    def poly(self, points: Sequence[Point], role: int = BASE, edge: int | None = None) -> None:
        """A closed polygon."""
        corners = self._to_samples(points)
        if edge is not None:
            self.draw.line([*corners, *corners[:2]], fill=edge, width=2 * OVERSAMPLE, joint="curve")
        self.draw.polygon(corners, fill=role)

    def box(
        self, x0: float, y0: float, x1: float, y1: float, role: int = BASE, edge: int | None = None
    ) -> None:
        """A rectangle from (x0, y0) to (x1, y1)."""
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], role, edge)

    def line(self, points: Sequence[Point], role: int = INK, width: float = 1.0) -> None:
        """An open line, `width` units wide and at least one pixel."""
        samples = max(OVERSAMPLE, round(width * self.scale))
        self.draw.line(self._to_samples(points), fill=role, width=samples, joint="curve")

    def dot(self, x: float, y: float, role: int = EYE) -> None:
        """A square dot of about one unit whose upper left corner is at (x, y): an eye, a star."""
        self.dots.append((x, y, role))

    def finish(self, outlined: bool = True) -> np.ndarray:
        """The roles: uint8, width × width. `outlined`: with a line of ink around everything."""
        samples = np.asarray(self.image).reshape(self.width, OVERSAMPLE, self.width, OVERSAMPLE)
        votes = np.stack([(samples == role).sum((1, 3)) for role in range(NUM_ROLES)])
        roles = votes.argmax(0).astype(np.uint8)
        side = round(self.width / UNITS)
        for x, y, role in self.dots:
            column, row = (round(value * self.width / UNITS) for value in (x, y))
            roles[row : row + side, column : column + side] = role
        if outlined:
            roles = _light_from_above(roles)
            roles = _outline(roles)
        return roles


def _light_from_above(roles: np.ndarray) -> np.ndarray:
    """Light on the upper edges of what has the thing's colour, and shadow on the lower ones."""
    above = np.pad(roles, ((1, 0), (0, 0)))[:-1]
    below = np.pad(roles, ((0, 1), (0, 0)))[1:]
    lit = roles.copy()
    is_base = roles == BASE
    lit[is_base & (above == CLEAR)] = LIGHT
    lit[is_base & (below == CLEAR) & (above != CLEAR)] = DARK
    return lit


def _outline(roles: np.ndarray) -> np.ndarray:
    """A line of ink on the clear pixels beside others."""
    solid = np.pad(roles != CLEAR, 1)
    beside = solid[:-2, 1:-1] | solid[2:, 1:-1] | solid[1:-1, :-2] | solid[1:-1, 2:]
    return np.where((roles == CLEAR) & beside, np.uint8(INK), roles)


def ring(
    n: int, x: float, y: float, radius: float, inner: float | None = None, phase: float = -0.25
) -> list[Point]:
    """n points on a circle about (x, y); with an `inner` radius, a star of 2n points.

    phase: direction of the first point, in turns clockwise from the right.
    """
    radii = [radius] if inner is None else [radius, inner]
    total = n * len(radii)
    turns = [2 * math.pi * (i / total + phase) for i in range(total)]
    return [
        (x + radii[i % len(radii)] * math.cos(a), y + radii[i % len(radii)] * math.sin(a))
        for i, a in enumerate(turns)
    ]
