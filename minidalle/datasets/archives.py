"""Zip archives of pictures: unpacked completely, or not at all.

An archive from a stranger may write outside its folder, create links, or fill the disk. Every entry
is therefore checked before the first byte is written.
"""

import lzma
import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from minidalle.errors import MinidalleError

MAX_BYTES = 20_000_000_000  # unpacked; a zip bomb of 42 kB unpacks to 4.5 PB
MAX_FILES = 1_000_000
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, UnicodeDecodeError,
           NotImplementedError)  # fmt: skip
CLASH = (FileExistsError, NotADirectoryError, IsADirectoryError)


def unpack(archive: Path, into: Path) -> Path:
    """Unpack `archive` into a new folder in `into`, and return that folder.

    If the same archive was unpacked there before, its folder is returned unchanged. Raises
    MinidalleError, and leaves no files behind, if the archive is invalid or an entry is refused.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            entries = file.infolist()
            _check_entries(archive, entries)
            listing = repr([(e.filename, e.CRC, e.file_size) for e in entries])
            folder = into / f"{archive.stem}-{zlib.crc32(listing.encode()):08x}"
            if folder.is_dir():
                return folder
            staging = folder.with_name(f".{folder.name}")
            shutil.rmtree(staging, ignore_errors=True)  # left incomplete by a killed run
            staging.mkdir(parents=True)
            try:
                _extract(file, staging)
                staging.rename(folder)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            return folder
    except DAMAGED as error:
        raise MinidalleError(
            f"{archive}: not a valid zip archive ({error}); nothing was unpacked. Download or make"
            " it again, or unpack it yourself and name the folder"
        ) from error
    except OSError as error:
        raise MinidalleError(
            f"{archive}: cannot be unpacked into {into} ({error.strerror or error}); no files were"
            " left behind. Free some space, or choose another --out"
        ) from error


def _extract(file: zipfile.ZipFile, into: Path) -> None:
    """Write every entry. Raises one of DAMAGED for a bad archive, OSError for a bad disk."""
    try:
        file.extractall(into)
    except CLASH as error:
        raise zipfile.BadZipFile("a file and a folder in it have the same name") from error
    except OSError as error:
        if error.errno is None:  # raised by bzip2's decoder for bad data
            raise zipfile.BadZipFile(str(error)) from error
        raise


def _check_entries(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Raise MinidalleError for the first unsafe entry, or if the total is too large."""
    for entry in entries:
        name = entry.filename
        problem = (
            "points outside the folder"
            if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name)
            or ".." in name.split("/")
            else "is a link" if stat.S_ISLNK(entry.external_attr >> 16)
            else "is encrypted" if entry.flag_bits & 1
            else None
        )  # fmt: skip
        if problem:
            raise MinidalleError(
                f"{archive}: {name!r} {problem}; nothing was unpacked. Make the archive again from"
                " the folder of pictures alone"
            )
    size = sum(entry.file_size for entry in entries)
    if size > MAX_BYTES or len(entries) > MAX_FILES:
        raise MinidalleError(
            f"{archive}: {len(entries)} files, {size / 1e9:.1f} GB unpacked; at most {MAX_FILES}"
            f" and {MAX_BYTES / 1e9:g} GB are allowed, nothing was unpacked. Make it smaller, or"
            " unpack it yourself and name the folder"
        )
