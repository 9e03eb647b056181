"""Labelled strips and sheets of pictures, drawn with Pillow for `save` and `evaluate`."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]  # red, green, blue, each 0 … 255
PAPER, TEXT, FAINT = (255, 255, 255), (34, 36, 46), (110, 114, 128)
CHINESE_FONTS = (  # those of the usual systems, since Pillow's default font has no Chinese
    "NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "wqy-zenhei.ttc", "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf", "PingFang.ttc", "STHeiti Light.ttc", "msyh.ttc", "simsun.ttc",
)  # fmt: skip
# Chinese characters and their punctuation.
CHINESE = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")


@lru_cache(maxsize=16)
def font(size: int, chinese: bool = False) -> Font | None:
    """A font, `size` pixels high; None if Chinese is asked for and no such font is installed."""
    if not chinese:
        return ImageFont.load_default(size)
    for name in CHINESE_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return None


def _choose_font(text: str, size: int) -> Font | None:
    return font(size, chinese=CHINESE.search(text) is not None)


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    colour: Colour = TEXT,
    width: float | None = None,
) -> None:
    """Write one line of text with its upper left corner `at`, shortened to `width` pixels."""
    text = _join_lines(text)
    chosen = _choose_font(text, size)
    if chosen is None:  # other fonts would draw empty boxes
        chosen, text = font(size), "(install a Chinese font, such as Noto Sans CJK, for this label)"
    while width and text and draw.textlength(text, font=chosen) > width:
        text = text[:-2] + "…" if len(text) > 2 else ""
    draw.text(at, text, fill=colour, font=chosen)


def enlarge(image: np.ndarray, side: int) -> Image.Image:
    """Enlarge a small picture to `side` pixels, with bicubic interpolation."""
    return Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)


def strip(
    images: Sequence[np.ndarray], labels: Sequence[str], title: str, side: int = 192
) -> Image.Image:
    """One row of pictures, `side` pixels each, with a label below each and a title above."""
    gap, head, foot = 10, 40, 28
    width = max(gap + len(images) * (side + gap), 2 * side)
    sheet = Image.new("RGB", (width, head + side + foot), PAPER)
    draw = ImageDraw.Draw(sheet)
    write(draw, (gap, 9), title, 18, width=width - 2 * gap)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        x = gap + i * (side + gap)
        sheet.paste(enlarge(image, side), (x, head))
        write(draw, (x, head + side + 6), label, 14, FAINT, side)
    return sheet


def gallery(
    images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 4, side: int = 176
) -> Image.Image:
    """A sheet of pictures, `side` pixels each, with the caption of each below it."""
    gap, foot, line = 12, 42, 16  # pixels; the foot has two lines
    rows = -(-len(images) // columns)
    size = (gap + columns * (side + gap), gap + rows * (side + foot + gap))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = gap + i % columns * (side + gap), gap + i // columns * (side + foot + gap)
        sheet.paste(enlarge(image, side), (x, y))
        lines = _break_line(_join_lines(caption), lambda text: _measure(draw, text, 13) <= side)
        for n, part in enumerate(lines):
            write(draw, (x, y + side + 5 + line * n), part, 13, TEXT, side)
    return sheet


def _join_lines(text: str) -> str:
    return " ".join(text.split())


def _measure(draw: ImageDraw.ImageDraw, text: str, size: int) -> float:
    """The width of a line of text in pixels."""
    return draw.textlength(text, font=_choose_font(text, size) or font(size))


def _break_line(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The text as one line if it fits, else two: broken at the last space that fits."""
    spaces = [i for i, c in enumerate(text) if c == " " and fits(text[:i])]
    return [text] if fits(text) or not spaces else [text[: spaces[-1]], text[spaces[-1] + 1 :]]
