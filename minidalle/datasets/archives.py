"""A folder of pictures that came as one .zip: unpacked whole, or refused whole.

An archive is a list of names, each with bytes to be written there, by someone else. Before the
first byte is written, every entry is looked at: none may lead out of the folder, be a link, or
swell to more than a disk should hold.
"""

import lzma
import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from minidalle.errors import MinidalleError

MAX_BYTES = 20_000_000_000  # unpacked; a zip bomb of 42 kB holds 4.5 PB
MAX_FILES = 1_000_000
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, UnicodeDecodeError,
           NotImplementedError)  # fmt: skip
CLASH = (FileExistsError, NotADirectoryError, IsADirectoryError)


def unpack(archive: Path, into: Path) -> Path:
    """Unpack `archive` into a folder of its own under `into`, and return that folder.

    What was unpacked before is not unpacked again. Raises MinidalleError, and leaves nothing
    behind, where it is no sound zip archive or any entry of it is refused.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            entries = file.infolist()
            _inspect(archive, entries)
            listing = repr([(e.filename, e.CRC, e.file_size) for e in entries])
            folder = into / f"{archive.stem}-{zlib.crc32(listing.encode()):08x}"
            if folder.is_dir():
                return folder
            staging = folder.with_name(f".{folder.name}")
            shutil.rmtree(staging, ignore_errors=True)  # a run that was killed left it half done
            staging.mkdir(parents=True)
            try:
                _extract(file, staging)
                staging.rename(folder)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            return folder
    except DAMAGED as error:
        raise MinidalleError(
            f"{archive}: no sound zip archive ({error}); nothing was unpacked. Fetch or make it"
            " anew, or unpack it yourself and name the folder"
        ) from error
    except OSError as error:
        raise MinidalleError(
            f"{archive}: cannot be unpacked into {into} ({error.strerror or error}); nothing was"
            " left behind. Make room, or choose another --out"
        ) from error


def _extract(file: zipfile.ZipFile, into: Path) -> None:
    """Write every entry. Raises one of DAMAGED where the archive is at fault, and not the disk."""
    try:
        file.extractall(into)
    except CLASH as error:
        raise zipfile.BadZipFile("a file and a folder in it have one name") from error
    except OSError as error:
        if error.errno is None:  # of bzip2's decoder
            raise zipfile.BadZipFile(str(error)) from error
        raise


def _inspect(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse the archive for the first entry that has no place in a folder of pictures."""
    for entry in entries:
        name = entry.filename
        trouble = (
            "leads out of the folder"
            if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name)
            or ".." in name.split("/")
            else "is a link" if stat.S_ISLNK(entry.external_attr >> 16)
            else "is encrypted" if entry.flag_bits & 1
            else None
        )  # fmt: skip
        if trouble:
            raise MinidalleError(
                f"{archive}: {name!r} {trouble}; nothing was unpacked. Make the archive anew from"
                " the folder of pictures alone"
            )
    size = sum(entry.file_size for entry in entries)
    if size > MAX_BYTES or len(entries) > MAX_FILES:
        raise MinidalleError(
            f"{archive}: {len(entries)} files, {size / 1e9:.1f} GB unpacked; at most {MAX_FILES}"
            f" and {MAX_BYTES / 1e9:g} GB are taken, nothing was unpacked. Make it smaller, or"
            " unpack it yourself and name the folder"
        )
