"""Checkpoints that survive a kill, a full disk, a flipped bit and a stranger's file.

A checkpoint is a directory:

    step-00000100/
        model.safetensors    tensors by name: a JSON header, then raw numbers; nothing in it can run
        config.json          whatever is no tensor
        manifest.json        the format, and the length and SHA-256 of each file; written last

Two ideas keep it sound. *Saving never changes a file in place.* The new checkpoint is staged
beside the old one, pushed down to the disk (fsync), and only then renamed into place; a rename is
all or nothing, so a kill at any moment leaves the old one or the new one. *Loading believes
nothing.* Each file is hashed before it is parsed, and neither format can carry code; a pickle, the
usual vessel for weights, is a program that runs when it is opened, so we have none.

    with Run(Path("runs/first")) as run:
        run.save(100, {"model": model.state_dict()}, {"config": {"width": 64}})
        tensors, documents = load(run.latest())
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
import warnings
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from minidalle.errors import MinidalleError

try:
    import fcntl
except ImportError:  # Windows has no flock: there, a second writer goes unnoticed
    fcntl = None

FORMAT = 1
MANIFEST = "manifest.json"
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.(safetensors|json)")  # no "/", no ".."
STEP = re.compile(r"step-(\d+)")
FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))

Tensors = Mapping[str, Mapping[str, Tensor]]
Documents = Mapping[str, dict]


# --- Saving: stage, sync, rename ----------------------------------------------------------------


def save(directory: Path, tensors: Tensors, documents: Documents) -> Path:
    """Write a checkpoint at `directory`, in place of the one there, if any, and return its path.

    `tensors` {"model": state_dict} becomes model.safetensors, `documents` {"config": {...}}
    becomes config.json. A document is JSON: its tuples come back as lists.

    A directory cannot be renamed onto a full one, so the old checkpoint NAME first steps aside
    as `.old-NAME`. After a kill right then, `load` reads `.old-NAME`; the next save puts it back.

    Raises MinidalleError if the disk is full or not writable, or if `directory` holds anything
    but a checkpoint; ValueError for a name that is not plain, TypeError for what is not JSON.
    """
    target = Path(directory).resolve()
    files = {f"{name}.safetensors": tensor_bytes(_dense(group)) for name, group in tensors.items()}
    files |= {f"{name}.json": _json(document) for name, document in documents.items()}
    for name in files:
        if name == MANIFEST or not PLAIN_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a file of a checkpoint")
    listed = {name: _fingerprint(data) for name, data in files.items()}
    files[MANIFEST] = _json({"format": FORMAT, "files": listed})  # the last one to be written

    staging = target.with_name(f".staging-{target.name}-{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _settle(target)
        if not _replaceable(target):
            raise MinidalleError(
                f"cannot save {target}: something else than a checkpoint is there; "
                "choose another name, or move it away"
            )
        staging.mkdir()
        for name, data in files.items():
            with open(staging / name, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        _sync(staging)
        if target.exists():
            os.replace(target, _aside(target))
        os.replace(staging, target)
        _sync(target.parent)
    except OSError as error:
        raise _refusal(error, target, sum(map(len, files.values()))) from error
    finally:
        with contextlib.suppress(OSError):
            _settle(target)
    return Path(directory)


def save_text(file: str | Path, text: str) -> None:
    """Write one small file in the same way: a reader sees the old one or the new, never a part.

    Raises MinidalleError if the disk is full or not writable.
    """
    target, data = Path(file).resolve(), text.encode()
    staging = target.with_name(f".staging-{target.name}-{secrets.token_hex(4)}")
    try:
        with open(staging, "xb") as staged:
            staged.write(data)
            staged.flush()
            os.fsync(staged.fileno())
        os.replace(staging, target)
        _sync(target.parent)
    except OSError as error:
        raise _refusal(error, Path(file), len(data)) from error
    finally:
        staging.unlink(missing_ok=True)


def _dense(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors on the CPU, contiguous; those that share memory (tied weights) apart."""
    dense, memories = {}, set()
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        dense[name] = tensor.clone() if memory in memories else tensor
        memories.add(memory)
    return dense


def _json(document: dict) -> bytes:
    return json.dumps(document, indent=2).encode()  # floats as repr: they come back bit for bit


def _fingerprint(data: bytes) -> dict[str, int | str]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _sync(directory: Path) -> None:
    """A new name in a directory is safe only once the directory, too, is on the disk."""
    if os.name == "posix":  # Windows cannot open a directory
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _replaceable(target: Path) -> bool:
    """Replacing deletes, so never replace what cannot be ours."""
    if not target.exists():
        return True
    ours = (target / MANIFEST).exists() or STEP.fullmatch(target.name)
    return target.is_dir() and bool(ours or not any(target.iterdir()))


def _aside(target: Path) -> Path:
    return target.parent / f".old-{target.name}"


def _settle(target: Path) -> None:
    """Tidy up after a kill: put the old checkpoint back if no new one came; sweep the rest."""
    aside = _aside(target)
    if aside.exists() and not target.exists():
        os.replace(aside, target)
    for path in list(target.parent.iterdir()):
        if path == aside or path.name.startswith(f".staging-{target.name}-"):
            _discard(path, target.name)


def _discard(path: Path, name: str) -> None:
    """Delete a directory. It is renamed first: nothing half-deleted ever has a checkpoint's name,
    and another process, still writing there, fails at its rename and cannot publish a wreck."""
    grave = path.with_name(f".staging-{name}-{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        os.replace(path, grave)
        shutil.rmtree(grave, ignore_errors=True)


def _refusal(error: OSError, directory: Path, need: int = 0) -> MinidalleError:
    if need and error.errno in FULL:
        there = next(p for p in directory.resolve().parents if p.exists())
        free = shutil.disk_usage(there).free
        return MinidalleError(
            f"cannot save {directory}: {error.strerror}; it needs {need:,} bytes, and {free:,} are "
            "free there; what was saved before is intact; make room (or raise `ulimit -f`), or "
            "save elsewhere"
        )
    in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
    cause = "a file is in the way" if in_the_way else error.strerror
    return MinidalleError(f"cannot write {directory}: {cause}; choose a directory you may write to")


# --- Loading: hash, then parse ------------------------------------------------------------------


def load(directory: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict]]:
    """Read a checkpoint: (tensors, documents), as they were given to `save`.

    Raises MinidalleError, which names the file, the cause and a sound checkpoint near by, for one
    that is missing, damaged or of another format.
    """
    target = Path(directory).resolve()
    while True:
        before = _identity(target)
        try:
            return _parsed(_aside(target) if not before and _aside(target).exists() else target)
        except MinidalleError as error:
            if _identity(target) == before:  # else a writer put a newer one there: read that one
                raise MinidalleError(f"{error}; {_remedy(target)}") from error


def _identity(directory: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        status = directory.stat()
        return status.st_ino, status.st_ctime_ns
    return None


def _parsed(directory: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict]]:
    tensors, documents = {}, {}
    for name, data in _verified(directory).items():
        stem, _, kind = name.rpartition(".")
        try:
            if kind == "json":
                documents[stem] = json.loads(data)
            else:
                tensors[stem] = parse_tensors(data)
        except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
            # The hash is right: whoever made the manifest put this here, and it was not `save`.
            raise MinidalleError(
                f"{directory / name} is not a {kind} file and was not opened ({error})"
            ) from error
    return tensors, documents


def _verified(directory: Path) -> dict[str, bytes]:
    """Every file in the manifest, read once: the bytes that are hashed are those to be parsed."""
    path = directory / MANIFEST
    try:
        manifest = json.loads(_contents(path))
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
            raise MinidalleError(f"{path} is damaged: it is not a manifest")
    files = {}
    for name, entry in listed.items():
        if name == MANIFEST or not PLAIN_NAME.fullmatch(name):
            raise MinidalleError(f"{path} lists {name!r}, no plain file name; do not trust it")
        data = files[name] = _contents(directory / name)
        if entry != _fingerprint(data):
            saved = entry.get("bytes") if isinstance(entry, dict) else "unknown"
            raise MinidalleError(
                f"{directory / name} is damaged: its {len(data)} bytes are not the {saved} that "
                "were saved (SHA-256)"
            )
    return files


def _contents(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # lstat: a link leads who knows where
            raise MinidalleError(f"{path} is not a plain file and was not opened")
        return path.read_bytes()
    except OSError as error:
        raise MinidalleError(f"cannot read {path}: {error.strerror}") from error


def _remedy(target: Path) -> str:
    """Offer the checkpoint that stepped aside, one inside (if this is a run), or one beside."""
    for path in [_aside(target), *_steps(target), *_steps(target.parent)]:
        if path != target and _fault(path) is None:
            return f"load {path} instead, which is sound"
    return "no sound checkpoint is beside it: fetch a fresh copy, or train again"


def _steps(run: Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    return sorted((p for p in run.glob("step-*") if STEP.fullmatch(p.name)), key=_step)[::-1]


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _fault(path: Path) -> MinidalleError | None:
    try:
        _parsed(path)
    except MinidalleError as error:
        return error
    return None


def latest(run: Path) -> Path | None:
    """The newest sound checkpoint of a run, or None; warns of each damaged one passed over."""
    for path in _steps(run):
        fault = _fault(path)
        if fault is None:
            return path
        warnings.warn(f"{fault}; {path.name} is passed over", stacklevel=2)
    return None


# --- A run: one writer, the last two checkpoints ------------------------------------------------


class Run(contextlib.AbstractContextManager):
    """The directory of a training run: `RUN/step-00000100/` and so on, and `RUN/lock`.

    Opening it makes sure, before step 0, that it can be written and that nobody else writes there.
    The lock is the kernel's (flock), which lets go when its owner dies, even by SIGKILL; a lock
    that is a mere file would stay. The file `lock` only tells who the owner is, so it may stay.

    Raises MinidalleError if the directory cannot be written or another writer has it.
    """

    def __init__(self, directory: Path):
        self.directory = Path(directory)
        self._lock = None
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            if fcntl:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._lock, 0)
            os.write(self._lock, f"{os.getpid()}\n".encode())
            (self.directory / ".staging-probe").mkdir(exist_ok=True)  # swept in a moment
            self._sweep()
        except BlockingIOError:
            owner = os.read(self._lock, 20).decode().strip()
            self.close()
            mine = owner == str(os.getpid())
            raise MinidalleError(
                f"{self.directory} is being written by process {owner}"
                + (", this one: close() it first" if mine else ": end it, or choose another run")
            ) from None
        except OSError as error:
            self.close()
            raise _refusal(error, self.directory) from error

    def _sweep(self) -> None:
        """Nobody else writes here, so what is still staged was left by a kill."""
        for path in list(self.directory.iterdir()):
            if path.name.startswith(".staging-"):
                _discard(path, "")
            elif path.name.startswith(".old-"):
                _settle(path.with_name(path.name.removeprefix(".old-")))

    def save(self, step: int, tensors: Tensors, documents: Documents) -> Path:
        """Save a checkpoint; delete those older than the newest sound one before it.

        Raises MinidalleError as the function `save` does; ValueError if the run is closed.
        """
        if self._lock is None:
            raise ValueError(f"the run {self.directory} is closed")
        self._sweep()
        path = save(self.directory / f"step-{step:08d}", tensors, documents)
        older = [other for other in _steps(self.directory) if _step(other) < step]
        spare = next((other for other in older if _fault(other) is None), None)
        for other in older[older.index(spare) + 1 :] if spare else []:
            _discard(other, "")
        return path

    def latest(self) -> Path | None:
        """The newest sound checkpoint, or None; warns of each damaged one that it passes over."""
        return latest(self.directory)

    def close(self) -> None:
        """Let the next writer in."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __exit__(self, *_: object) -> None:
        self.close()
