"""Files and directories that are written whole or not at all, and hashed before they are parsed.

A new file is written beside the old one, pushed to the disk (fsync) and renamed into place. A
rename is all or nothing: after a kill at any moment a reader finds the old file or the new one. A
directory has a manifest besides, with the length and SHA-256 of each file. Its files are JSON and
safetensors, neither of which can carry code.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from torch import Tensor

from minidalle.errors import MinidalleError

DISK_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
# What network drives and containers answer where they lack locks or fsync of a directory.
UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
STAGING = ".staging-"  # prefix of what is not finished; a kill may leave one behind
BACKUP = ".old-"  # prefix of the former directory while the new one is renamed into place
FORMAT = 1  # of a directory
MANIFEST = "manifest.json"
LEFTOVER = re.compile(f"(?:{re.escape(STAGING)}|{re.escape(BACKUP)})(.+)-[0-9a-f]{{8}}", re.DOTALL)
REMEDY = "fetch a fresh copy, or train again"
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.(safetensors|json)")  # no "/", no ".."


# --- One file -------------------------------------------------------------------------------------


def write_file(path: str | Path, data: bytes) -> None:
    """Replace the file at `path`. A link there is replaced, and what it leads to left alone.

    Raises MinidalleError if the disk is full or not writable.
    """
    target = resolve(Path(path).parent) / Path(path).name
    staging = staging_path(target)
    try:
        write_new(staging, data)
        os.replace(staging, target)
        sync(target.parent)
    except OSError as error:
        raise save_error(error, Path(path), len(data)) from error
    finally:
        with contextlib.suppress(OSError):
            staging.unlink()


def read_file(path: Path, length: int | None = None) -> bytes:
    """The contents of a regular file; links and pipes are refused, and a file of another length
    than the one expected is not read. Raises MinidalleError."""
    try:
        status = path.lstat()  # not stat: a link could lead anywhere
        if not stat.S_ISREG(status.st_mode):
            link = "; copy what it points to (cp -L)" if stat.S_ISLNK(status.st_mode) else ""
            raise MinidalleError(f"{path} is not a plain file and was not opened{link}")
        if length is not None and status.st_size != length:
            pointer = path.read_bytes()[:100] if status.st_size < 1000 else b""
            if pointer.startswith(b"version https://git-lfs"):
                raise MinidalleError(f"{path} is a pointer of Git LFS, no file: git lfs pull")
            raise MinidalleError(
                f"{path} is damaged: its {status.st_size} bytes are not the {length} that were"
                f" saved; {REMEDY}"
            )
        return path.read_bytes()
    except OSError as error:
        raise MinidalleError(f"cannot read {path}: {error.strerror}") from error


def resolve(path: Path) -> Path:
    """The absolute path, its links followed. Raises MinidalleError for a link to itself."""
    resolved = Path(os.path.realpath(path))  # Path.resolve() differs between versions of Python
    try:
        resolved.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise MinidalleError(f"{path} leads to a link to itself: remove that link") from error
    return resolved


def fingerprint(data: bytes) -> dict[str, int | str]:
    """Length and SHA-256 of some bytes."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def staging_path(target: Path) -> Path:
    """A name of its own beside `target`, for what is to be renamed to it."""
    return target.with_name(f"{STAGING}{target.name}-{secrets.token_hex(4)}")


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet, down to the disk."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(directory: Path) -> None:
    """Push a directory's names to the disk: a renamed file is safe only after that."""
    if os.name == "posix":  # Windows cannot open a directory
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        finally:
            os.close(handle)


def remove(path: Path) -> None:
    """Delete a file or a directory. It is renamed first, so that no half-deleted directory keeps a
    checkpoint's name, and a process still writing there fails instead of publishing it."""
    trash = staging_path(path)
    with contextlib.suppress(OSError):
        os.replace(path, trash)
        if trash.is_dir():
            shutil.rmtree(trash, ignore_errors=True)
        else:
            trash.unlink()


def save_error(error: OSError, path: Path, need: int = 0) -> MinidalleError:
    """The one line for a write that failed; `need`: bytes that were to be written."""
    if need and error.errno in DISK_FULL:
        existing = next(p for p in path.absolute().parents if p.exists())
        free = shutil.disk_usage(existing).free
        return MinidalleError(
            f"cannot save {path}: {error.strerror}; it needs {need:,} bytes, and {free:,} are free"
            " there; what was saved before is intact; make room (or raise `ulimit -f`), or save"
            " elsewhere"
        )
    in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
    cause = "a file is in the way" if in_the_way else error.strerror
    cause = "a directory is in the way" if isinstance(error, IsADirectoryError) else cause
    return MinidalleError(f"cannot write {path}: {cause}; choose a directory you may write to")


# --- A directory and its manifest -----------------------------------------------------------------


def to_json(document: Mapping[str, Any]) -> bytes:
    """A JSON file. Floats are written as their repr: they come back bit for bit."""
    return json.dumps(document, indent=2).encode()


def write_directory(directory: Path, files: Mapping[str, bytes]) -> Path:
    """Write `files` and their manifest as one directory, in place of the bundle there, if any.

    Raises MinidalleError if the disk is full or not writable, or if `directory` holds anything but
    a bundle; ValueError for a name that is not plain.
    """
    for name in files:
        if name == MANIFEST or not PLAIN_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a file of a bundle")
    manifest = {"format": FORMAT, "files": {name: fingerprint(d) for name, d in files.items()}}
    target = resolve(directory)
    staging = staging_path(target)
    backup = target.with_name(staging.name.replace(STAGING, BACKUP, 1))
    superseded = [backup]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        check_replaceable(target)
        is_bundle = (target / MANIFEST).exists()
        for leftover in _leftovers(target):
            if leftover.name.startswith(STAGING) or is_bundle:
                remove(leftover)
            else:
                superseded.append(leftover)  # the only sound one, until the new one is in place
        staging.mkdir()
        for name, data in {**files, MANIFEST: to_json(manifest)}.items():
            write_new(staging / name, data)
        sync(staging)
        if target.exists():  # a directory cannot be renamed onto a full one
            os.replace(target, backup)
        try:
            os.replace(staging, target)
        except OSError:
            if backup.exists():
                os.replace(backup, target)
            raise
        sync(target.parent)
    except OSError as error:
        raise save_error(error, target, sum(map(len, files.values()))) from error
    finally:
        if staging.exists():
            remove(staging)
    for former in superseded:
        remove(former)
    return directory


def _leftovers(target: Path) -> list[Path]:
    """What killed saves of `target` have left beside it; those of other names are not listed."""
    found = []
    for path in target.parent.glob(".*"):
        name = path.name
        while name != target.name and (match := LEFTOVER.fullmatch(name)):
            name = match[1]  # `remove` adds a prefix of its own
        if name == target.name and path != target:
            found.append(path)
    return found


def check_replaceable(target: Path) -> None:
    """Replacing deletes: only what `write_directory` wrote, unchanged, is ever replaced.

    Raises MinidalleError, naming the first file that is not ours, has changed since, or is missing.
    """
    if not target.exists():
        return
    present = {path.name for path in target.iterdir()} if target.is_dir() else {target.name}
    try:
        manifest = json.loads((target / MANIFEST).read_bytes())
        listed = dict(manifest["files"]) if manifest["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        listed = {}
    ours = {MANIFEST} if listed else set()
    for name in present & listed.keys():
        with contextlib.suppress(MinidalleError):
            ours |= {name} if fingerprint(read_file(target / name)) == listed[name] else set()
    wrong = sorted(present - ours)
    wrong += [f"{name} is missing" for name in sorted(listed.keys() - present)]
    if wrong:
        raise MinidalleError(
            f"cannot save {target}: something else than a bundle is there ({wrong[0]}); choose"
            " another name, or move it away"
        )


def read_directory(
    directory: Path,
) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Any]]]:
    """Tensors and JSON documents of a directory, by the names of their files without suffix.

    Raises MinidalleError, naming the file, where anything is not as its manifest says.
    """
    tensors, documents = {}, {}
    for name, data in _verified(resolve(directory)).items():
        stem, _, suffix = name.rpartition(".")
        try:
            if suffix == "json":
                documents[stem] = json.loads(data)
            else:
                tensors[stem] = parse_tensors(data)
        except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
            # The hash is right: whoever made the manifest put this here, and it was not `save`.
            raise MinidalleError(
                f"{directory / name} is not a {suffix} file and was not opened ({error})"
            ) from error
    return tensors, documents


def _verified(directory: Path) -> dict[str, bytes]:
    """Every file in the manifest, read once: the bytes that are hashed are those to be parsed."""
    path = directory / MANIFEST
    if not directory.exists():
        backups = [p for p in _leftovers(directory) if p.name.startswith(BACKUP)]
        remedy = f"rename {backups[0]} to {directory.name}" if backups else "train one, or name it"
        raise MinidalleError(f"cannot read {directory}: no such directory; {remedy}")
    try:
        manifest = json.loads(read_file(path))
    except (ValueError, RecursionError):
        manifest = None
    match manifest:
        case {"format": int(number)} if number != FORMAT:
            older = "load and save it with the release that wrote it, or train again"
            raise MinidalleError(
                f"{path} is of format {number}, and this minidalle reads format {FORMAT}: "
                f"{older if number < FORMAT else 'update minidalle'}"
            )
        case {"format": int(), "files": dict(listed)}:
            pass
        case _:
            raise MinidalleError(f"{path} is damaged: it is not a manifest; {REMEDY}")
    files = {}
    for name, entry in listed.items():
        if name == MANIFEST or not PLAIN_NAME.fullmatch(name):
            raise MinidalleError(f"{path} lists {name!r}, no plain file name; do not trust it")
        saved = entry.get("bytes") if isinstance(entry, dict) else "unknown"
        data = files[name] = read_file(directory / name, saved if isinstance(saved, int) else None)
        if entry != fingerprint(data):
            raise MinidalleError(
                f"{directory / name} is damaged: its {len(data)} bytes are not the {saved} that"
                f" were saved (SHA-256); {REMEDY}"
            )
    return files
