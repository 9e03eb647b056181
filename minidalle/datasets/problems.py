"""Problems of files and rows, described on one line with the remedy."""

from pathlib import Path


class Unusable(ValueError):
    """The reason why a file or a row cannot be used, and the remedy; the caller adds the name."""


def describe_error(error: BaseException) -> str:
    """The cause of an error in words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def format_problem(where: Path | str, reason: object) -> str:
    """`where: reason` on one line, printable even if a file name is not Unicode."""
    line = " ".join(f"{where}: {reason}".splitlines())
    return line.encode("utf-8", "backslashreplace").decode()
