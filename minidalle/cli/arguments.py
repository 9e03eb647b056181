"""Arguments that several commands share: paths, and files to be written."""

import argparse
import os
from pathlib import Path

from minidalle.errors import MinidalleError
from minidalle.files import resolve


def path(text: str) -> Path:
    """A path from the command line; ~ is expanded also where the shell does not (--out=~/x)."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: there is no such home directory") from error


def check_writable(file: Path, is_picture: bool = False) -> None:
    """Raises MinidalleError at once for what would fail after minutes of drawing."""
    if is_picture:
        from PIL import Image

        if file.suffix.lower() not in Image.registered_extensions():
            raise MinidalleError(
                f"cannot write {file}: its ending does not name a kind of picture; for instance"
                f" {file.stem or 'pictures'}.png"
            )
    resolve(file)  # raises for a link to itself
    if not file.parent.is_dir():
        raise MinidalleError(f"cannot write {file}: there is no folder {file.parent}; make it")
    if file.is_dir():
        raise MinidalleError(f"cannot write {file}: it is a folder; name a file")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise MinidalleError(f"cannot write {file}: it is not yours to write; choose another place")
