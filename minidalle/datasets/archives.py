"""Zip archives of pictures: unpacked completely, or not at all.

An archive from a stranger may write outside its folder, create links, or fill the disk. Every entry
is therefore checked before the first byte is written.

Several processes may unpack the same archive at once. The first takes a lock, and the others wait
and use its folder. The files are written to a staging folder with a random name, which is renamed
when all of them are there: a folder with the final name is always complete.
"""

import contextlib
import errno
import lzma
import os
import re
import secrets
import shutil
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from minidalle.datasets.archive_names import read_names
from minidalle.datasets.problems import CONTAINERS
from minidalle.errors import MinidalleError
from minidalle.files import UNSUPPORTED

MAX_BYTES = 20_000_000_000  # unpacked; a zip bomb of 42 kB unpacks to 4.5 PB
MAX_FILES = 1_000_000
PATIENCE = 2.0  # seconds of waiting before a line says why
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, UnicodeDecodeError,
           NotImplementedError)  # fmt: skip
CLASH = (FileExistsError, NotADirectoryError, IsADirectoryError)


def unpack(archive: Path, into: Path) -> Path:
    """Unpack `archive` into a new folder in `into`, and return that folder.

    If the same archive was unpacked there before, its folder is returned unchanged. Raises
    MinidalleError, and leaves no files behind, if the archive is invalid or an entry is refused, or
    if files are missing from the folder.
    """
    if archive.suffix.lower() in CONTAINERS and not zipfile.is_zipfile(archive):
        raise MinidalleError(f"{archive}: {CONTAINERS[archive.suffix.lower()]}")
    try:
        with zipfile.ZipFile(archive) as file:
            entries = file.infolist()
            read_names(archive, entries)
            _check_size(archive, entries)
            listing = repr([(e.filename, e.CRC, e.file_size) for e in entries])
            folder = into / f"{archive.stem}-{zlib.crc32(listing.encode()):08x}"
            unpack_once(archive, folder, lambda staging: _extract(file, staging, archive))
            names = {os.path.normpath(e.filename) for e in entries if not e.is_dir()}
            check_whole(archive, folder, len(names))
            return folder
    except DAMAGED as error:
        raise MinidalleError(
            f"{archive}: not a valid zip archive ({error}); nothing was unpacked. Download or make"
            " it again, or unpack it yourself and name the folder"
        ) from error
    except OSError as error:
        raise MinidalleError(
            f"{archive}: cannot be unpacked into {into} ({error.strerror or error}); no files were"
            " left behind. Free some space, or unpack it yourself and name the folder"
        ) from error


def unpack_once(archive: Path, folder: Path, extract: Callable[[Path], int]) -> None:
    """Make `folder` with the files of `archive`, if no process has made it before.

    extract: writes all files into the folder it is given; the number of files.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder, archive) as is_locked:
        if not folder.is_dir():  # no other process made it meanwhile
            if is_locked:
                _sweep(folder)
            _unpack_to(folder, extract, archive)


@contextlib.contextmanager
def _lock(folder: Path, archive: Path) -> Iterator[bool]:
    """Wait until no other process unpacks to `folder`.

    Yields False on a file system without locks. The kernel frees the lock of a process that dies.
    """
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    is_locked = True
    try:
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            warnings.warn(
                f"{archive}: another process unpacks it into {folder}; waiting for it"
                " (Ctrl-C ends this)",
                stacklevel=5,
            )
            lock.acquire(timeout=-1)
    except NotImplementedError:
        is_locked = False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        is_locked = False
    try:
        yield is_locked
    finally:
        if is_locked:
            lock.release()


def _sweep(folder: Path) -> None:
    """Remove what a killed process left. Only for the owner of the lock: nobody is writing."""
    ours = re.compile(rf"\.{re.escape(folder.name)}(\.[0-9a-f]{{16}})?")
    for path in folder.parent.iterdir():
        if ours.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _unpack_to(folder: Path, extract: Callable[[Path], int], archive: Path) -> None:
    staging = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    staging.mkdir()
    try:
        expected = extract(staging)
        present = _num_files(staging)
        if present != expected:
            raise MinidalleError(
                f"{archive}: {present} of {expected} files are in {staging}, another program"
                " changes it; nothing was unpacked. End that program, or choose another --out"
            )
        try:
            staging.rename(folder)
        except OSError as error:
            # without locks, another process may have been faster; its folder is complete too
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not folder.is_dir():
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _extract(file: zipfile.ZipFile, into: Path, archive: Path) -> int:
    """Write every entry; the number of files. Raises one of DAMAGED for a bad archive, OSError for
    a bad disk, MinidalleError for two names that this file system takes for one."""
    written: dict[str, str] = {}  # folded path: path
    files: set[str] = set()
    try:
        for entry in file.infolist():
            if not entry.is_dir():
                path = os.path.normpath(entry.filename)
                first = written.setdefault(unicodedata.normalize("NFC", path).casefold(), path)
                if first != path and path not in files and _exists(into / path):
                    raise MinidalleError(
                        f"{archive}: {first!r} and {path!r} are one file on this file system;"
                        " nothing was unpacked. Rename one, and make the archive again"
                    )
                files.add(path)
            file.extract(entry, into)
    except CLASH as error:
        raise zipfile.BadZipFile("a file and a folder in it have the same name") from error
    except OSError as error:
        if error.errno is None:  # raised by bzip2's decoder for bad data
            raise zipfile.BadZipFile(str(error)) from error
        raise
    return len(files)


def check_whole(archive: Path, folder: Path, expected: int) -> None:
    """Raises MinidalleError where a folder has lost files: it was copied half way, for instance."""
    present = _num_files(folder)
    if present < expected:
        raise MinidalleError(
            f"{archive}: {folder}, where it was unpacked, has {present} of its {expected} files;"
            " move that folder away, or name it with --data if this is what you want"
        )


def _num_files(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _exists(path: Path) -> bool:
    """A separate function, since tests imitate a file system that ignores case."""
    return path.exists()


def _check_size(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    check_size(archive, sum(entry.file_size for entry in entries), len(entries))


def check_size(archive: Path, size: int, files: int) -> None:
    """Raises MinidalleError for more bytes or files than anybody means to unpack."""
    if size > MAX_BYTES or files > MAX_FILES:
        raise MinidalleError(
            f"{archive}: {files} files, {size / 1e9:.1f} GB unpacked; at most {MAX_FILES}"
            f" and {MAX_BYTES / 1e9:g} GB are allowed, nothing was unpacked. Make it smaller, or"
            " unpack it yourself and name the folder"
        )
