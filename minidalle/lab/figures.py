"""Figures for the notebooks: small PNGs that carry their own alternative text.

Every function returns a `Picture`, or a `Grid` of small ones (`grids`), which shows itself when it
is the last value of a cell (`shown`). Its text form is the alternative text. The colours are Okabe
and Ito's, which colour-blind readers can tell apart.
"""

import io
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import font_manager, rcParams
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from minidalle.lab.grids import Grid, as_uint8, pictures
from minidalle.lab.shown import Picture, png_bytes

__all__ = [
    "COLOURS", "FAINT", "LIT", "TEXT", "Grid", "Picture", "as_uint8", "bars", "canvas", "curves",
    "finish", "matrix", "pictures", "scatter",
]  # fmt: skip

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
TEXT, FAINT, LIT = "#22242e", "#8a8e9c", "#E69F00"
# A Chinese font seldom has a bold face; matplotlib would warn that it takes the plain one.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
STYLE: dict[str, Any] = {
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelcolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "legend.frameon": False,
}
CHINESE = ("Noto Sans CJK SC", "Noto Sans SC", "WenQuanYi Micro Hei", "PingFang SC",
           "Microsoft YaHei", "SimSun")  # fmt: skip


def canvas(width: float = 7.0, height: float = 2.6, rows: int = 1, columns: int = 1, **options):
    """A matplotlib figure in the house's style, in inches, and its axes.

    The style stays set: titles and legends look it up after the axes are made.
    """
    known = {f.name for f in font_manager.fontManager.ttflist}
    family = ["DejaVu Sans", *[name for name in CHINESE if name in known]]
    style: Any = {**STYLE, "font.family": family}  # matplotlib types its keys one by one
    rcParams.update(style)
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def finish(figure: Figure, alt: str, keep_tints: bool = False) -> Picture:
    """Turn a figure into a Picture: twice the pixels, so that it is sharp on any screen.

    keep_tints: keep the colours of few pixels and pale tints apart, for a sixth more bytes.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    # The median cut is the smaller; it may turn one red cell of a matrix brown.
    method = Image.Quantize.MAXCOVERAGE if keep_tints else Image.Quantize.MEDIANCUT
    colours = 256 if keep_tints else 128
    image = Image.open(buffer).convert("RGB").quantize(colours, method, dither=Image.Dither.NONE)
    return Picture(png_bytes(image), alt, round(figure.get_figwidth() * 100))


# --- Charts ---------------------------------------------------------------------------------------


def curves(
    series: Mapping[str, Sequence],
    x: Sequence | None = None,
    labels: tuple[str, str] = ("", ""),
    title: str = "",
    alt: str = "",
    lines: Mapping[str, float] | None = None,
    log_x: bool = False,
    width: float = 6.4,
    height: float = 2.5,
) -> Picture:
    """Lines over a common x. `lines`: horizontal marks by name. NaNs leave gaps."""
    figure, axis = canvas(width, height)
    for i, (name, values) in enumerate(series.items()):
        at = range(1, len(values) + 1) if x is None else x
        axis.plot(at, values, color=COLOURS[i % len(COLOURS)], label=name, linewidth=1.7)
    for name, value in (lines or {}).items():
        axis.axhline(value, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        axis.annotate(name, (1, value), xycoords=("axes fraction", "data"), ha="right",
                      va="bottom", color=FAINT, fontsize=8.5)  # fmt: skip
    if log_x:
        axis.set_xscale("log")
        if x is not None and len(x) <= 10:  # what was measured, not powers of ten
            axis.set_xticks(x, [f"{value:g}" for value in x])
            axis.minorticks_off()
    _dress(axis, labels, title, legend=len(series) > 1)
    first_last = "; ".join(
        f"{name} from {_number(v[0])} to {_number(v[-1])}" for name, v in series.items() if len(v)
    )
    return finish(figure, alt or f"{title or labels[1]}: {first_last}")


def bars(
    values: Mapping[str, float],
    labels: tuple[str, str] = ("", ""),
    title: str = "",
    alt: str = "",
    lines: Mapping[str, float] | None = None,
    width: float = 6.4,
    height: float = 2.4,
) -> Picture:
    """One bar per name, its value beyond its end where there is room for it."""
    figure, axis = canvas(width, height)
    names, crowded = list(values), len(values) > 14
    axis.bar(names, list(values.values()), color=COLOURS[0], width=0.62)
    axis.margins(y=0.12)
    for i, name in enumerate(names):
        if not crowded:
            outside = "top" if values[name] < 0 else "bottom"
            axis.annotate(_number(values[name]), (i, values[name]), ha="center", va=outside)
    if crowded:
        axis.set_xticks(range(1, len(names), 2), names[1::2])
    for name, value in (lines or {}).items():
        axis.axhline(value, color=COLOURS[1], linewidth=1, linestyle=(0, (4, 3)))
        axis.annotate(name, (1.01, value), xycoords=("axes fraction", "data"), ha="left",
                      va="center", color=COLOURS[1])  # fmt: skip
    _dress(axis, labels, title)
    named = "; ".join(f"{name} {_number(value)}" for name, value in values.items())
    return finish(figure, alt or f"{title or labels[1]}: {named}")


def scatter(
    points: Mapping[str, tuple[Sequence, Sequence]],
    labels: tuple[str, str] = ("", ""),
    title: str = "",
    alt: str = "",
    width: float = 4.2,
    height: float = 3.4,
) -> Picture:
    """Clouds of points by name."""
    figure, axis = canvas(width, height)
    for i, (name, (x, y)) in enumerate(points.items()):
        size = 4 if len(x) > 30 else 11  # a few points among many must be seen
        axis.plot(
            x, y, "o", color=COLOURS[i % len(COLOURS)], label=name, markersize=size, alpha=0.7
        )
    _dress(axis, labels, title, legend=len(points) > 1)
    return finish(figure, alt or f"{title}: {', '.join(points)}")


def matrix(
    grids: Mapping[str, np.ndarray],
    labels: tuple[str, str] = ("", ""),
    alt: str = "",
    side: float = 2.3,
    lowest: float | None = None,
    highest: float | None = None,
    ticks: Sequence[str] | None = None,
) -> Picture:
    """Matrices side by side in blue: a mask, an attention map, similarities."""
    grids = {name: np.asarray(grid, dtype=float) for name, grid in grids.items()}
    tallest = max(grid.shape[0] / grid.shape[1] for grid in grids.values())
    height = side * min(1.0, tallest) + 0.6  # a wide matrix needs no square
    figure, axes = canvas(side * len(grids) + 0.5, height, 1, len(grids), squeeze=False)
    for axis, (name, grid) in zip(axes[0], grids.items(), strict=True):
        axis.imshow(grid, cmap="Blues", vmin=lowest, vmax=highest, interpolation="nearest")
        axis.set_title(name)
        axis.set_xlabel(labels[0])
        for spine in axis.spines.values():
            spine.set_visible(True)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))  # rows and columns are counted
        axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        if ticks is not None:
            axis.set_xticks(range(len(ticks)), ticks, rotation=90)
            axis.set_yticks(range(len(ticks)), ticks)
    axes[0][0].set_ylabel(labels[1])
    named = "; ".join(f"{name}, {grid.shape[0]} by {grid.shape[1]}" for name, grid in grids.items())
    return finish(figure, alt or f"matrices: {named}")


def _dress(axis, labels: tuple[str, str], title: str, legend: bool = False) -> None:
    axis.set_xlabel(labels[0])
    axis.set_ylabel(labels[1])
    if title:
        axis.set_title(title)
    if legend:
        axis.legend(fontsize=8.5)


def _number(value) -> str:
    """Two digits of a share, three of a number, all of a count."""
    size = abs(float(value))
    return f"{value:.2g}" if size < 1 else f"{value:.3g}" if size < 1000 else f"{value:.0f}"
