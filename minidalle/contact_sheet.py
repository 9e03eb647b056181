"""Labelled strips and sheets of pictures, with Pillow alone: what `save` and `evaluate` write."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER, TEXT, FAINT = (255, 255, 255), (34, 36, 46), (110, 114, 128)
CHINESE_FONTS = (  # where the usual systems keep one; Pillow's own font knows no Chinese
    "NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "wqy-zenhei.ttc", "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf", "PingFang.ttc", "STHeiti Light.ttc", "msyh.ttc", "simsun.ttc",
)  # fmt: skip
# Characters and their punctuation.
CHINESE = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")


@lru_cache(maxsize=16)
def font(size: int, chinese: bool = False) -> ImageFont.FreeTypeFont | None:
    """A font of a size in pixels; None where Chinese is asked for and no font has it."""
    if not chinese:
        return ImageFont.load_default(size)
    for name in CHINESE_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return None


def _font_for(text: str, size: int) -> ImageFont.FreeTypeFont | None:
    return font(size, chinese=CHINESE.search(text) is not None)


def write(draw: ImageDraw.ImageDraw, at, text: str, size: int, colour=TEXT, width=None) -> None:
    """One line of text with its upper left corner `at`, shortened to `width` pixels."""
    text = _one_line(text)
    chosen = _font_for(text, size)
    if chosen is None:  # better than a row of empty boxes
        chosen, text = font(size), "(install a Chinese font, such as Noto Sans CJK, for this label)"
    while width and text and draw.textlength(text, font=chosen) > width:
        text = text[:-2] + "…" if len(text) > 2 else ""
    draw.text(at, text, fill=colour, font=chosen)


def enlarge(image: np.ndarray, side: int) -> Image.Image:
    """A small picture, `side` pixels across, soft rather than blocky."""
    return Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)


def strip(images: Sequence[np.ndarray], labels: Sequence[str], title: str, side=192) -> Image.Image:
    """One row of pictures, a label under each, a title above."""
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
    images: Sequence[np.ndarray], captions: Sequence[str], columns=4, side=176
) -> Image.Image:
    """A sheet of pictures, each with its caption below."""
    gap, foot, line = 12, 42, 16  # room for two lines
    rows = -(-len(images) // columns)
    size = (gap + columns * (side + gap), gap + rows * (side + foot + gap))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = gap + i % columns * (side + gap), gap + i // columns * (side + foot + gap)
        sheet.paste(enlarge(image, side), (x, y))
        for n, part in enumerate(
            _two_lines(_one_line(caption), lambda text: _width(draw, text, 13) <= side)
        ):
            write(draw, (x, y + side + 5 + line * n), part, 13, TEXT, side)
    return sheet


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _width(draw: ImageDraw.ImageDraw, text: str, size: int) -> float:
    return draw.textlength(text, font=_font_for(text, size) or font(size))


def _two_lines(text: str, fits: Callable[[str], bool]) -> list[str]:
    """A text whole if it fits, else parted at the last space at which its beginning does."""
    spaces = [i for i, c in enumerate(text) if c == " " and fits(text[:i])]
    return [text] if fits(text) or not spaces else [text[: spaces[-1]], text[spaces[-1] + 1 :]]
