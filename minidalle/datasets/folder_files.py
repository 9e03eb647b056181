"""The files of a folder: what kind each is, and that none is outside it."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from minidalle.datasets.problems import CONTAINERS, count, format_problem
from minidalle.errors import MinidalleError

PICTURES = {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".gif", ".webp", ".bmp",
            ".dib", ".tif", ".tiff"}  # fmt: skip
FOREIGN = {".heic", ".heif", ".avif", ".jxl", ".svg", ".psd"}  # not decoded, but listed
MAX_SUFFIXES = 8  # named in the line on other files

Skip = Callable[[str, object], None]  # lists a file that is left out, with the reason


def suffix(name: str) -> str:
    """The suffix in lower case, with its dot; empty if there is none."""
    return PurePosixPath(name).suffix.lower()


def check_inside(folder: Path, name: str, source: str) -> None:
    """Raise MinidalleError if a name points outside the folder.

    Other files of the user are not training data.
    """
    try:
        real = Path(os.path.realpath(folder / name))
        inside = real.is_relative_to(os.path.realpath(folder))
    except ValueError:  # a NUL in the name
        inside = False
    if not inside or re.search("(^|/)[A-Za-z]:", name):  # C:x, a path on a Windows drive
        problem = f"“{name}” is not within {folder}; copy the picture there, and name it from there"
        raise MinidalleError(format_problem(source, problem))


def relative_to(folder: Path, name: str) -> str:
    """An absolute name as one relative to the folder, if it is inside; else the name unchanged.

    The folder may have two absolute names, as given and with its links resolved.
    """
    try:
        if not os.path.isabs(name):
            return name
        top, real_top = os.path.abspath(folder), os.path.realpath(folder)
        parent, base = os.path.split(os.path.normpath(name))
        # only the links of its folder are resolved: a picture that is a link keeps its own name
        for path in (os.path.join(parent, base), os.path.join(os.path.realpath(parent), base)):
            for root in (top, real_top):
                if Path(path).is_relative_to(root):
                    return Path(path).relative_to(root).as_posix()
    except ValueError:  # a NUL in the name
        pass
    return name


def walk(folder: Path, skip: Skip) -> Iterator[str]:
    """File names relative to the folder (`sub/cat.png`), in the same order on any machine.

    Hidden files are ignored. Raises MinidalleError for a link that points outside the folder.
    """

    def skip_unreadable(error: OSError) -> None:
        name = Path(error.filename).relative_to(folder).as_posix()
        skip(name, f"{error.strerror}; make it readable")

    for top, folders, files in os.walk(folder, onerror=skip_unreadable):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        for entry in folders + sorted(f for f in files if not f.startswith(".")):
            path = Path(top, entry)
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                check_inside(folder, name, str(path))
            if path.is_file():
                yield name
            elif entry in files:  # opening a pipe would block
                skip(name, "a dead link or not a regular file; replace or remove it")


def describe_containers(files: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(file, what to do) of the first container of each kind; the others are counted."""
    by_kind: dict[str, list[str]] = {}
    for name in files:
        if suffix(name) in CONTAINERS:
            by_kind.setdefault(suffix(name), []).append(name)
    for kind, names in by_kind.items():
        others = f" (and {len(names) - 1} more {kind})" if len(names) > 1 else ""
        yield names[0], CONTAINERS[kind] + others


def describe_others(files: Iterable[str]) -> str | None:
    """A line that counts the files of other kinds; None if there are none."""
    kinds = Counter(suffix(name) or "no suffix" for name in files)
    if not kinds:
        return None
    names = sorted(kinds, key=lambda kind: (-kinds[kind], kind))
    if len(names) > MAX_SUFFIXES:
        names[MAX_SUFFIXES:] = ["…"]
    total = kinds.total()
    verb = "was" if total == 1 else "were"
    return f"{count(total, 'other file')} {verb} not looked at: {', '.join(names)}"
