"""Captions as they stand in files: UTF-8 text, JSON lines, CSV."""

import contextlib
import csv
import io
import json
import re
from collections.abc import Iterator

from minidalle.datasets.problems import Unusable


def read_text(data: bytes) -> str:
    """Decode UTF-8, byte order mark or none; Unusable names the line, and guesses, but aloud.

    The guess is never used: what is 猫 in one encoding is è in another, and only the author knows.
    """
    for number, line in enumerate(data.split(b"\n"), 1):
        if b"\0" in line:
            raise Unusable(f"line {number}: not UTF-8 (UTF-16, perhaps); save it as UTF-8")
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as fault:
            remedy = "save it as UTF-8"
            with contextlib.suppress(UnicodeDecodeError):
                guess = line.decode("gb18030").strip()[:24]
                remedy += (
                    f"; as GBK it reads “{guess}”: if that is right, iconv -f GB18030 -t UTF-8"
                )
            raise Unusable(f"line {number}: not UTF-8; {remedy}") from fault
    return data.decode("utf-8-sig")


def clean_caption(raw: object, line: int) -> str:
    """A caption as one line, lines joined by spaces; Unusable if there is nothing to learn."""
    if raw is None:
        raise Unusable(f"line {line}: no caption; write one under “text”")
    if not isinstance(raw, str):
        raise Unusable(f"line {line}: the caption is no string; put it in quotes")
    caption = " ".join(part.strip() for part in raw.splitlines() if part.strip())
    if not caption:
        raise Unusable(f"line {line}: the caption is empty; write one")
    if re.search("[\ud800-\udfff]", caption):
        raise Unusable(f"line {line}: half a surrogate pair; write the character itself")
    return caption


def rows_of_jsonl(text: str) -> Iterator[tuple[int, dict]]:
    """(line number, row); Unusable names the line."""
    for line, source in enumerate(text.split("\n"), 1):  # splitlines() would cut inside strings
        if not source.strip():
            continue
        try:
            row = json.loads(source)
        except (ValueError, RecursionError) as fault:
            raise Unusable(f"line {line}: not JSON ({fault}); write one object a line") from fault
        if not isinstance(row, dict):
            raise Unusable(f'line {line}: no object; write {{"file_name": "…", "text": "…"}}')
        yield line, row


def rows_of_csv(text: str) -> Iterator[tuple[int, dict]]:
    """(line number, row); Unusable names the line at which the guilty row begins."""
    # strict: without it a forgotten quote swallows the rest of the file as one long caption
    rows = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    columns: list[str] = []
    line = 1
    try:
        for row in rows:
            if not columns:
                columns = [column.strip() for column in row]
                if "file_name" not in columns or not {"text", "caption"} & set(columns):
                    raise Unusable(f"line {line}: the columns must be file_name,text, not {row}")
            elif len(row) > len(columns):
                raise Unusable(
                    f"line {line}: {len(row)} fields for {len(columns)} columns; "
                    "put quotes around a caption that holds a comma"
                )
            elif row:
                yield line, dict(zip(columns, row, strict=False))
            line = rows.line_num + 1
    except csv.Error as fault:
        raise Unusable(f"line {line}: not CSV ({fault}); check its quotes") from fault


TABLES = {"metadata.jsonl": rows_of_jsonl, "metadata.csv": rows_of_csv}
