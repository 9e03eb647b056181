"""Names in zip archives: their encoding, their separators, and whether they stay in the folder."""

import re
import stat
import warnings
import zipfile
from pathlib import Path

from minidalle.datasets.problems import format_problem
from minidalle.errors import MinidalleError

UTF8_FLAG = 0x800  # bit 11 of the flags: the name is UTF-8


def read_names(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Replace each entry's filename by the path that was meant, with `/` as separator.

    Raises MinidalleError for the first entry that is unsafe to unpack.
    """
    _decode(archive, entries)
    for entry in entries:
        entry.filename = entry.filename.replace("\\", "/")  # packed on Windows
        problem = _find_problem(entry)
        if problem:
            raise MinidalleError(
                format_problem(
                    archive,
                    f"{entry.filename!r} {problem}; nothing was unpacked. Make the archive again"
                    " from the folder of pictures alone",
                )
            )


def _find_problem(entry: zipfile.ZipInfo) -> str | None:
    name = entry.filename
    if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in name.split("/"):
        return "points outside the folder"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "is a link"
    return "is encrypted" if entry.flag_bits & 1 else None


def _decode(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Decode the names whose encoding the archive does not state.

    zipfile reads them as cp437, the code page of the first PCs. Today most are UTF-8 from a Mac, or
    GBK from Chinese Windows. One program packed them all, so all must be valid in the encoding.
    """
    unmarked = []
    for entry in entries:
        name = entry.orig_filename.split("\0")[0]
        # if they differ, zipfile found the Unicode name in an extra field
        is_plain = name.replace("\\", "/") == entry.filename.replace("\\", "/")
        if is_plain and not entry.flag_bits & UTF8_FLAG and not name.isascii():
            unmarked.append((entry, name.encode("cp437")))
    if not unmarked:
        return
    for encoding in ("utf-8", "gb18030", "cp437"):  # the last is valid for any bytes
        try:
            names = [raw.decode(encoding) for _, raw in unmarked]
            break
        except UnicodeDecodeError:
            continue
    for (entry, _), name in zip(unmarked, names, strict=True):
        entry.filename = name
    warnings.warn(
        format_problem(
            archive,
            f"the encoding of {len(names)} names is not stated; they are read as"
            f" {encoding.upper()}, for instance “{names[0]}”. If that is wrong, make the archive"
            " again with UTF-8 names",
        ),
        stacklevel=4,
    )
