"""Grids of small pictures with titles: as HTML in widgets, as one PNG elsewhere.

Pixel art must not be smeared: pictures are enlarged by whole numbers, without interpolation.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from minidalle.contact_sheet import PAPER, choose_font, font, label, write
from minidalle.lab.shown import Shown, data_address, png_bytes, with_palette
from minidalle.tensors import to_uint8

GAP, LINE, LETTERS = 8, 15, 12  # CSS pixels: between pictures, of a line, of a font
SHARP = 2  # pixels of a PNG per CSS pixel: text is sharp on any screen
FRAME = "#D55E00"
# A mark at the beginning of a title is drawn, since few fonts have it: corners, 0 … 1, and colour.
MARKS: dict[str, tuple[tuple[tuple[float, float], ...], str]] = {
    "✓": (((0, 0.55), (0.35, 0.9), (1, 0.1)), "#009E73"),
    "✗": (((0.05, 0.1), (0.95, 0.9), (0.5, 0.5), (0.95, 0.1), (0.05, 0.9)), "#D55E00"),
}
MARK = 13  # CSS pixels: the width that a mark takes
_FEW_GREYS = [round(grey / 85) * 85 for grey in range(256)]  # a fifth off the bytes of a grid
Frame = tuple[float, float, float, float]  # x0, y0, x1, y1 as shares of a picture, 0 … 1


@dataclass(frozen=True, repr=False)
class Grid(Shown):
    """Small PNGs in rows, a title under each. In HTML they have their own size and are enlarged by
    the browser, and titles are text in any language."""

    pngs: tuple[bytes, ...]
    titles: tuple[str, ...]
    alt: str
    columns: int
    side: int  # CSS pixels across a picture
    frame: Frame | None = None  # a part of every picture to be marked

    def _repr_html_(self) -> str:
        cells = []
        for png, title in zip(self.pngs, self.titles, strict=True):
            lines = "<br>".join(escape(line) for line in title.split("\n"))
            width, height = self._size(png)
            cells.append(
                f'<span style="display:inline-block;position:relative;width:{width}px;'
                f"margin:0 {GAP}px {GAP}px 0;vertical-align:top;font-size:{LETTERS}px;"
                'line-height:1.25;overflow-wrap:break-word">'
                f'<img alt="" width="{width}" height="{height}"'
                ' style="display:block;image-rendering:pixelated"'
                f' src="{data_address(png)}">{self._mark(width, height)}{lines}</span>'
            )
        width = self.columns * (self.side + GAP)
        return (
            f'<div role="img" aria-label="{escape(self.alt, quote=True)}"'
            f' style="max-width:{width}px;font-size:0">{"".join(cells)}</div>'
        )

    def _size(self, png: bytes) -> tuple[int, int]:
        width, height = Image.open(io.BytesIO(png)).size
        return self.side, round(self.side * height / width)

    def _mark(self, width: int, height: int) -> str:
        if self.frame is None:
            return ""
        x0, y0, x1, y1 = _scale(self.frame, width, height)
        return (
            f'<span style="position:absolute;left:{x0}px;top:{y0}px;width:{x1 - x0}px;'
            f'height:{y1 - y0}px;box-sizing:border-box;border:2px dashed {FRAME}"></span>'
        )

    def as_png(self) -> tuple[bytes, int]:
        """The grid with its titles as one PNG, and its width in CSS pixels."""
        width = self.columns * (self.side + GAP)
        rows = list(self._rows())
        total = sum(height for _, _, height in rows)
        sheet = Image.new("RGB", (width * SHARP, total * SHARP), PAPER)
        draw, y = ImageDraw.Draw(sheet), 0
        for pngs, titles, height in rows:
            for column, (png, title) in enumerate(zip(pngs, titles, strict=True)):
                self._paste(sheet, draw, png, *title, (column * (self.side + GAP), y))
            y += height
        return png_bytes(with_palette(sheet)), width

    def _rows(self) -> Iterator[tuple[Sequence[bytes], list[tuple[str, list[str]]], int]]:
        """For each row its PNGs, their titles (mark and lines), and its height in CSS pixels."""
        for i in range(0, len(self.pngs), self.columns):
            pngs = self.pngs[i : i + self.columns]
            titles = [self._lines(title) for title in self.titles[i : i + self.columns]]
            tallest = max(self._size(png)[1] for png in pngs)
            yield pngs, titles, tallest + max(len(lines) for _, lines in titles) * LINE + GAP

    def _lines(self, title: str) -> tuple[str, list[str]]:
        """The mark of a title, or "", and the lines beside it."""
        mark = title[:1] if title[:1] in MARKS else ""
        room = SHARP * (self.side - (MARK if mark else 0))
        rest = title[len(mark) :].lstrip()
        lines = [line for part in rest.split("\n") for line in wrap(part, room)]
        return mark, lines or [""] * len(mark)

    def _paste(
        self, sheet: Image.Image, draw: ImageDraw.ImageDraw, png: bytes, mark: str,
        lines: list[str], at: tuple[int, int],
    ) -> None:  # fmt: skip
        width, height = (SHARP * n for n in self._size(png))
        x, y = (SHARP * n for n in at)
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        sheet.paste(picture.resize((width, height), Image.Resampling.NEAREST), (x, y))
        if self.frame is not None:
            x0, y0, x1, y1 = _scale(self.frame, width, height)
            corners = (x + x0, y + y0, x + x1 - 1, y + y1 - 1)
            draw.rectangle(corners, outline=FRAME, width=2 * SHARP)
        top, indent = y + height, SHARP * MARK if mark else 0
        for n, line in enumerate(lines):
            at = (x + indent, top + SHARP * (n * LINE + 1))
            write(draw, at, line, LETTERS * SHARP, width=width - indent)
        box = (x, top, x + width, top + SHARP * (len(lines) * LINE + 1))
        sheet.paste(sheet.crop(box).convert("L").point(_FEW_GREYS), box)
        if mark:
            strokes, colour = MARKS[mark]
            size, left, upper = 9 * SHARP, x + SHARP, top + 4 * SHARP
            path = [(left + u * size, upper + v * size) for u, v in strokes]
            draw.line(path, colour, 2 * SHARP, "curve")


def _scale(frame: Frame, width: int, height: int) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = frame
    return round(x0 * width), round(y0 * height), round(x1 * width), round(y1 * height)


def wrap(text: str, width: int) -> list[str]:
    """A title in as many lines as it needs, broken at spaces, or inside a word that is longer than
    a line, as Chinese is. `width` in pixels of the PNG."""
    lines: list[str] = []
    for word in label(text).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _length(longer) <= width:
            lines[-1] = longer
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and _length(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


@lru_cache(maxsize=1024)
def _length(line: str) -> float:
    """Pixels of a line of a title."""
    chosen = font(choose_font(line)[0], LETTERS * SHARP)
    return chosen.getlength(line) if chosen else 0.0


def as_uint8(image) -> np.ndarray:
    """H W 3 uint8, from that or from a tensor 3 H W in [0, 1]."""
    if isinstance(image, Tensor):
        image = to_uint8(image.detach().float()[None])[0]
    image = np.asarray(image)
    return image if image.shape[-1] == 3 else np.repeat(image.reshape(*image.shape[:2], 1), 3, -1)


def pictures(
    images: Sequence,
    titles: Sequence[str] = (),
    columns: int = 8,
    side: int = 96,
    alt: str = "",
    frame: Frame | None = None,
) -> Grid:
    """A grid of small pictures, a title under each. `side`: CSS pixels, rounded to a multiple of
    the pictures' own size. frame: a part of every picture to be marked, as shares of it."""
    images = [as_uint8(image) for image in images]
    titles = [titles[i] if i < len(titles) else "" for i in range(len(images))]
    named = "; ".join(title.replace("\n", ", ") for title in titles if title)
    alt = alt or (f"{len(images)} pictures: {named}" if named else f"{len(images)} pictures")
    own = max(image.shape[1] for image in images)
    side = max(1, round(side / own)) * own if own <= 1.5 * side else side
    pngs = tuple(png_bytes(with_palette(Image.fromarray(image))) for image in images)
    return Grid(pngs, tuple(titles), alt, min(columns, len(images)), side, frame)
