"""Shards of pictures, as img2dataset and WebDataset write them: unpacked completely, or not at all.

A shard is a tar archive with the files of each pair under one name:

    00000.tar ─ 000000000.jpg, 000000000.txt, 000000000.json, 000000001.jpg, …

The pictures, texts and tables are unpacked into a folder of the shard's name, and read like any
other folder. Other files (the .json repeats the caption and its source) stay in the archive.
"""

import contextlib
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from minidalle.datasets.archives import check_size, check_whole, unpack_once
from minidalle.datasets.caption_files import TABLES
from minidalle.datasets.folder_files import FOREIGN, PICTURES, suffix
from minidalle.datasets.problems import describe_error, format_problem
from minidalle.errors import MinidalleError

REMEDY = "nothing was unpacked. Download or make it again, or leave it out"


def find_shards(data: Path) -> list[Path]:
    """The shards that `data` is or holds; none if it is an archive or a folder of another kind.

    A folder of shards has no pictures beside them.
    """
    if data.suffix.lower() == ".tar" and data.is_file():
        return [data]
    if not data.is_dir():
        return []
    files = [path for path in data.iterdir() if not path.name.startswith(".")]
    if any(suffix(path.name) in PICTURES for path in files):
        return []
    return sorted(path for path in files if suffix(path.name) == ".tar" and path.is_file())


def unpack_shards(data: Path, shards: list[Path], into: Path) -> Path:
    """Unpack the shards of `data` into a new folder in `into`, and return that folder.

    If the same shards were unpacked there before, their folder is returned unchanged. Raises
    MinidalleError, and leaves no files behind, if a shard is damaged or a member is refused.
    """
    try:
        members: dict[Path, list[tarfile.TarInfo]] = {}
        size = files = 0
        for shard in shards:
            members[shard] = _read_members(shard)
            size += sum(member.size for member in members[shard])
            files += len(members[shard])
            check_size(data, size, files)  # before the next: the lists take memory
        # a tar has no checksums of contents: its time stands for them
        listing = repr([(s.name, s.stat().st_size, s.stat().st_mtime_ns) for s in shards])
        name = Path(os.path.abspath(data)).stem
        folder = into / f"{name}-{zlib.crc32(listing.encode('utf-8', 'surrogatepass')):08x}"

        def extract(staging: Path) -> int:
            for shard, some in members.items():
                _extract(shard, some, staging / shard.stem)
            return files

        unpack_once(data, folder, extract)
        check_whole(data, folder, files)
        return folder
    except OSError as error:
        raise MinidalleError(
            f"{data}: cannot be unpacked into {into} ({describe_error(error)}); no files were left"
            " behind. Free some space, or unpack it yourself and name the folder"
        ) from error


@contextlib.contextmanager
def _open(shard: Path) -> Iterator[tarfile.TarFile]:
    """A shard, for reading; an error of its format becomes a MinidalleError."""
    try:
        with tarfile.open(shard, "r:") as file:  # not compressed: its size bounds the work
            yield file
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        problem = f"not a valid tar archive ({describe_error(error)}); {REMEDY}"
        raise MinidalleError(format_problem(shard, problem)) from error


def _read_members(shard: Path) -> list[tarfile.TarInfo]:
    """The members to unpack. Raises MinidalleError if any member is unsafe."""
    with _open(shard) as file:
        members = [member for member in file.getmembers() if not member.isdir()]
        assert file.fileobj is not None
        file.fileobj.seek(file.offset)  # tarfile takes a damaged header for the end
        end = file.fileobj.read(512)
        if len(end) < 512 or any(end):
            raise tarfile.ReadError("it ends early, or a part of it is damaged")
    for member in members:
        if problem := _find_problem(member):
            raise MinidalleError(format_problem(shard, f"{member.name!r} {problem}; {REMEDY}"))
    return [
        member
        for member in members
        if suffix(member.name) in PICTURES | FOREIGN | {".txt"}
        or member.name.rpartition("/")[2] in TABLES
    ]


def _find_problem(member: tarfile.TarInfo) -> str | None:
    name = member.name
    if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
        return "points outside the folder"
    if not member.isreg() or member.issparse():
        return "is a link or not a regular file"
    return "has no usable name" if "\0" in name or "\\" in name else None


def _extract(shard: Path, members: list[tarfile.TarInfo], into: Path) -> None:
    into.mkdir(exist_ok=True)  # two names may be one on this file system
    with _open(shard) as file:
        for member in members:
            target = into / member.name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as out:
                    source = file.extractfile(member)
                    assert source is not None  # as every regular file has contents
                    shutil.copyfileobj(source, out)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                problem = f"{member.name!r} is there twice on this file system; {REMEDY}"
                raise MinidalleError(format_problem(shard, problem)) from error
            if target.stat().st_size != member.size:
                raise tarfile.ReadError(f"{member.name!r} is cut short")
