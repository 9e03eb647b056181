"""What a command ends with: status 0, or one line on stderr and status 2."""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from minidalle.errors import MinidalleError
from minidalle.files import DISK_FULL
from minidalle.tensors import out_of_memory


def print_note(message: object, *_: object, **__: object) -> None:
    """One line on stderr; takes the place of `warnings.showwarning`."""
    print(f"note: {message}", file=sys.stderr)


def exit_status(work: Callable[[], int | None]) -> int:
    """Run a command. An error the user can fix becomes one line on stderr, and status 2."""
    warnings.showwarning = print_note
    try:
        return work() or 0
    except KeyboardInterrupt:
        return 130
    except (MinidalleError, OSError, RuntimeError, MemoryError) as error:
        message = _one_line(error)
        if message is None:
            raise
    print(f"minidalle: {message}", file=sys.stderr)
    return 2


def _one_line(error: Exception) -> str | None:
    """Problem and remedy of an error the user can fix; None for a fault of ours."""
    if isinstance(error, MinidalleError):
        return str(error)
    if isinstance(error, OSError):
        if error.errno in DISK_FULL:
            return f"{error.strerror}: make room, or choose another place to write to"
        if error.filename is not None:
            return f"{error.filename}: {error.strerror}; choose another place"
        return None
    if out_of_memory(error):
        return (
            "out of memory: ask for less at a time, with fewer --candidates or a smaller"
            " --batch-size"
        )
    return None


def check_writable(file: Path, is_picture: bool = False) -> None:
    """Raises MinidalleError at once for what would fail after minutes of drawing."""
    if is_picture and file.suffix.lower() not in Image.registered_extensions():
        raise MinidalleError(
            f"cannot write {file}: its ending does not name a kind of picture; for instance"
            f" {file.stem or 'pictures'}.png"
        )
    if not file.parent.is_dir():
        raise MinidalleError(f"cannot write {file}: there is no folder {file.parent}; make it")
    if file.is_dir():
        raise MinidalleError(f"cannot write {file}: it is a folder; name a file")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise MinidalleError(f"cannot write {file}: it is not yours to write; choose another place")
