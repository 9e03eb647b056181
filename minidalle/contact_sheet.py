"""Labelled strips, sheets and tables of pictures, drawn with Pillow."""

import re
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from minidalle.normalise import EXTEND, clean, shorten

Colour = tuple[int, int, int]  # red, green, blue, each 0 … 255
PAPER, TEXT, FAINT = (255, 255, 255), (34, 36, 46), (110, 114, 128)
# Fonts of the usual systems, in the order in which they are tried. "" is Pillow's own, which comes
# with every installation and has little more than ASCII.
_NOTO = (
    "Arabic", "Hebrew", "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil",
    "Telugu", "Kannada", "Malayalam", "Sinhala", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan",
    "Georgian", "Armenian", "Ethiopic", "Mongolian", "Symbols", "Symbols2", "Math",
)  # fmt: skip
FONTS = (
    "", "DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf",
    "Arial.ttf", "arial.ttf", "segoeui.ttf", "Helvetica.ttc", "HelveticaNeue.ttc",
    # Chinese, Japanese, Korean
    "NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "wqy-zenhei.ttc", "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf", "PingFang.ttc", "STHeiti Light.ttc", "msyh.ttc", "simsun.ttc",
    "malgun.ttf", "AppleSDGothicNeo.ttc", "NanumGothic.ttf", "NotoSansKR-Regular.otf",
    # other scripts of macOS and Windows, many scripts in one font, Noto's family, symbols
    "Thonburi.ttc", "GeezaPro.ttc", "Kohinoor.ttc", "LeelawUI.ttf", "Nirmala.ttc", "Nirmala.ttf",
    "Arial Unicode.ttf", "FreeSans.ttf", *(f"NotoSans{script}-Regular.ttf" for script in _NOTO),
    "NotoEmoji-Regular.ttf", "seguisym.ttf", "seguiemj.ttf", "Symbola_hint.ttf", "Symbola.ttf",
)  # fmt: skip
# Characters that a font need not have: spaces, joiners, variation selectors and tags.
_NO_GLYPH = "\u200c\u200d\ufe00-\ufe0f\U000e0020-\U000e007f\U000e0100-\U000e01ef"
_CJK = re.compile("[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef]")
_EXTEND = re.compile(f"[{EXTEND}]")
_EMOJI = re.compile("[\u2600-\u27bf\U0001f000-\U0001faff]")


@lru_cache(maxsize=256)
def font(name: str, size: int, alone: bool = False) -> ImageFont.FreeTypeFont | None:
    """An installed font, `size` pixels high; None if there is none of that name.

    alone: without Raqm, which shapes a character by its neighbours.
    """
    try:
        found = ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except OSError:
        return None
    assert isinstance(found, ImageFont.FreeTypeFont)  # as every font with a size is
    return found.font_variant(layout_engine=ImageFont.Layout.BASIC) if alone else found


@lru_cache(maxsize=1 << 14)
def has_glyph(name: str, character: str) -> bool:
    """Whether a font draws a character, and not .notdef, the box for one that it does not have."""
    known = font(name, 16, alone=True)
    if known is None:
        return False
    glyph, notdef = (known.getmask(c) for c in (character, "\U0010ffff"))  # never a character
    return (glyph.size, bytes(glyph)) != (notdef.size, bytes(notdef))


@lru_cache(maxsize=64)
def choose_font(text: str) -> tuple[str, str]:
    """The first font with a glyph for every character of a text, and "".

    Where there is none: the font with the most glyphs, and the characters that it lacks.
    """
    wanted = sorted(set(re.sub(rf"[\s{_NO_GLYPH}]", "", text)))
    best, fewest = "", wanted
    for name in FONTS:
        if font(name, 16) is None:
            continue
        missing = [c for c in wanted if not has_glyph(name, c)]
        if not missing:
            return name, ""
        if len(missing) < len(fewest):
            best, fewest = name, missing
    return best, "".join(fewest)


def _package(character: str) -> str:
    if _CJK.match(character):
        return "fonts-noto-cjk"
    return "fonts-symbola" if _EMOJI.match(character) else "fonts-noto-core"


def _warn_of_boxes(missing: str) -> None:
    """One warning per label: the characters that are boxes in it, and the packages with fonts."""
    nowhere = [c for c in missing if not any(has_glyph(name, c) for name in FONTS)]
    packages = " and ".join(sorted({_package(c) for c in nowhere}))
    remedy = f"install the package {packages}" if packages else "write a caption in one script"
    some = shorten("".join(nowhere) or missing, 10)
    problem = "no font here has" if nowhere else "the font of the label's other characters lacks"
    warnings.warn(f"{problem} {some}, which become boxes; {remedy}", stacklevel=3)


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    colour: Colour = TEXT,
    width: float | None = None,
) -> None:
    """Write one line of text with its upper left corner `at`, shortened to `width` pixels.

    Control characters are left out. Warns of characters that no font here has.
    """
    text = label(text)
    name, missing = choose_font(text)
    if missing:
        _warn_of_boxes(missing)
    chosen = font(name, size)
    if width is not None:
        dots = "…" if has_glyph(name, "…") else "..."
        text = _shorten(text, lambda part: draw.textlength(part, font=chosen) <= width, dots)
    draw.text(at, text, fill=colour, font=chosen)


def label(text: str) -> str:
    """A text as it can be written on one line: without control and invisible characters."""
    text = re.sub("[\ud800-\udfff]", "?", clean(text))  # half of a character
    # Without Raqm the joiners and selectors would be drawn, as boxes.
    return text if features.check("raqm") else re.sub(f"[{_NO_GLYPH}]", "", text)


def _shorten(text: str, fits: Callable[[str], bool], dots: str) -> str:
    """The text if it fits, else its beginning and dots. A letter is not cut from its marks."""
    if _longest(text, fits) == len(text):
        return text
    n = min(_longest(text, lambda part: fits(part + dots)), len(text) - 2)
    while n > 0 and _EXTEND.match(text, n):
        n -= 1
    return text[:n] + dots if n > 0 else ""


def _longest(text: str, fits: Callable[[str], bool]) -> int:
    """How many characters of a text fit. Only prefixes up to twice that long are measured, and few:
    the time depends on the width of the label, not on the length of the text."""
    low, high = 0, 16
    while high < len(text) and fits(text[:high]):
        low, high = high, 2 * high
    if high >= len(text):
        high = len(text)
        if fits(text):
            return high
    while high - low > 1:  # low fits, high does not
        middle = (low + high) // 2
        low, high = (middle, high) if fits(text[:middle]) else (low, middle)
    return low


def enlarge(image: np.ndarray, side: int) -> Image.Image:
    """Enlarge a small picture to `side` pixels, each whole: pixel art must not be smeared."""
    return Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)


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
    images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 4, side: int = 192
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
        lines = _break_line(label(caption), lambda text: _measure(draw, text, 13) <= side)
        for n, part in enumerate(lines):
            write(draw, (x, y + side + 5 + line * n), part, 13, TEXT, side)
    return sheet


def grid(
    rows: Sequence[Sequence[np.ndarray]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    scale: int = 3,
) -> Image.Image:
    """A table of pictures, S × S each, with a label left of each row and above each column.

    scale: pixels of the sheet across one pixel of a picture.
    """
    gap, head, margin, line = 10, 34, 190, 18  # pixels; a row's label has two lines
    side = scale * len(rows[0][0])
    size = (margin + len(column_labels) * (side + gap), head + len(rows) * (side + gap))
    sheet = Image.new("RGB", size, PAPER)
    draw, room = ImageDraw.Draw(sheet), margin - 2 * gap
    for i, text in enumerate(column_labels):
        write(draw, (margin + i * (side + gap), 9), text, 14, FAINT, side)
    for j, (images, text) in enumerate(zip(rows, row_labels, strict=True)):
        y = head + j * (side + gap)
        lines = _break_line(label(text), lambda part: _measure(draw, part, 14) <= room)
        for n, part in enumerate(lines):
            write(draw, (gap, y + side // 2 - line + line * n), part, 14, TEXT, room)
        for i, image in zip(range(len(column_labels)), images, strict=True):
            sheet.paste(enlarge(image, side), (margin + i * (side + gap), y))
    return sheet


def _measure(draw: ImageDraw.ImageDraw, text: str, size: int) -> float:
    """The width of a line of text in pixels."""
    return draw.textlength(text, font=font(choose_font(text)[0], size))


def _break_line(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The text as one line if it fits, else two: broken at the last space that fits."""
    n = _longest(text, fits)
    space = text.rfind(" ", 0, n + 1)
    return [text] if n == len(text) or space < 0 else [text[:space], text[space + 1 :]]
