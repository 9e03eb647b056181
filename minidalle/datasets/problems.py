"""Why a file or a row cannot be used: said in one line, with the remedy."""

from pathlib import Path


class Unusable(ValueError):
    """Why a file or a row cannot be used, and the remedy; the caller adds which file it is."""


def why(fault: BaseException) -> str:
    """The cause in words."""
    return getattr(fault, "strerror", None) or str(fault) or type(fault).__name__


def one_line(where: Path | str, reason: object) -> str:
    """`where: reason` on one line that prints anywhere, even if a file name is not Unicode."""
    line = " ".join(f"{where}: {reason}".splitlines())
    return line.encode("utf-8", "backslashreplace").decode()
