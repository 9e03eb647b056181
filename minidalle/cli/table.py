"""Tables of text at a terminal, whose columns stand straight whatever the names are."""

import unicodedata
from collections.abc import Sequence


def width(text: str) -> int:
    """Columns that a text takes: a Chinese character two, an accent or a joiner none."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A header and its rows in columns: the first to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]

    def aligned(line: Sequence[str]) -> str:
        gaps = [" " * (most - width(text)) for text, most in zip(line, widths, strict=True)]
        cells = [line[0] + gaps[0], *(g + t for g, t in zip(gaps[1:], line[1:], strict=True))]
        return "  ".join(cells).rstrip()

    return "\n".join(map(aligned, lines))
