"""Step checkpoints that survive a kill, a full disk and a flipped bit.

    with CheckpointDirectory(Path("runs/first/prior")) as directory:
        directory.save(100, {"model": model.state_dict()}, {"config": {"width": 64}})
        tensors, metadata = load(directory.latest())

A checkpoint is one safetensors file, `step-00000100.safetensors`: a JSON header, then raw numbers.
Everything that is not a tensor stands in the header, with the SHA-256 of the file. Nothing in the
format can run; a pickle, the usual vessel for weights, is a program. One file has one more virtue:
one rename replaces it, so a kill at any moment leaves the old checkpoint or the new one.
"""

import contextlib
import hashlib
import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from minidalle.errors import MinidalleError
from minidalle.files import (
    STAGING,
    UNSUPPORTED,
    read_file,
    remove,
    save_error,
    staging_path,
    write_file,
)

FORMAT = 2  # 1 was a directory of files
STEP = re.compile(r"step-(\d+)\.safetensors")
OLD_STEP = re.compile(r"step-\d{8}")  # a directory of format 1
DIGEST = re.compile(r"[0-9a-f]{64}")
UNSIGNED = "0" * 64  # stands in the header while the file is hashed

Tensors = Mapping[str, Mapping[str, Tensor]]
Metadata = Mapping[str, Any]


# --- One file -------------------------------------------------------------------------------------


def save(path: Path, tensors: Tensors, metadata: Metadata) -> Path:
    """Write a checkpoint and return its path.

    tensors: groups of named tensors, {"model": state_dict}; metadata: JSON, whose tuples come back
    as lists. Raises MinidalleError if the disk is full or not writable, TypeError for what is not
    JSON, ValueError for a group whose name has a dot.
    """
    if dotted := [group for group in tensors if "." in group]:
        raise ValueError(f"{dotted[0]!r} cannot name a group: a dot ends the name of one")
    flat = {f"{group}.{name}": t for group, named in tensors.items() for name, t in named.items()}
    header = {
        "format": FORMAT,
        "sha256": UNSIGNED,
        "groups": list(tensors),
        "metadata": dict(metadata),
    }
    data = tensor_bytes(dense(flat), {"minidalle": json.dumps(header)})
    write_file(path, _sign(data, UNSIGNED, hashlib.sha256(data).hexdigest()))
    return path


def load(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read a checkpoint: (tensors, metadata), as they were given to `save`.

    Raises MinidalleError, naming the file, if it is missing, damaged or of another format.
    """
    data = read_file(Path(path))
    header = _header(path, data)
    if hashlib.sha256(_sign(data, header["sha256"], UNSIGNED)).hexdigest() != header["sha256"]:
        raise MinidalleError(
            f"{path} is damaged: its bytes are not those that were saved; delete it, and"
            " --resume continues from the one before"
        )
    try:
        tensors: dict[str, dict[str, Tensor]] = {group: {} for group in header["groups"]}
        for name, tensor in parse_tensors(data).items():
            group, _, rest = name.partition(".")
            tensors[group][rest] = tensor
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        # The hash is right: whoever computed it put this here, and it was not `save`.
        raise MinidalleError(
            f"{path} is not a checkpoint of minidalle and was not opened ({error})"
        ) from error
    return tensors, header["metadata"]


def digest(path: Path) -> str:
    """The SHA-256 that a checkpoint's header holds, which tells it from any other."""
    return _header(path, read_file(path))["sha256"]


def _header(path: Path, data: bytes) -> dict[str, Any]:
    """Our part of the file's header. Raises MinidalleError where there is none."""
    try:
        document = json.loads(data[8 : _header_end(data)])
        header = json.loads(document["__metadata__"]["minidalle"])
        number, digest = header["format"], header["sha256"]
        is_complete = bool(DIGEST.fullmatch(digest)) and {"groups", "metadata"} <= header.keys()
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise MinidalleError(
            f"{path} is damaged, or is not a checkpoint of minidalle, and was not opened"
        ) from error
    if number != FORMAT:
        raise MinidalleError(
            f"{path} is of format {number}, and this minidalle reads format {FORMAT}: use the"
            " release that wrote it, or train again"
        )
    if not is_complete:
        raise MinidalleError(f"{path} is damaged: its header is incomplete")
    return header


def _header_end(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")  # safetensors: a length, then the JSON


def _sign(data: bytes, old: str, new: str) -> bytes:
    """The same file with another hash in its header."""
    end = _header_end(data)
    return data[:end].replace(old.encode(), new.encode(), 1) + data[end:]


def dense(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors on the CPU, contiguous, no two of them sharing memory (tied weights)."""
    result, memories = {}, set()
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if memory in memories else tensor
        memories.add(memory)
    return result


# --- A directory of them --------------------------------------------------------------------------


def steps(directory: Path) -> list[Path]:
    """The checkpoints in a directory, the newest first."""
    found = [path for path in directory.glob("step-*") if STEP.fullmatch(path.name)]
    return sorted(found, key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """The step of a checkpoint, from its name."""
    match = STEP.fullmatch(path.name)
    assert match, f"{path.name} is not the name of a checkpoint"
    return int(match[1])


def is_finished(directory: Path, total: int) -> bool:
    """Whether the newest checkpoint is that of step `total`, or of an early end."""
    newest = steps(directory)[:1]
    return any(step_of(f) == total or load(f)[1].get("ended_early", False) for f in newest)


def latest(directory: Path) -> Path | None:
    """The newest sound checkpoint, or None; warns of each damaged one passed over.

    Raises MinidalleError for a directory that an older release was training.
    """
    found = steps(directory)
    if not found and any(OLD_STEP.fullmatch(p.name) for p in directory.glob("step-*")):
        raise MinidalleError(
            f"{directory} was trained by an older minidalle: finish it with that release, or choose"
            " another --out"
        )
    for path in found:
        fault = _fault(path)
        if fault is None:
            return path
        warnings.warn(f"{fault}; {path.name} is passed over", stacklevel=2)
    return None


def _fault(path: Path) -> MinidalleError | None:
    try:
        load(path)
    except MinidalleError as error:
        return error
    return None


class CheckpointDirectory(contextlib.AbstractContextManager):
    """The last two checkpoints of one training, with a lock: one process writes.

    Opening it makes sure, before step 0, that it can be written and that nobody else writes there.
    The lock is the kernel's, which frees it when its owner dies, even by SIGKILL; the file
    `owner` only tells who that is.

    Raises MinidalleError if the directory cannot be written or another process has it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self._lock = FileLock(self.directory / "lock", timeout=0, thread_local=False)
        self._is_open = False
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._acquire()
            (self.directory / "owner").write_text(f"{os.getpid()}\n")
            staging_path(self.directory / "probe").touch()  # swept in a moment
            self._sweep()
        except Timeout:
            owner = self._owner()
            is_mine = owner == str(os.getpid())
            who = f"process {owner}" if owner else "another process"
            raise MinidalleError(
                f"{self.directory} is being written by {who}"
                + (", this one: close() it first" if is_mine else ": end it, or choose another run")
            ) from None
        except OSError as error:
            self.close()
            raise save_error(error, self.directory) from error

    def _owner(self) -> str:
        """The process that has the lock; empty in the instant before it has written who it is."""
        with contextlib.suppress(OSError, ValueError):
            return (self.directory / "owner").read_text().strip()
        return ""

    def _acquire(self) -> None:
        """Take the lock; on a file system without locks, warn and go on without one."""
        try:
            self._lock.acquire()
            self._is_open = True
            return
        except NotImplementedError:
            pass
        except OSError as error:
            if isinstance(error, Timeout) or error.errno not in UNSUPPORTED:
                raise
        warnings.warn(
            f"{self.directory} is on a file system without locks: make sure that no other process"
            " writes there",
            stacklevel=3,
        )
        self._is_open = True

    def _sweep(self) -> None:
        """Nobody else writes here, so what is still staged was left by a kill."""
        for path in list(self.directory.iterdir()):
            if path.name.startswith(STAGING):
                remove(path)

    def save(self, step: int, tensors: Tensors, metadata: Metadata) -> Path:
        """Save a checkpoint; delete those older than the newest sound one before it.

        Raises MinidalleError as the function `save` does; ValueError if the directory is closed.
        """
        if not self._is_open:
            raise ValueError(f"the directory {self.directory} is closed")
        path = save(self.directory / f"step-{step:08d}.safetensors", tensors, metadata)
        older = [other for other in steps(self.directory) if step_of(other) < step]
        spare = next((other for other in older if _fault(other) is None), None)
        for other in older[older.index(spare) + 1 :] if spare else []:
            if not other.is_dir():  # no directory of that name is ours
                remove(other)
        return path

    def latest(self) -> Path | None:
        """The newest sound checkpoint, or None; warns of each damaged one that it passes over."""
        return latest(self.directory)

    def close(self) -> None:
        """Let the next writer in."""
        self._lock.release()
        self._is_open = False

    def __exit__(self, *_: object) -> None:
        self.close()
