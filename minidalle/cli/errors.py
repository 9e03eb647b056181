"""What a command ends with: status 0, or one line on stderr and status 2."""

import os
import re
import sys
import warnings
from collections.abc import Callable

from minidalle.errors import MinidalleError

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    """Text from files, captions and bundles, with control and escape characters made visible."""
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def print_note(message: object, *_: object, **__: object) -> None:
    """One line on stderr; takes the place of `warnings.showwarning`."""
    print(f"note: {printable(message)}", file=sys.stderr)


def exit_status(work: Callable[[], int | None]) -> int:
    """Run a command. An error the user can fix becomes one line on stderr, and status 2."""
    warnings.showwarning = print_note
    try:
        status = work() or 0
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe has gone: nobody is there to read it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (MinidalleError, OSError, RuntimeError, MemoryError) as error:
        message = _one_line(error)
        if message is None:
            raise
    print(f"minidalle: {printable(message)}", file=sys.stderr)
    return 2


def _one_line(error: Exception) -> str | None:
    """Problem and remedy of an error the user can fix; None for a fault of ours."""
    from minidalle.files import DISK_FULL
    from minidalle.tensors import out_of_memory  # torch: only once something went wrong

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
