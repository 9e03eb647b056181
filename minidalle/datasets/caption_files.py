"""Captions from files: UTF-8 text, JSON lines, CSV.

A table may be large, so it is read line by line, and the length of a line is limited.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from minidalle.datasets.problems import Unusable

Row = dict[str, Any]  # column: value; values may have any type

MAX_CAPTION = 10_000  # characters; the models read some dozens of tokens
MAX_LINE = 1_000_000  # characters of a table's line, with all its columns
MAX_TEXT = 1_000_000  # bytes of a text file
MAX_TABLE = 2_000_000_000  # bytes
COLUMNS = ("text", "caption")  # that may hold the caption, unless the user chooses another


def check_line(line: str, number: int) -> str:
    """The line, decoded with errors="surrogateescape", if it is UTF-8; else raises Unusable.

    For a line that is valid GBK, the message quotes its GBK reading. The function never returns
    that reading: 猫 in GBK has the bytes of è in UTF-8, and only the author knows the encoding.
    """
    if "\0" in line:
        raise Unusable(f"line {number}: not UTF-8 (UTF-16, perhaps); save it as UTF-8")
    if line.isascii() or not re.search("[\udc80-\udcff]", line):
        return line
    remedy = "save it as UTF-8"
    try:
        guess = line.encode("utf-8", "surrogateescape").decode("gb18030").strip()[:24]
        remedy += f"; as GBK it reads “{guess}”: if that is right, iconv -f GB18030 -t UTF-8"
    except UnicodeDecodeError:
        pass
    raise Unusable(f"line {number}: not UTF-8; {remedy}")


def read_text(data: bytes) -> str:
    """Decode UTF-8 with or without a byte order mark. Raises Unusable with the line number."""
    text = data.decode("utf-8", "surrogateescape")
    for number, line in enumerate(re.split("\r\n|\r|\n", text), 1):
        check_line(line, number)
    return text.removeprefix("\ufeff")


def read_captions(path: Path) -> list[str]:
    """The captions of a text file: one on each line that is not empty. Raises Unusable, OSError."""
    with path.open("rb") as file:
        data = file.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        raise Unusable(f"larger than {MAX_TEXT / 1e6:g} MB; write one caption per line")
    lines = re.split("\r\n|\r|\n", read_text(data))
    captions = [clean_caption(line, n) for n, line in enumerate(lines, 1) if line.strip()]
    return captions or [clean_caption("", line=1)]


def clean_caption(raw: object, line: int) -> str:
    """A caption on one line, its lines joined by spaces. Raises Unusable if it has no text."""
    if raw is None:
        raise Unusable(f"line {line}: no caption; write one under “text”")
    if not isinstance(raw, str):
        raise Unusable(f"line {line}: the caption is not a string; put it in quotes")
    if len(raw) > MAX_CAPTION:
        raise Unusable(
            f"line {line}: the caption has more than {MAX_CAPTION:,} characters; shorten it"
        )
    caption = " ".join(part.strip() for part in raw.splitlines() if part.strip())
    if not caption:
        raise Unusable(f"line {line}: the caption is empty; write one")
    if re.search("[\ud800-\udfff]", caption):
        raise Unusable(
            f"line {line}: the caption has half a surrogate pair; write the character itself"
        )
    return caption


def _read_lines(file: TextIO) -> Iterator[str]:
    """The lines of a table, with their ends. Raises Unusable with the line number."""
    number = 1
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise Unusable(
                f"line {number}: longer than {MAX_LINE / 1e6:g} million characters; write one row"
                f" per line, with a caption of at most {MAX_CAPTION:,}"
            )
        yield check_line(line, number).removeprefix("\ufeff" if number == 1 else "")
        number += 1


def _read_jsonl(lines: Iterator[str], wanted: Sequence[str]) -> Iterator[tuple[int, Row]]:
    def refuse_repeated(pairs: list[tuple[str, Any]]) -> Row:
        """The parser alone would keep the last of two captions in silence."""
        _check_columns([key for key, _ in pairs], wanted)
        return dict(pairs)

    for line, source in enumerate(lines, 1):
        if not source.strip():
            continue
        try:
            row = json.loads(source, object_pairs_hook=refuse_repeated)
        except Unusable as error:
            raise Unusable(f"line {line}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise Unusable(f"line {line}: not JSON ({error}); write one object per line") from error
        if not isinstance(row, dict):
            raise Unusable(f'line {line}: not an object; write {{"file_name": "…", "text": "…"}}')
        yield line, row


def _check_columns(columns: list[str], wanted: Sequence[str]) -> None:
    for column in ("file_name", *wanted):
        if columns.count(column) > 1:
            raise Unusable(f"two columns “{column}”; keep one")


def _read_csv(lines: Iterator[str], wanted: Sequence[str]) -> Iterator[tuple[int, Row]]:
    # strict, since otherwise a missing quote makes the rest of the file one long caption
    rows = csv.reader(lines, strict=True, skipinitialspace=True)
    columns: list[str] = []
    line = 1
    try:
        for row in rows:
            if not columns:
                columns = [column.strip() for column in row]
                if "file_name" not in columns or len(columns) < 2:
                    raise Unusable(f"line {line}: the columns must be file_name,text, got {row}")
                try:
                    _check_columns(columns, wanted)
                except Unusable as error:
                    raise Unusable(f"line {line}: {error}") from error
            elif len(row) > len(columns):
                raise Unusable(
                    f"line {line}: {len(row)} fields for {len(columns)} columns; "
                    "put quotes around a caption with a comma"
                )
            elif row:
                # a short row has None in its last columns, as a short object of JSON has
                yield line, dict.fromkeys(columns) | dict(zip(columns, row, strict=False))
            line = rows.line_num + 1
    except csv.Error as error:
        raise Unusable(f"line {line}: not CSV ({error}); check its quotes") from error


TABLES: dict[str, Callable[[Iterator[str], Sequence[str]], Iterator[tuple[int, Row]]]] = {
    "metadata.jsonl": _read_jsonl,
    "metadata.csv": _read_csv,
}  # the reader of each table, by file name


def read_table(path: Path, column: str | None = None) -> list[tuple[int, object, object]]:
    """(line number, file name, caption) of each row of a table, unchecked.

    Args:
        path: the table, of a name in TABLES.
        column: the column of the captions; None for the only one of COLUMNS with a text in it.

    Raises:
        Unusable: the table is malformed, or it is not clear which column holds the captions.
        OSError: it cannot be read.
    """
    if path.stat().st_size > MAX_TABLE:
        raise Unusable(f"larger than {MAX_TABLE / 1e9:g} GB; keep file_name and text alone")
    wanted = (column,) if column else COLUMNS
    rows: list[tuple[int, object, Row]] = []
    present: dict[str, None] = {}  # all columns, in their order
    filled: set[str] = set()
    # newline="" keeps the ends of lines, which a caption in quotes may contain
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        for line, row in TABLES[path.name](_read_lines(file), wanted):
            present.update(dict.fromkeys(row))
            captions = {name: _shorten(row[name]) for name in wanted if name in row}
            filled.update(name for name, value in captions.items() if _has_text(value))
            rows.append((line, row.get("file_name"), captions))
    if not rows:
        return []
    names = ", ".join(present)
    if column and column not in present:
        raise Unusable(f"no column “{column}”; choose one of its columns: {names}")
    if len(filled) > 1:
        raise Unusable(
            "the columns “text” and “caption” are both in use; keep one of them, or set"
            " caption_column (--caption-column)"
        )
    if path.suffix == ".csv" and not present.keys() & set(wanted):
        raise Unusable(f"line 1: the columns must be file_name,text, got {names}")
    chosen = column or next((name for name in COLUMNS if name in filled), "text")
    chosen = chosen if chosen in present else "caption"
    return [(line, name, captions.get(chosen)) for line, name, captions in rows]


def _has_text(value: object) -> bool:
    return value is not None and (not isinstance(value, str) or bool(value.strip()))


def _shorten(value: object) -> object:
    """Long enough to be refused, without the rest in memory."""
    return value[: MAX_CAPTION + 1] if isinstance(value, str) else value
