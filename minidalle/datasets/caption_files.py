"""Captions from files: UTF-8 text, JSON lines, CSV."""

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from minidalle.datasets.problems import Unusable

Row = dict[str, Any]  # column: value; values may have any type


def read_text(data: bytes) -> str:
    """Decode UTF-8 with or without a byte order mark. Raises Unusable with the line number.

    For a line that is valid GBK, the message quotes its GBK reading. The function never returns
    that reading: 猫 in GBK has the bytes of è in UTF-8, and only the author knows the encoding.
    """
    for number, line in enumerate(data.split(b"\n"), 1):
        if b"\0" in line:
            raise Unusable(f"line {number}: not UTF-8 (UTF-16, perhaps); save it as UTF-8")
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            remedy = "save it as UTF-8"
            with contextlib.suppress(UnicodeDecodeError):
                guess = line.decode("gb18030").strip()[:24]
                remedy += (
                    f"; as GBK it reads “{guess}”: if that is right, iconv -f GB18030 -t UTF-8"
                )
            raise Unusable(f"line {number}: not UTF-8; {remedy}") from error
    return data.decode("utf-8-sig")


def clean_caption(raw: object, line: int) -> str:
    """A caption on one line, its lines joined by spaces. Raises Unusable if it has no text."""
    if raw is None:
        raise Unusable(f"line {line}: no caption; write one under “text”")
    if not isinstance(raw, str):
        raise Unusable(f"line {line}: the caption is not a string; put it in quotes")
    caption = " ".join(part.strip() for part in raw.splitlines() if part.strip())
    if not caption:
        raise Unusable(f"line {line}: the caption is empty; write one")
    if re.search("[\ud800-\udfff]", caption):
        raise Unusable(
            f"line {line}: the caption has half a surrogate pair; write the character itself"
        )
    return caption


def read_jsonl(text: str) -> Iterator[tuple[int, Row]]:
    """(line number, row) of JSON lines. Raises Unusable with the line number."""
    # split, since splitlines() also breaks at U+2028, which a JSON string may contain
    for line, source in enumerate(text.split("\n"), 1):
        if not source.strip():
            continue
        try:
            row = json.loads(source)
        except (ValueError, RecursionError) as error:
            raise Unusable(f"line {line}: not JSON ({error}); write one object per line") from error
        if not isinstance(row, dict):
            raise Unusable(f'line {line}: not an object; write {{"file_name": "…", "text": "…"}}')
        yield line, row


def read_csv(text: str) -> Iterator[tuple[int, Row]]:
    """(line number, row) of CSV. Raises Unusable with the first line of the malformed row."""
    # strict, since otherwise a missing quote makes the rest of the file one long caption
    rows = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    columns: list[str] = []
    line = 1
    try:
        for row in rows:
            if not columns:
                columns = [column.strip() for column in row]
                if "file_name" not in columns or not {"text", "caption"} & set(columns):
                    raise Unusable(f"line {line}: the columns must be file_name,text, got {row}")
            elif len(row) > len(columns):
                raise Unusable(
                    f"line {line}: {len(row)} fields for {len(columns)} columns; "
                    "put quotes around a caption with a comma"
                )
            elif row:
                yield line, dict(zip(columns, row, strict=False))
            line = rows.line_num + 1
    except csv.Error as error:
        raise Unusable(f"line {line}: not CSV ({error}); check its quotes") from error


TABLES: dict[str, Callable[[str], Iterator[tuple[int, Row]]]] = {
    "metadata.jsonl": read_jsonl,
    "metadata.csv": read_csv,
}  # the reader of each table, by file name
