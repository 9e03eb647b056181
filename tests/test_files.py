"""Files and directories under every fault of a disk: whole or not at all, one line for each fault,
and nothing is parsed before it is hashed, or run."""

import ast
import contextlib
import errno
import hashlib
import json
import multiprocessing
import os
import pickle
import random
import re
import resource
import shutil
import signal
import stat
import struct
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as tensor_bytes
from torch import Tensor, nn

import minidalle
from minidalle.errors import MinidalleError
from minidalle.files import (
    FORMAT,
    MANIFEST,
    read_directory,
    read_file,
    resolve,
    to_json,
    write_directory,
    write_file,
)
from minidalle.training.checkpoint import dense

# --- Helpers, which tests/training/test_checkpoint.py uses as well --------------------------------

# Children are forked from a server that has imported torch once: the tests need hundreds.
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["torch", "safetensors.torch", "pytest", "minidalle.bundle"])

BIG = 5_000_000  # floats: a file of 20 MB, so that most kills strike while it is being written
TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir"}
PNG = b"\x89PNG\r\n\x1a\n"


def tells(caught: pytest.ExceptionInfo | str, *parts: object) -> None:
    """The form of every fault: one line, with the cause, the file and the remedy."""
    text = caught if isinstance(caught, str) else str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert str(part) in text, text


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def child(target, *arguments):
    """A process of its own, with a pipe to hear from it; killed at the end, whatever happens."""
    hear, say = CHILDREN.Pipe(duplex=False)
    process = CHILDREN.Process(target=target, args=(*arguments, say))
    process.start()
    say.close()  # the child has the other end: its death is then an end of file
    try:
        yield process, hear
    finally:
        process.kill()
        process.join()


def seconds(job) -> float:
    """What a save takes here and now: the kills are spread over a few of them."""
    start = time.monotonic()
    job()
    return min(time.monotonic() - start, 1)


def last_word(pipe) -> int:
    """The last number that a killed child has sent."""
    with contextlib.suppress(EOFError):
        while True:
            word = pipe.recv()
    return word


def die_at(moment: int) -> None:
    """Kill this process just before it touches the disk for the `moment`-th time from now."""
    touched = 0

    def hook(event, _):
        nonlocal touched
        if event in TOUCHES:
            touched += 1
            if touched == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def be_nobody() -> None:
    """Root may write anywhere."""
    if os.getuid() == 0:
        os.setuid(65534)


@contextlib.contextmanager
def failing(monkeypatch, call: str, moment: int, number: int = errno.ENOSPC):
    """os.`call` fails at its `moment`-th time, and at no other."""
    real, calls = getattr(os, call), []

    def fail(*arguments, **options):
        calls.append(call)
        if len(calls) == moment:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        yield calls


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, song: Path):
        self.song = song

    def __reduce__(self):
        return Path.touch, (self.song,)


def pickled(kind: str, song: Path) -> bytes:
    """A pickle, plain or torch's, that makes the file `song` when it is opened as one."""
    egg = song.with_name("egg")
    if kind == "pickle":
        egg.write_bytes(pickle.dumps(Canary(song)))
        pickle.loads(egg.read_bytes())
    else:
        torch.save(Canary(song), egg)
        torch.load(egg, weights_only=False)
    assert song.exists()  # it does run, if one lets it
    song.unlink()
    return egg.read_bytes()


# --- A directory that tells its step --------------------------------------------------------------


def contents(step: int, size: int = 1000) -> dict[str, bytes]:
    """Files that all tell a step, so that a mixture of two would show."""
    model = tensor_bytes({"weight": torch.full((size,), float(step))})
    return {"model.safetensors": model, "state.json": to_json({"step": step})}


def write(directory: Path, step: int, size: int = 1000) -> Path:
    return write_directory(directory, contents(step, size))


def step_of(directory: Path) -> int:
    tensors, documents = read_directory(directory)
    step = documents["state"]["step"]
    assert (tensors["model"]["weight"] == step).all()
    return step


def offered(directory: Path) -> Path:
    """The backup that the error of a killed save names."""
    with pytest.raises(MinidalleError) as caught:
        read_directory(directory)
    tells(caught, f"cannot read {directory}: no such directory; rename ", ".old-bundle-")
    backup = re.search(r"rename (\S+) to bundle$", str(caught.value))
    assert backup
    return Path(backup[1])


def rename_back(directory: Path) -> Path:
    """Do what the error of a killed save says."""
    offered(directory).rename(directory)
    return directory


def refused(directory: Path, *parts: object) -> None:
    """It is not read, and the message says why."""
    with pytest.raises(MinidalleError) as caught:
        read_directory(directory)
    tells(caught, *parts)


def snapshot(directory: Path) -> dict[str, bytes | None]:
    """Everything below a directory."""
    return {
        str(p.relative_to(directory)): p.read_bytes() if p.is_file() else None
        for p in directory.rglob("*")
    }


def forge(directory: Path, name: str, data: bytes) -> None:
    """Put `data` in, and its hash in the manifest: what an attacker would do."""
    manifest = json.loads((directory / MANIFEST).read_text())
    manifest["files"][name] = {"bytes": len(data), "sha256": sha256(data)}
    (directory / MANIFEST).write_text(json.dumps(manifest))
    (directory / name).write_bytes(data)


def frozen(directory: Path, number: int) -> Path:
    """A directory made by hand, byte by byte, and never by `write_directory`: what old disks
    hold."""
    header = b'{"weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    header += b" " * (-len(header) % 8)
    directory.mkdir()
    (directory / MANIFEST).write_text(json.dumps({"format": number, "files": {}}))
    data = struct.pack("<Q", len(header)) + header + struct.pack("<2f", 0.5, -2.0)
    forge(directory, "model.safetensors", data)
    forge(directory, "config.json", b'{"width": 2}')
    return directory


# --- What is written comes back -------------------------------------------------------------------


def awkward_tensors() -> dict[str, Tensor]:
    """All kinds of tensors that a writer of raw memory could get wrong."""
    tied = torch.randn(4, 3)
    return {
        "embedding.weight": tied,
        "head.weight": tied,  # the same memory, as in a model with tied weights
        "transposed": torch.randn(5, 2).t(),
        "slice": torch.randn(6, 6)[1:3, ::2],
        "rows": torch.randn(6, 6)[1:3],
        "expanded": torch.ones(1, 3).expand(4, 3),
        "half": torch.randn(3).bfloat16(),
        "scalar": torch.tensor(7),
        "none": torch.empty(0, 3),
        "none either": torch.empty(2, 0),
        "mask": torch.tensor([True, False]),
        "parameter": nn.Parameter(torch.randn(2)),
        "generator": torch.get_rng_state(),
        "not numbers": torch.tensor([float("nan"), float("-inf"), -0.0]),
        "权重": torch.randn(2),
    }


def raw(tensor: Tensor) -> list[int]:
    """The bytes of a tensor: unlike its numbers, they tell -0.0 from 0.0, and NaN equals itself."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist()


def assert_same_tensors(read: dict[str, Tensor], written: dict[str, Tensor]) -> None:
    assert read.keys() == written.keys()
    for name, tensor in written.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape), name
        assert raw(read[name]) == raw(tensor), name


def test_awkward_tensors_come_back(tmp_path):
    """Catches strides that are ignored, and tied weights that are refused or still tied."""
    state = awkward_tensors()
    config = {"caption": "一只猫", "rate": 0.1 + 0.2, "best": float("inf"), "shape": [1, [2]]}
    files = {
        "model.safetensors": tensor_bytes(dense(state)),
        "empty.safetensors": tensor_bytes({}),
        "config.json": to_json(config),
    }
    tensors, documents = read_directory(write_directory(tmp_path / "bundle", files))
    assert documents == {"config": config}
    assert tensors.keys() == {"model", "empty"} and tensors["empty"] == {}
    assert_same_tensors(tensors["model"], state)
    tensors["model"]["head.weight"].add_(1)  # what was read may be written to, and is not tied
    assert torch.equal(tensors["model"]["embedding.weight"], state["embedding.weight"])
    assert names(tmp_path) == ["bundle"]


def test_the_files_are_plain_and_listed(tmp_path):
    path = write(tmp_path / "bundle", 3)
    assert names(path) == ["manifest.json", "model.safetensors", "state.json"]
    manifest = json.loads((path / MANIFEST).read_text())
    assert manifest["format"] == FORMAT
    assert manifest["files"].keys() == contents(3).keys()
    for name, entry in manifest["files"].items():
        data = (path / name).read_bytes()
        assert data == contents(3)[name]
        assert entry == {"bytes": len(data), "sha256": sha256(data)}


@pytest.mark.parametrize(
    "name",
    ["../out.json", "a/b.json", "", ".hidden.json", "a\\b.json", "C:a.json", MANIFEST, "a.json\n",
     "a.pkl", "a", "..", "a\x00.json"],
)  # fmt: skip
def test_only_plain_names_are_written(tmp_path, name):
    with pytest.raises(ValueError, match="cannot name a file"):
        write_directory(tmp_path / "bundle", {name: b"{}"})
    assert names(tmp_path) == []


def test_parents_are_made(tmp_path):
    path = tmp_path / "of" / "many" / "bundle"
    assert write(path, 1) == path
    assert step_of(path) == 1


def test_a_file_is_written_whole(tmp_path):
    file = tmp_path / "source.json"
    for data in (b"long" * 1000, b"", b"short\x00\xff"):
        write_file(file, data)
        assert read_file(file) == data
        assert names(tmp_path) == ["source.json"]


def test_it_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    """Catches a name that reaches the disk before its contents: empty files after a power cut."""
    write_file(tmp_path / "file", b"old")
    write(tmp_path / "bundle", 1)
    events, fsync, replace = [], os.fsync, os.replace

    def log_fsync(handle):
        kind = "directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        events.append(f"fsync {kind}")
        fsync(handle)

    def log_replace(source, target):
        events.append(f"rename to {Path(target).name.split('-')[0]}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", log_fsync)
    monkeypatch.setattr(os, "replace", log_replace)
    write_file(tmp_path / "file", b"new")
    assert events == ["fsync file", "rename to file", "fsync directory"]
    events.clear()
    write(tmp_path / "bundle", 2)
    files = ["fsync file"] * 3
    assert events[:7] == [
        *files, "fsync directory", "rename to .old", "rename to bundle", "fsync directory",
    ]  # fmt: skip
    assert events[7:] == ["rename to .staging"]  # the former one, to be deleted


# --- What is replaced, and what never is ----------------------------------------------------------


def extension(directory: Path, **more: object) -> str:
    """The folder of a browser extension that somebody wrote: its manifest has our manifest's
    name."""
    directory.mkdir()
    (directory / MANIFEST).write_text(json.dumps({"manifest_version": 3, "name": "mine"} | more))
    (directory / "background.js").write_text("weeks of work")
    return "background.js"


def thesis(directory: Path) -> str:
    directory.mkdir()
    (directory / "thesis.txt").write_text("years of work")
    return "thesis.txt"


def nested(directory: Path) -> str:
    write(directory, 1)
    (directory / "photos").mkdir()
    (directory / "photos" / "2026.jpg").write_text("the only one")
    return "photos"


def beside(name: str, text: str):
    """A bundle, and one more file in its directory."""

    def make(directory: Path) -> str:
        write(directory, 1)
        (directory / name).write_text(text)
        return name

    return make


def edited(name: str, data: bytes):
    """A bundle of which one file was edited by hand."""

    def make(directory: Path) -> str:
        (write(directory, 1) / name).write_bytes(data)
        return name

    return make


def linked(directory: Path) -> str:
    write(directory, 1)
    (directory / "state.json").rename(directory.parent / "elsewhere.json")
    (directory / "state.json").symlink_to(directory.parent / "elsewhere.json")
    return ""


def no_manifest(directory: Path) -> str:
    (write(directory, 1) / MANIFEST).unlink()
    return "model.safetensors"


def a_file(directory: Path) -> str:
    directory.write_text("mine")
    return directory.name


STRANGERS = {
    "files of another kind": thesis,
    "an unlisted file": beside("notes.json", "{}"),
    "a hidden file": beside(".notes", "mine"),
    "a README beside the manifest": beside("README.md", "# What I found out"),
    "a directory inside": nested,
    "a listed file that was changed": edited("state.json", b'{"step": 2}'),
    "weights that were changed": edited("model.safetensors", contents(2)["model.safetensors"]),
    "a browser extension": extension,
    "an extension with a format": lambda d: extension(d, format=FORMAT, files=["background.js"]),
    "an extension with a list of files": lambda d: extension(
        d, format=FORMAT, files={"background.js": {"sha256": "0"}}
    ),
    "no manifest": no_manifest,
    "a manifest alone": lambda d: (edited(MANIFEST, b"{}")(d), MANIFEST)[1],
    "a manifest too deep": edited(MANIFEST, b"[" * 100_000),
    "a link among its files": linked,
    "an older format": lambda d: frozen(d, 0) and "config.json",
    "a newer format": lambda d: frozen(d, 2) and "config.json",
    "a file": a_file,
}


@pytest.mark.parametrize("make", STRANGERS.values(), ids=STRANGERS)
def test_strangers_are_never_replaced(tmp_path, make):
    # Replacing deletes: a slip of the keyboard must not cost a home directory.
    path = tmp_path / "bundle"
    stranger = make(path)
    before = snapshot(tmp_path)
    with pytest.raises(MinidalleError) as caught:
        write(path, 2)
    tells(caught, f"cannot save {path}: something else than a bundle is there (", stranger)
    tells(caught, "choose another name, or move it away")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
def test_what_is_missing_is_named(tmp_path, name):
    """Catches a message that blames a file which is in order; nor is what is left replaced."""
    path = write(tmp_path / "bundle", 1)
    (path / name).unlink()
    before = snapshot(tmp_path)
    with pytest.raises(MinidalleError) as caught:
        write(path, 2)
    tells(caught, f"cannot save {path}: something else than a bundle is there ({name} is missing)")
    assert snapshot(tmp_path) == before
    (path / "zebra.txt").write_text("mine")
    with pytest.raises(MinidalleError) as caught:
        write(path, 2)
    tells(caught, "something else than a bundle is there (zebra.txt)")


@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
@pytest.mark.parametrize("damage", [b"", b"changed", None], ids=["empty", "changed", "directory"])
def test_what_has_changed_is_named(tmp_path, name, damage):
    """Catches a message that names the first file instead of the one that was changed."""
    path = write(tmp_path / "bundle", 1)
    (path / name).unlink()
    (path / name).mkdir() if damage is None else (path / name).write_bytes(damage)
    with pytest.raises(MinidalleError) as caught:
        write(path, 2)
    tells(caught, f"cannot save {path}: something else than a bundle is there ({name})")


def test_the_stranger_is_named(tmp_path):
    """Catches a message that names one of our own files, which are in order."""
    path = write(tmp_path / "bundle", 1)
    (path / "zebra.txt").write_text("mine")
    with pytest.raises(MinidalleError) as caught:
        write(path, 2)
    tells(caught, "(zebra.txt)")


def test_a_home_directory_is_not_replaced(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "thesis.txt").write_text("years of work")
    with pytest.raises(MinidalleError) as caught:
        write(tmp_path, 1)
    tells(caught, tmp_path, "something else than a bundle", "letters", "choose another name")
    assert snapshot(tmp_path) == {"letters": None, "letters/thesis.txt": b"years of work"}


def test_replaced_when_ours(tmp_path):
    path = write(tmp_path / "bundle", 1)
    write_directory(path, {"other.json": b"{}"})
    assert names(path) == ["manifest.json", "other.json"]  # nothing of the former one is left
    assert step_of(write(path, 2)) == 2
    assert names(tmp_path) == ["bundle"]


def test_an_empty_directory_is_filled(tmp_path):
    (tmp_path / "bundle").mkdir()
    assert step_of(write(tmp_path / "bundle", 1)) == 1
    assert names(tmp_path) == ["bundle"]


def test_a_link_to_a_directory_leads_to_it(tmp_path):
    """Catches a link that is replaced by a copy, on the disk that had no room for it."""
    (tmp_path / "large disk").mkdir()
    real = write(tmp_path / "large disk" / "bundle", 1)
    (tmp_path / "bundle").symlink_to(real)
    write(tmp_path / "bundle", 2)
    assert step_of(tmp_path / "bundle") == step_of(real) == 2
    assert (tmp_path / "bundle").is_symlink()
    assert names(tmp_path / "large disk") == ["bundle"]


LOOPS = {"loop": "loop", "a": "b", "b": "a"}  # a link, and where it leads


@pytest.mark.parametrize("name", ["loop", "a", "loop/below", "none/../a"])
def test_a_link_to_itself_is_one_line(tmp_path, name):
    """Catches a RuntimeError of pathlib's, which is a traceback."""
    for link, target in LOOPS.items():
        (tmp_path / link).symlink_to(target)
    before, path = names(tmp_path), tmp_path / name
    problem = f"{path} leads to a link to itself: remove that link"
    for attempt in (read_directory, resolve, lambda p: write_directory(p, {"a.json": b"{}"}),
                    lambda p: write_file(p / "file", b"")):  # fmt: skip
        with pytest.raises(MinidalleError) as caught:
            attempt(path)
        tells(caught, problem)
    assert names(tmp_path) == before
    for sound in (tmp_path, tmp_path / "none" / ".." / "x", Path("x"), Path()):
        assert resolve(sound) == sound.resolve()


def test_a_link_to_a_file_is_replaced(tmp_path):
    """Catches a write through a link that somebody has put there, onto a file of theirs."""
    precious, file = tmp_path / "precious", tmp_path / "source.json"
    precious.write_bytes(b"theirs")
    file.symlink_to(precious)
    write_file(file, b"ours")
    assert read_file(file) == b"ours"
    assert precious.read_bytes() == b"theirs"


# --- kill -9 while writing ------------------------------------------------------------------------


def write_forever(directory, step, size, pipe):
    pipe.send(step)
    while True:
        step += 1
        write(directory, step, size)
        pipe.send(step)


def test_kill_at_random_moments_over_one_directory(tmp_path):
    path, step, delays = tmp_path / "bundle", 0, random.Random(0)
    pace = seconds(lambda: write(path, 0, BIG))
    for _ in range(20):
        with child(write_forever, path, step, BIG) as (process, pipe):
            assert pipe.poll(300)  # the clock starts when it does
            time.sleep(delays.uniform(0, 5 * pace))
            process.kill()
            promised = last_word(pipe)
        step = step_of(path if path.exists() else rename_back(path))
        # What `write` returned from is on the disk; one more may be there, unannounced.
        assert promised <= step <= promised + 1
    assert step > 0, "no child had the time to save: the test has shown nothing"
    write(path, step + 1)
    assert names(tmp_path) == ["bundle"]  # what the killed ones left is swept


def file_forever(file, step, pipe):
    pipe.send(step)
    while True:
        step += 1
        write_file(file, bytes([step % 256]) * 4 * BIG)
        pipe.send(step)


def test_kill_at_random_moments_over_one_file(tmp_path):
    file, step, delays = tmp_path / "file", 0, random.Random(2)
    pace = seconds(lambda: write_file(file, bytes(4 * BIG)))
    for _ in range(20):
        with child(file_forever, file, step) as (process, pipe):
            assert pipe.poll(300)
            time.sleep(delays.uniform(0, 5 * pace))
            process.kill()
            promised = last_word(pipe)
        data = read_file(file)
        assert len(data) == 4 * BIG and set(data) in ({promised % 256}, {(promised + 1) % 256})
        step = promised + (data[0] != promised % 256)
    assert step > 0


def write_and_die(directory, step, moment, pipe):
    die_at(moment)
    write(directory, step)
    pipe.send("survived")


@pytest.mark.parametrize(
    "start",
    [
        "a bundle is there",
        "a killed save has left a backup only",
        "an outdated backup is there too",
    ],
)
def test_kill_at_every_touch_of_the_disk(tmp_path, start):
    # Random kills seldom fall between two renames, a few microseconds apart. These do.
    path, moment, survived, outcomes = tmp_path / "bundle", 0, False, set()
    while not survived:
        moment += 1
        for leftover in tmp_path.iterdir():  # no leftovers of the last round: count from the same
            shutil.rmtree(leftover)
        if "outdated" in start:
            write(path, 0).rename(tmp_path / "outdated")
        write(path, 1)
        if "outdated" in start:
            (tmp_path / "outdated").rename(tmp_path / ".old-bundle-0badcafe")
        elif "only" in start:
            path.rename(tmp_path / ".old-bundle-0badcafe")
        with child(write_and_die, path, 2, moment) as (process, _):
            process.join()
            survived = process.exitcode == 0
        is_absent, left = not path.exists(), names(tmp_path)
        if is_absent:
            assert step_of(offered(path)) == 1, left
            assert (
                len([name for name in left if name.startswith(".old-")]) == 1
            )  # no other to err to
            if moment % 2:
                assert step_of(rename_back(path)) == 1
        outcomes.add("absent" if is_absent else step_of(path))
        write(path, 3)
        assert step_of(path) == 3
        assert names(tmp_path) == ["bundle"], left
    assert moment > 15  # there were that many moments to die at
    assert outcomes >= ({1, 2, "absent"} if "only" not in start else {2, "absent"})


def file_and_die(file, moment, pipe):
    die_at(moment)
    write_file(file, b"new")


def test_kill_at_every_touch_of_one_file(tmp_path):
    file, moment, survived, outcomes = tmp_path / "file", 0, False, set()
    while not survived:
        moment += 1
        write_file(file, b"old")
        with child(file_and_die, file, moment) as (process, _):
            process.join()
            survived = process.exitcode == 0
        outcomes.add(read_file(file))
    assert moment > 3
    assert outcomes == {b"old", b"new"}


def test_killed_between_the_two_renames(tmp_path):
    path = write(tmp_path / "bundle", 1)
    path.rename(tmp_path / ".old-bundle-0badcafe")
    refused(path, f"rename {tmp_path / '.old-bundle-0badcafe'} to bundle")
    assert names(tmp_path) == [".old-bundle-0badcafe"]  # a reader changes nothing
    assert step_of(rename_back(path)) == 1
    path.rename(tmp_path / ".old-bundle-0badcafe")
    write(path, 2)  # or save again: what was lost is superseded
    assert step_of(path) == 2 and names(tmp_path) == ["bundle"]


def test_leftovers_are_swept_and_those_of_others_left_alone(tmp_path):
    """Catches the staging of `bundle-2`, which another process is writing, taken for a leftover of
    `bundle`, and its backup offered in place of `bundle`."""
    ours = [".staging-bundle-0badcafe", ".old-bundle-0badcafe", ".staging-bundle-12345678",
            ".staging-.old-bundle-0badcafe-0badcafe",
            ".staging-.staging-bundle-0badcafe-0badcafe"]  # fmt: skip
    theirs = [".staging-bundle-2-0badcafe", ".old-bundle-2-0badcafe", ".staging-bundle-notes",
              ".staging-bundl-0badcafe", ".old-bundle", ".staging-bundle-0badcafe-0badcafe",
              "bundle-0badcafe", ".bundle", ".oldxbundle-0badcafe"]  # fmt: skip
    for name in ours + theirs:
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text(name)
    refused(tmp_path / "bundle", f"rename {tmp_path / '.old-bundle-0badcafe'} to bundle")
    refused(tmp_path / "bund", "no such directory; train one, or name it")
    write(tmp_path / "bundle", 1)
    assert names(tmp_path) == sorted(["bundle", *theirs])
    for name in theirs:
        assert (tmp_path / name / "state.json").read_text() == name


def test_names_with_special_characters(tmp_path):
    """Catches a name that is taken for a pattern: its leftovers missed, or those of others hit."""
    neighbour = tmp_path / ".staging-bundle-0badcafe"
    neighbour.mkdir()
    for name in ["bundle[1]", "*", "b?ndle", "一只猫", "a b"]:
        left = tmp_path / f".staging-{name}-0badcafe"
        left.mkdir()
        path = write(tmp_path / name, 1)
        assert step_of(path) == 1 and not left.exists(), name
        path.rename(tmp_path / f".old-{name}-0badcafe")
        refused(path, f"rename {tmp_path / f'.old-{name}-0badcafe'} to {name}")
        shutil.rmtree(tmp_path / f".old-{name}-0badcafe")
    assert neighbour.exists()


def test_a_reader_never_sees_half_a_directory(tmp_path):
    """Catches files of two saves read as one. A reader may be told that it is being replaced."""
    path = write(tmp_path / "bundle", 0)
    with child(write_forever, path, 0, 1000) as (_, pipe):
        assert pipe.poll(300)
        seen, start = [], time.monotonic()
        while (took := time.monotonic() - start) < 2 or (len(set(seen)) < 5 and took < 60):
            with contextlib.suppress(MinidalleError):
                seen.append(step_of(path))
    assert seen == sorted(seen)
    assert len(set(seen)) >= 5  # it was replaced while it was read


# --- Disk full ------------------------------------------------------------------------------------


def write_within(path, limit, pipe):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        if path.suffix:
            write_file(path, bytes(4_000_000))
        else:
            write(path, 2, 1_000_000)
    except MinidalleError as error:
        pipe.send(str(error))


def test_disk_full(tmp_path):
    path = write(tmp_path / "bundle", 1)
    with child(write_within, path, 1 << 20) as (_, pipe):
        said = pipe.recv()
    tells(said, f"cannot save {path}: File too large", "it needs 4,000,", "bytes, and")
    tells(said, "intact", "make room", "or save elsewhere")
    assert step_of(path) == 1
    assert names(tmp_path) == ["bundle"]


def test_disk_full_for_one_file(tmp_path):
    file = tmp_path / "file.bin"
    write_file(file, b"old")
    with child(write_within, file, 1 << 20) as (_, pipe):
        tells(pipe.recv(), f"cannot save {file}: File too large", "needs 4,000,000 bytes", "intact")
    assert read_file(file) == b"old"
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("call", ["mkdir", "fsync", "replace"])
def test_no_space_wherever_it_strikes(tmp_path, monkeypatch, call):
    # The second rename is the worst: the old one was set aside, and the new one cannot come.
    path, moment, told = tmp_path / "bundle", 0, 0
    while True:
        moment += 1
        write(path, 1)
        with failing(monkeypatch, call, moment) as calls:
            try:
                write(path, 2)
                step = 2
            except MinidalleError as error:
                tells(str(error), f"cannot save {path}: No space left", "needs", "are free there")
                tells(str(error), "intact", "make room")
                step, told = step_of(path), told + 1
        assert step_of(path) == step
        write(path, 3)
        assert step_of(path) == 3
        assert names(tmp_path) == ["bundle"]
        if len(calls) < moment:
            break
    assert told == {"mkdir": 1, "fsync": 5, "replace": 2}[call]


def test_the_disk_fails_twice(tmp_path, monkeypatch):
    """Catches a backup that is lost when it cannot even be renamed back."""
    path = write(tmp_path / "bundle", 1)
    replace, calls = os.replace, []

    def fail(source, target):
        calls.append(target)
        if len(calls) > 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(MinidalleError) as caught:
        patch.setattr(os, "replace", fail)
        write(path, 2)
    tells(caught, f"cannot write {path}: Input/output error")
    assert step_of(rename_back(path)) == 1
    write(path, 3)
    assert names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO], ids=errno.errorcode.get)
def test_directories_that_cannot_be_synchronized(tmp_path, monkeypatch, number):
    """Catches a save that fails on a network drive, and one that hides a fault of the disk."""
    fsync = os.fsync

    def fail(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", fail)
    for save in (
        lambda: write(tmp_path / "bundle", 1),
        lambda: write_file(tmp_path / "file", b"data"),
    ):
        if number == errno.EINVAL:
            save()
        else:
            with pytest.raises(MinidalleError, match="Input/output error"):
                save()
    if number == errno.EINVAL:
        assert step_of(tmp_path / "bundle") == 1 and read_file(tmp_path / "file") == b"data"


# --- Damage ---------------------------------------------------------------------------------------

FILES = ["model.safetensors", "state.json", MANIFEST]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("cut", ["0", "8", "half", "-1"])
def test_truncated(tmp_path, name, cut):
    path = write(tmp_path / "bundle", 1)
    data = (path / name).read_bytes()
    length = {"0": 0, "8": 8, "half": len(data) // 2, "-1": len(data) - 1}[cut]
    (path / name).write_bytes(data[:length])
    parts = [] if name == MANIFEST else [f"{length} bytes are not the {len(data)} that were saved"]
    refused(path, path / name, "is damaged", "fetch a fresh copy, or train again", *parts)


@pytest.mark.parametrize("name", FILES[:2])
def test_one_byte_flipped(tmp_path, name):
    path = write(tmp_path / "bundle", 1)
    data = (path / name).read_bytes()
    for place in [0, 7, len(data) // 2, len(data) - 1]:
        flipped = bytearray(data)
        flipped[place] ^= 1
        (path / name).write_bytes(flipped)
        refused(path, path / name, "is damaged", "SHA-256", "fetch a fresh copy")


def test_one_bit_flipped_anywhere_in_the_manifest(tmp_path):
    # It has no hash of its own, and needs none: each byte of it matters to JSON, names or hashes.
    path = write(tmp_path / "bundle", 1)
    data = (path / MANIFEST).read_bytes()
    for place in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            (path / MANIFEST).write_bytes(flipped)
            refused(path, path)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_missing(tmp_path, name):
    path = write(tmp_path / "bundle", 1)
    (path / name).unlink()
    refused(path, f"cannot read {path / name}: No such file")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "null",
        '{"format": 1}',
        '{"format": "1", "files": {}}',
        '{"format": 1.0, "files": {}}',
        '{"format": 1, "files": []}',
        '{"format": 1, "files": {"state.json": 3}}',
        '{"format": 1, "files": {"state.json": {}}}',
        '{"format": 1, "files": {"state.json": null}}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "\xff",
    ],
)
def test_a_manifest_that_is_none(tmp_path, text):
    path = write(tmp_path / "bundle", 1)
    (path / MANIFEST).write_bytes(text.encode("latin-1"))
    refused(path, path, "is damaged", "fetch a fresh copy, or train again")


def test_a_file_of_another_length_is_not_even_read(tmp_path):
    """Catches a reader that fills the memory with what cannot be right."""
    path = write(tmp_path / "bundle", 1)
    os.truncate(path / "model.safetensors", 1 << 40)  # a sparse file, which takes no room
    refused(path, f"{path / 'model.safetensors'} is damaged: its {1 << 40} bytes are not the")


def test_a_pointer_of_git_lfs_is_told_from_damage(tmp_path):
    path = write(tmp_path / "bundle", 1)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
    (path / "model.safetensors").write_text(pointer)
    refused(path, f"{path / 'model.safetensors'} is a pointer of Git LFS", "git lfs pull")


def test_nothing_there(tmp_path):
    refused(tmp_path / "bundle", f"cannot read {tmp_path / 'bundle'}: no such directory", "train")
    refused(tmp_path / "no" / "bundle", "no such directory; train one, or name it")
    (tmp_path / "file").write_text("mine")
    refused(tmp_path / "file", tmp_path / "file", "Not a directory")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", f"cannot read {tmp_path / 'empty' / MANIFEST}: No such file")


def test_what_the_manifest_does_not_list_is_not_read(tmp_path):
    """Catches a README that makes a bundle unreadable, and tensors that nobody has hashed."""
    path = write(tmp_path / "bundle", 1)
    (path / "README.md").write_text("# A model card")
    (path / "clip.safetensors").write_bytes(contents(2)["model.safetensors"])
    tensors, documents = read_directory(path)
    assert tensors.keys() == {"model"} and documents.keys() == {"state"}


# --- Hostile files --------------------------------------------------------------------------------


@pytest.mark.parametrize("forged", [False, True], ids=["by hash", "hash matched"])
@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_in_disguise(tmp_path, forged, kind):
    song = tmp_path / "sung"
    data = pickled(kind, song)
    path = write(tmp_path / "bundle", 1)
    file = path / "model.safetensors"
    if forged:
        forge(path, file.name, data)
        refused(path, f"{file} is not a safetensors file and was not opened")
    else:
        file.write_bytes(data)
        refused(path, f"{file} is damaged: its {len(data)} bytes are not the")
    assert not song.exists()


def test_no_pickle_in_the_package():
    for path in Path(minidalle.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = ast.unparse(node) if isinstance(node, ast.Import | ast.ImportFrom) else ""
            assert "pickle" not in text, path
            if isinstance(node, ast.Attribute):
                assert ast.unparse(node) not in {"torch.load", "torch.save"}, path


@pytest.mark.parametrize("data", [b"{", b"", b"\xff", b"[" * 100_000, PNG], ids=str)
def test_json_that_is_none(tmp_path, data):
    path = write(tmp_path / "bundle", 1)
    forge(path, "state.json", data)
    refused(path, f"{path / 'state.json'} is not a json file and was not opened")


@pytest.mark.parametrize(
    "data", [b"", b"{}", PNG, b"\xff" * 8, struct.pack("<Q", 1 << 60)], ids=str
)
def test_safetensors_that_are_none(tmp_path, data):
    path = write(tmp_path / "bundle", 1)
    forge(path, "model.safetensors", data)
    refused(path, f"{path / 'model.safetensors'} is not a safetensors file and was not opened")


@pytest.mark.parametrize(
    "name",
    ["../secret.json", "/etc/secret.json", "a/b.json", "..", "", "C:\\a.json", "a.pkl", MANIFEST,
     ".secret.json", "a.json\n", "a\x00.json"],
)  # fmt: skip
def test_a_manifest_that_points_elsewhere(tmp_path, name):
    path = write(tmp_path / "bundle", 1)
    (tmp_path / "secret.json").write_text("{}")
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["files"][name] = {"bytes": 2, "sha256": sha256(b"{}")}
    (path / MANIFEST).write_text(json.dumps(manifest))
    refused(path, f"{path / MANIFEST} lists {name!r}", "do not trust it")


@pytest.mark.parametrize("name", FILES)
def test_a_link_is_not_followed(tmp_path, name):
    path = write(tmp_path / "bundle", 1)
    (path / name).rename(tmp_path / "elsewhere")  # the right bytes, and still refused
    (path / name).symlink_to(tmp_path / "elsewhere")
    refused(path, f"{path / name} is not a plain file and was not opened")


@pytest.mark.parametrize("name", FILES)
def test_a_fifo_does_not_hang(tmp_path, name):
    path = write(tmp_path / "bundle", 1)
    (path / name).unlink()
    os.mkfifo(path / name)
    refused(path, f"{path / name} is not a plain file")


@pytest.mark.parametrize("kind", ["link", "dangling link", "FIFO", "directory", "device"])
def test_only_plain_files_are_read(tmp_path, kind):
    file, elsewhere = tmp_path / "file", tmp_path / "elsewhere"
    elsewhere.write_bytes(b"data")
    match kind:
        case "link":
            file.symlink_to(elsewhere)
        case "dangling link":
            file.symlink_to(tmp_path / "nowhere")
        case "FIFO":
            os.mkfifo(file)
        case "directory":
            file.mkdir()
        case "device":
            file = Path("/dev/zero")  # has no end
    with pytest.raises(MinidalleError) as caught:
        read_file(file)
    tells(caught, f"{file} is not a plain file and was not opened")
    with pytest.raises(MinidalleError, match="No such file"):
        read_file(tmp_path / "nothing")
    assert read_file(elsewhere) == b"data"


# --- Read-only ------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/proc/bundle", "/sys/bundle"])
def test_a_place_that_not_even_root_can_write(place):
    if not Path(place).parent.exists():
        pytest.skip(f"there is no {Path(place).parent} here")
    for attempt in (lambda: write(Path(place), 1), lambda: write_file(place, b"data")):
        with pytest.raises(MinidalleError) as caught:
            attempt()
        tells(caught, f"cannot write {place}: ", "choose a directory you may write to")


def write_as_nobody(path, pipe):
    be_nobody()
    for attempt in (lambda: write(path, 2), lambda: write_file(path / "file", b"data")):
        try:
            attempt()
            pipe.send("written")
        except MinidalleError as error:
            pipe.send(str(error))


def test_a_read_only_directory():
    # Not tmp_path, which only its owner can enter.
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        path = write(Path(place) / "bundle", 1)
        path.chmod(0o555)
        Path(place).chmod(0o555)
        with child(write_as_nobody, path) as (_, pipe):
            tells(pipe.recv(), f"cannot write {path}: Permission denied", "choose a directory")
            tells(pipe.recv(), f"cannot write {path / 'file'}: Permission denied")
        assert step_of(path) == 1 and names(Path(place)) == ["bundle"]
        Path(place).chmod(0o755)
        path.chmod(0o755)


def test_a_read_only_disk(tmp_path, monkeypatch):
    """Catches the clearing up that fails as the write did, and hides its message."""

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for call in ("mkdir", "unlink", "replace", "rmdir"):
        monkeypatch.setattr(os, call, refuse)
    for attempt in (
        lambda: write_file(tmp_path / "place", b"data"),
        lambda: write(tmp_path / "place", 1),
    ):
        with pytest.raises(MinidalleError) as caught:
            attempt()
        tells(caught, f"cannot write {tmp_path / 'place'}: Read-only file system")


def test_something_in_the_way(tmp_path):
    """Catches a traceback where a path leads through a file."""
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    for attempt in (lambda: write_file(file / "x", b""), lambda: write(file / "bundle", 1)):
        with pytest.raises(MinidalleError) as caught:
            attempt()
        tells(caught, f"cannot write {file}", "a file is in the way", "choose a directory")
    with pytest.raises(MinidalleError) as caught:
        write_file(folder, b"")
    tells(caught, f"cannot write {folder}: a directory is in the way")
    with pytest.raises(MinidalleError) as caught:
        write_file(folder / "none" / "x", b"")
    tells(caught, f"cannot write {folder / 'none' / 'x'}: No such file or directory")
    assert file.read_text() == "mine" and names(tmp_path) == ["file", "folder"]


# --- Other formats --------------------------------------------------------------------------------


def test_format_1_loads_for_ever(tmp_path):
    tensors, documents = read_directory(frozen(tmp_path / "bundle", 1))
    assert torch.equal(tensors["model"]["weight"], torch.tensor([0.5, -2.0]))
    assert documents == {"config": {"width": 2}}


@pytest.mark.parametrize(
    ("number", "cure"), [(0, "save it with the release that wrote it"), (2, "update minidalle")]
)
def test_another_format_says_what_to_do(tmp_path, number, cure):
    path = frozen(tmp_path / "bundle", number)
    refused(path, f"{path / MANIFEST} is of format {number}, and this minidalle", cure)
