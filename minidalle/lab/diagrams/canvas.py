"""The few marks of which every diagram is made: boxes, arrows, grids, brackets, pictures, labels.

Lengths are CSS pixels, from the upper left corner. Each idea has one colour in all diagrams:

    CAPTION  blue     words and text tokens
    CODE     orange   codes, the image tokens
    IMAGE    green    pixels
    ACCENT   red      what the diagram is about
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle
from matplotlib.text import Text

from minidalle.lab import figures
from minidalle.lab.figures import COLOURS, FAINT, LIT, TEXT, Picture

CAPTION, ACCENT, IMAGE, CODE = COLOURS[0], COLOURS[1], COLOURS[2], LIT
QUIET = "#63677a"  # labels beside a mark: 5.6 to 1 against white
NETWORK = "#eef0f5"  # fill of what is learned or computed
SMALL, NORMAL, LARGE = 9.0, 10.0, 11.5  # points; nothing is smaller than 9

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """Where a mark lies."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def x(self) -> float:
        """The middle, from left to right."""
        return (self.left + self.right) / 2

    @property
    def y(self) -> float:
        """The middle, from top to bottom."""
        return (self.top + self.bottom) / 2


def tint(colour: str, share: float = 0.25) -> str:
    """A colour mixed with white: share 0 is white, 1 the colour itself."""
    red, green, blue = (1 - share * (1 - c) for c in to_rgb(colour))
    return to_hex((red, green, blue))


def heat(values, colour: str = CAPTION, negative: str = ACCENT) -> list[list[str]]:
    """Colours of a matrix: white at 0, `colour` at the largest size, `negative` below 0."""
    values = np.asarray(values, dtype=float)
    top = np.abs(values).max() or 1.0
    return [
        [tint(colour if v >= 0 else negative, 0.9 * abs(v) / top) for v in row] for row in values
    ]


def readable(text: str) -> str:
    """The text, or its code points where this machine has no font for Chinese."""
    known = {font.name for font in font_manager.fontManager.ttflist}
    if text.isascii() or known & set(figures.CHINESE):
        return text
    return " ".join(f"{ord(c):X}" for c in text)


class Canvas:
    """An empty sheet. Marks return the Box they fill, between which arrows run.

    `texts`, `fitted` and `lines` list what was drawn; the tests measure them.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure, self.axis = figures.canvas(width / 100, height / 100)
        self.figure.set_layout_engine("none")
        self.axis.set_position((0, 0, 1, 1))
        self.axis.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        self.axis.axis("off")
        self.texts: list[Text] = []
        self.fitted: list[tuple[Text, Box]] = []  # labels, and the box that must hold each
        self.lines: list[tuple[Point, Point]] = []  # arrows and lines, which no label may cross

    def picture(self, alt: str) -> Picture:
        """The sheet as it is shown in a notebook."""
        return figures.finish(self.figure, alt, keep_tints=True)

    def text(
        self, x: float, y: float, text: str, size: float = NORMAL, colour: str = TEXT,
        ha: str = "center", va: str = "center_baseline", bold: bool = False,
    ) -> Text:  # fmt: skip
        """A label; it may have several lines."""
        label = self.axis.text(
            x, y, text, fontsize=size, color=colour, ha=ha, va=va, zorder=6, linespacing=1.25,
            multialignment=ha,
            fontweight="bold" if bold else "normal",
        )  # fmt: skip
        self.texts.append(label)
        return label

    def note(
        self, x: float, y: float, text: str, ha: str = "center", va: str = "center_baseline"
    ) -> Text:
        """A quiet label, which explains a mark."""
        return self.text(x, y, text, SMALL, QUIET, ha, va)

    def box(
        self, x: float, y: float, width: float, height: float, text: str = "",
        fill: str = NETWORK, edge: str = FAINT, size: float = NORMAL, bold: bool = False,
        colour: str = TEXT, line: float = 1.0, radius: float = 6,
    ) -> Box:  # fmt: skip
        """A rounded box around (x, y), with its label."""
        at = Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        self.axis.add_patch(
            FancyBboxPatch(
                (at.left, at.top),
                width,
                height,
                facecolor=fill,
                edgecolor=edge,
                linewidth=line,
                boxstyle=f"round,pad=0,rounding_size={radius}",
                mutation_aspect=1,
                zorder=3,
            )
        )
        if text:
            self.fitted.append((self.text(x, y, text, size, colour, bold=bold), at))
        return at

    def trapezoid(
        self, x: float, y: float, width: float, left: float, right: float, text: str = "",
        fill: str = NETWORK, edge: str = FAINT,
    ) -> Box:  # fmt: skip
        """A network that narrows or widens, `left` and `right` pixels high at its ends."""
        a, b = x - width / 2, x + width / 2
        corners = [(a, y - left / 2), (b, y - right / 2), (b, y + right / 2), (a, y + left / 2)]
        self.axis.add_patch(Polygon(corners, facecolor=fill, edgecolor=edge, zorder=3))
        at = Box(a, y - max(left, right) / 2, b, y + max(left, right) / 2)
        if text:
            self.fitted.append((self.text(x, y, text), at))
        return at

    def arrow(
        self, start: Box | Point, end: Box | Point, colour: str = QUIET, line: float = 1.3,
        style: str = "-|>", gap: float = 4, bend: float = 0, dashed: bool = False,
    ) -> None:  # fmt: skip
        """An arrow between points, or between the sides of boxes that face each other."""
        a, b = _facing(start, end, gap), _facing(end, start, gap)
        self.axis.add_patch(
            FancyArrowPatch(
                a,
                b,
                arrowstyle=style,
                mutation_scale=11,
                color=colour,
                linewidth=line,
                shrinkA=0,
                shrinkB=0,
                zorder=4,
                connectionstyle=f"arc3,rad={bend}",
                linestyle=(0, (3, 2)) if dashed else "-",
            )
        )
        if not bend:
            self.lines.append((a, b))

    def path(
        self, points: Sequence[Point], colour: str = QUIET, line: float = 1.3,
        head: bool = False, dashed: bool = False,
    ) -> None:  # fmt: skip
        """A line around corners; `head` ends it in an arrow."""
        stops = points[:-1] if head else points
        if len(stops) > 1:
            self.axis.plot(
                *zip(*stops, strict=True), color=colour, linewidth=line, zorder=3.5,
                linestyle=(0, (3, 2)) if dashed else "-", solid_joinstyle="round",
            )  # fmt: skip
            self.lines += itertools.pairwise(stops)
        if head:
            self.arrow(points[-2], points[-1], colour, line, gap=0, dashed=dashed)

    def grid(
        self, x: float, y: float, cell: float, colours: Sequence[Sequence[Any]] | np.ndarray,
        labels: Sequence[Sequence[str]] | None = None, size: float = SMALL, edge: str = "white",
        line: float = 0.8, height: float | None = None,
    ) -> Box:  # fmt: skip
        """Cells in rows from the upper left corner (x, y); `height` of a cell if not square."""
        height = height or cell
        rgb = np.array([[to_rgb(colour) for colour in row] for row in colours])
        rows, columns = rgb.shape[:2]
        self.axis.pcolormesh(
            x + cell * np.arange(columns + 1), y + height * np.arange(rows + 1), rgb,
            edgecolors=edge, linewidth=line, zorder=3,
        )  # fmt: skip
        for i, row in enumerate(labels or ()):
            for j, label in enumerate(row):
                if label:
                    box = Box(
                        x + cell * j, y + height * i, x + cell * (j + 1), y + height * (i + 1)
                    )
                    self.fitted.append((self.text(box.x, box.y, label, size), box))
        return Box(x, y, x + cell * columns, y + height * rows)

    def frame(self, at: Box, colour: str = ACCENT, line: float = 1.8, pad: float = 0) -> None:
        """A line around a box, to point at it."""
        self.axis.add_patch(
            Rectangle(
                (at.left - pad, at.top - pad),
                at.right - at.left + 2 * pad,
                at.bottom - at.top + 2 * pad,
                fill=False,
                edgecolor=colour,
                linewidth=line,
                zorder=5,
            )
        )

    def image(self, x: float, y: float, side: float, image, edge: str = FAINT) -> Box:
        """A picture, H W 3, with its upper left corner at (x, y). A multiple of 32 for `side` keeps
        the pixels of 48 × 48 whole."""
        at = Box(x, y, x + side, y + side)
        self.axis.imshow(
            image, extent=(at.left, at.right, at.bottom, at.top), interpolation="nearest",
            aspect="auto", zorder=3,
        )  # fmt: skip
        self.frame(at, edge, 0.8)
        return at

    def bars(
        self, x: float, base: float, step: float, unit: float, values, colours: Sequence[str] | str,
    ) -> Box:  # fmt: skip
        """Upright bars, `step` pixels apart and `unit` pixels high per 1, on a base line."""
        values = [float(v) for v in values]
        if isinstance(colours, str):
            colours = [colours] * len(values)
        for i, (value, colour) in enumerate(zip(values, colours, strict=True)):
            self.axis.add_patch(
                Rectangle(
                    (x + step * (i + 0.14), base),
                    0.72 * step,
                    -value * unit,
                    facecolor=colour,
                    zorder=3,
                )
            )
        end = x + step * len(values)
        self.axis.plot((x, end), (base, base), color=FAINT, linewidth=1, zorder=4)
        return Box(x, base - max(0.0, *values) * unit, end, base - min(0.0, *values) * unit)

    def bracket(
        self, start: float, end: float, y: float, text: str, colour: str = QUIET,
        above: bool = False, tick: float = 6,
    ) -> None:  # fmt: skip
        """A bracket below (or above) a stretch from left to right, and its label."""
        out = -tick if above else tick
        self.axis.plot((start, start, end, end), (y, y + out, y + out, y), color=colour,
                       linewidth=1.2, zorder=4)  # fmt: skip
        self.text((start + end) / 2, y + 1.6 * out, text, SMALL, colour,
                  va="bottom" if above else "top")  # fmt: skip


def _facing(at: Box | Point, other: Box | Point, gap: float) -> Point:
    """The middle of the side of `at` that faces `other`, some pixels away from it."""
    if not isinstance(at, Box):
        return at
    x, y = (other.x, other.y) if isinstance(other, Box) else other
    beside = max(at.left - x, x - at.right) >= max(at.top - y, y - at.bottom)
    if beside:
        return (at.right + gap, at.y) if x > at.x else (at.left - gap, at.y)
    return (at.x, at.bottom + gap) if y > at.y else (at.x, at.top - gap)
