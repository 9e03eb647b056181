"""Standard streams that may be closed, or may know no Unicode."""

import io
import sys


class NullStream(io.TextIOBase):
    """Takes text and forgets it."""

    def write(self, text: str) -> int:
        return len(text)


def repair_streams() -> None:
    """A closed stream becomes a silent one, and a terminal without Unicode shows escapes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, NullStream())
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def silence_streams() -> None:
    """The terminal has gone: from now on printing does nothing."""
    sys.stdout = sys.stderr = NullStream()
