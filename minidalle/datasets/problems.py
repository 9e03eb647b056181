"""Problems of files and rows, described on one line with the remedy."""

from pathlib import Path

# Files that hold many pictures, and are not read. By suffix: what to do with them.
CONTAINERS = {
    ".parquet": "Parquet is not read; save its pictures as files, and their captions with"
    " pandas.read_parquet(…)[['file_name', 'text']].to_csv('metadata.csv', index=False)",
    ".arrow": "Arrow is not read; save its pictures as files, and write metadata.csv next to them",
    ".tar": "a tar archive is not read; unpack it and name the folder",
}


class Unusable(ValueError):
    """The reason why a file or a row cannot be used, and the remedy; the caller adds the name."""


def describe_error(error: BaseException) -> str:
    """The cause of an error in words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def format_problem(where: Path | str, reason: object) -> str:
    """`where: reason` on one line, printable even if a file name is not Unicode."""
    line = " ".join(f"{where}: {reason}".splitlines())
    return line.encode("utf-8", "backslashreplace").decode()


def count(number: int, thing: str) -> str:
    """`1 picture`, `2 pictures`."""
    return f"{number} {thing}" + ("" if number == 1 else "s")
