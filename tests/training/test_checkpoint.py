"""Every fault of a disk, provoked: each is told in one line, and the last good checkpoint loads."""

import ast
import contextlib
import copy
import dataclasses
import errno
import hashlib
import json
import multiprocessing
import os
import pickle
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from minidalle.training.weights import flatten, unflatten
from torch import nn

import minidalle
from minidalle.bundle import load_weights
from minidalle.errors import MinidalleError
from minidalle.files import MANIFEST
from minidalle.training import checkpoint
from minidalle.training.checkpoint import FORMAT, CheckpointDirectory, load, save

# Children are forked from a server that has imported torch once: the tests need about a hundred.
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["torch", "safetensors.torch", "pytest", "hypothesis"])


def write(directory: Path, step: int, size: int = 1000) -> Path:
    """A checkpoint whose parts all tell its step, so that a mixture of two would show."""
    return save(directory, *contents(step, size))


def contents(step: int, size: int = 1000):
    return {"model": {"weight": torch.full((size,), float(step))}}, {"state": {"step": step}}


def step_of(directory: Path) -> int:
    tensors, documents = load(directory)
    step = documents["state"]["step"]
    assert (tensors["model"]["weight"] == step).all()
    return step


def tells(caught: pytest.ExceptionInfo | str, *parts: object) -> None:
    """The house's form of a fault: one line, with the cause, the file and the remedy."""
    text = caught if isinstance(caught, str) else str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert str(part) in text, text


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


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


def forge(directory: Path, name: str, data: bytes) -> None:
    """Put `data` in, and its hash in the manifest: what an attacker would do."""
    manifest = json.loads((directory / MANIFEST).read_text())
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (directory / MANIFEST).write_text(json.dumps(manifest))
    (directory / name).write_bytes(data)


# --- What is saved comes back -------------------------------------------------------------------


def test_awkward_tensors_come_back(tmp_path):
    tied = torch.randn(4, 3)
    state = {
        "embedding.weight": tied,
        "head.weight": tied,  # the same memory, as in a model with tied weights
        "transposed": torch.randn(5, 2).t(),
        "slice": torch.randn(6, 6)[1:3, ::2],
        "expanded": torch.ones(1, 3).expand(4, 3),
        "half": torch.randn(3).bfloat16(),
        "scalar": torch.tensor(7),
        "none": torch.empty(0, 3),
        "mask": torch.tensor([True, False]),
        "parameter": nn.Parameter(torch.randn(2)),
        "generator": torch.get_rng_state(),
    }
    documents = {"config": {"caption": "一只猫", "rate": 0.1 + 0.2, "best": float("inf")}}
    path = save(tmp_path / "bundle", {"model": state, "empty": {}}, documents)
    tensors, loaded = load(path)
    assert loaded == documents
    assert tensors["empty"] == {}
    assert tensors["model"].keys() == state.keys()
    for name, tensor in state.items():
        assert tensors["model"][name].dtype == tensor.dtype
        assert torch.equal(tensors["model"][name], tensor), name
    tensors["model"]["head.weight"].add_(1)  # our own copy: it may be written to,
    assert torch.equal(tensors["model"]["embedding.weight"], tied)  # and is tied to nothing
    assert names(tmp_path) == ["bundle"]


def test_the_files_are_plain_and_listed(tmp_path):
    path = write(tmp_path / "bundle", 3)
    assert names(path) == ["manifest.json", "model.safetensors", "state.json"]
    manifest = json.loads((path / MANIFEST).read_text())
    assert manifest["format"] == FORMAT
    for name, entry in manifest["files"].items():
        data = (path / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@pytest.mark.parametrize("name", ["../out", "a/b", "", ".hidden", "a\\b", "C:a", "manifest", "a\n"])
def test_only_plain_names_are_saved(tmp_path, name):
    with pytest.raises(ValueError, match="cannot name a file"):
        save(tmp_path / "bundle", {}, {name: {}})
    assert names(tmp_path) == []


def test_what_is_no_checkpoint_is_never_replaced(tmp_path):
    # Replacing deletes: a slip of the keyboard must not cost a home directory.
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(MinidalleError) as caught:
        write(tmp_path, 1)
    tells(caught, tmp_path, "something else than a checkpoint", "choose another name")
    assert names(tmp_path) == ["thesis.txt"]


def test_a_damaged_checkpoint_may_be_replaced(tmp_path):
    path = write(tmp_path / "step-00000001", 1)
    (path / MANIFEST).unlink()
    assert step_of(write(path, 2)) == 2


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
states = st.recursive(
    scalars | st.integers(0, 99).map(torch.tensor),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(states)
@settings(max_examples=200, deadline=None)
def test_flatten_is_exactly_undone(state):
    tensors, document = flatten(state)
    # repr tells 1 from True and 1.0, a tuple from a list, -0.0 from 0.0, and NaN equals itself.
    assert repr(unflatten(tensors, json.loads(json.dumps(document)))) == repr(state)


def test_flatten_names_what_it_cannot_hold():
    with pytest.raises(TypeError, match=r"state\.a\.1 is a set"):
        flatten({"a": [1, {2}]})


def test_an_optimiser_goes_on_as_if_nothing_had_happened(tmp_path):
    def steps(model, optimiser, seeds):
        for seed in seeds:
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
            optimiser.zero_grad()
            model(x).square().mean().backward()
            optimiser.step()

    torch.manual_seed(0)
    model = nn.Linear(4, 4)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1 / 3, betas=(0.9, 0.95))
    steps(model, optimiser, [1, 2])
    tensors, document = flatten({"optimiser": optimiser.state_dict(), "random": random.getstate()})
    path = save(tmp_path / "bundle", {"model": model.state_dict(), "o": tensors}, {"o": document})

    twin = nn.Linear(4, 4)
    saved, documents = load(path)
    twin.load_state_dict(saved["model"])
    restored = unflatten(saved["o"], documents["o"])
    assert repr(restored["optimiser"]) == repr(optimiser.state_dict())
    assert restored["random"] == random.getstate()
    revived = torch.optim.AdamW(twin.parameters())
    revived.load_state_dict(restored["optimiser"])
    steps(model, optimiser, [3, 4])
    steps(twin, revived, [3, 4])
    assert torch.equal(twin.weight, model.weight)


# --- kill −9 while saving -----------------------------------------------------------------------

BIG = 5_000_000  # floats: a file of 20 MB, so that most kills fall in the midst of writing


def save_forever(directory, step, size, pipe):
    pipe.send(step)
    while True:
        step += 1
        write(directory, step, size)
        pipe.send(step)


def run_forever(directory, step, pipe):
    with CheckpointDirectory(directory) as run:  # the last owner was killed: its lock is free
        pipe.send(step)
        while True:
            step += 1
            run.save(step, *contents(step, BIG))
            pipe.send(step)


def seconds(job) -> float:
    """What a save takes here and now: the kills are spread over a few of them."""
    start = time.monotonic()
    job()
    return min(time.monotonic() - start, 1)


def last_word(pipe) -> int:
    with contextlib.suppress(EOFError):
        while True:
            word = pipe.recv()
    return word


def test_kill_at_random_moments_over_one_checkpoint(tmp_path):
    path, step, delays = tmp_path / "bundle", 0, random.Random(0)
    pace = seconds(lambda: write(path, 0, BIG))
    for _ in range(20):
        with child(save_forever, path, step, BIG) as (process, pipe):
            assert pipe.poll(300)  # the clock starts when it does
            time.sleep(delays.uniform(0, 5 * pace))
            process.kill()
            promised = last_word(pipe)
        step = step_of(path)
        # What `save` returned from is on the disk; one more may be there, unannounced.
        assert promised <= step <= promised + 1
    assert step > 0, "no child had the time to save: the test has shown nothing"
    write(path, step + 1)
    assert names(tmp_path) == ["bundle"]  # what the killed ones left is swept


def test_kill_at_random_moments_in_a_run(tmp_path):
    path, step, delays = tmp_path / "run", 0, random.Random(1)
    with CheckpointDirectory(path) as run:
        pace = seconds(lambda: run.save(0, *contents(0, BIG)))
    for _ in range(20):
        with child(run_forever, path, step) as (process, pipe):
            assert pipe.poll(300)
            time.sleep(delays.uniform(0, 5 * pace))
            process.kill()
            promised = last_word(pipe)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # not even a damaged one that is passed over
            with CheckpointDirectory(path) as run:
                step = step_of(run.latest())
        assert promised <= step <= promised + 1
        assert not [name for name in names(path) if name.startswith(".")]
    assert step > 0
    with CheckpointDirectory(path) as run:
        run.save(step + 1, *contents(step + 1))
    assert names(path) == ["lock", f"step-{step:08d}", f"step-{step + 1:08d}"]


TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir"}


def save_and_die(directory, step, moment, pipe):
    """Save, but be killed just before the process touches the disk for the `moment`-th time."""
    touched = 0

    def hook(event, _):
        nonlocal touched
        if event in TOUCHES:
            touched += 1
            if touched == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    write(directory, step)
    pipe.send("survived")


def test_kill_at_every_touch_of_the_disk(tmp_path):
    # Random kills seldom fall between two renames, a few microseconds apart. These do.
    path, moment, survived, outcomes = tmp_path / "bundle", 0, False, set()
    while not survived:
        moment += 1
        for leftover in tmp_path.iterdir():  # no leftovers of the last round: count from the same
            checkpoint._discard(leftover, "")
        write(path, 1)
        with child(save_and_die, path, 2, moment) as (process, _):
            process.join()
            survived = process.exitcode == 0
        outcomes.add(step_of(path))
        assert outcomes <= {1, 2}
        left = names(tmp_path)
        write(path, 3)
        assert step_of(path) == 3
        assert names(tmp_path) == ["bundle"], left
    assert moment > 15  # there were that many moments to die at
    assert outcomes == {1, 2}


def test_killed_between_the_two_renames(tmp_path):
    path = write(tmp_path / "bundle", 1)
    path.rename(tmp_path / ".old-bundle")
    assert step_of(path) == 1  # read where it is: a reader changes nothing
    assert names(tmp_path) == [".old-bundle"]
    with CheckpointDirectory(tmp_path):  # a run puts it back
        pass
    assert names(tmp_path) == ["bundle", "lock"]


def test_a_reader_never_sees_half_a_checkpoint(tmp_path):
    path = write(tmp_path / "bundle", 0)
    with child(save_forever, path, 0, 1000) as (_, pipe):
        assert pipe.poll(300)
        seen, start = [], time.monotonic()
        while (took := time.monotonic() - start) < 2 or (len(set(seen)) < 5 and took < 60):
            seen.append(step_of(path))
    assert seen == sorted(seen)
    assert len(set(seen)) >= 5  # it was replaced under our eyes


# --- Disk full ----------------------------------------------------------------------------------


def save_within(directory, limit, pipe):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        if directory.name == "run":
            with CheckpointDirectory(directory) as run:
                run.save(2, *contents(2, 1_000_000))
        else:
            write(directory, 2, 1_000_000)
    except MinidalleError as error:
        pipe.send(str(error))


def test_disk_full(tmp_path):
    path = write(tmp_path / "bundle", 1)
    with child(save_within, path, 1 << 20) as (_, pipe):
        tells(
            pipe.recv(), path, "File too large", "it needs 4,000,", "bytes", "intact", "make room"
        )
    assert step_of(path) == 1
    assert names(tmp_path) == ["bundle"]


def test_disk_full_in_a_run(tmp_path):
    with CheckpointDirectory(tmp_path / "run") as run:
        run.save(1, *contents(1))
    with child(save_within, tmp_path / "run", 1 << 20) as (_, pipe):
        tells(pipe.recv(), "step-00000002", "it needs 4,000,", "make room")
    assert step_of(run.latest()) == 1
    assert names(tmp_path / "run") == ["lock", "step-00000001"]


@pytest.mark.parametrize("call", ["mkdir", "fsync", "replace"])
def test_no_space_wherever_it_strikes(tmp_path, monkeypatch, call):
    path = write(tmp_path / "bundle", 1)
    real, calls = getattr(os, call), []

    def full(*arguments, **options):
        calls.append(call)
        # The second rename is the worst: the old one has stepped aside, the new one cannot come.
        if call != "replace" or len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **options)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(MinidalleError) as caught:
        write(path, 2)
    monkeypatch.undo()
    tells(caught, path, "No space left", "needs", "are free there", "intact", "make room")
    assert step_of(path) == 1
    write(path, 2)
    assert names(tmp_path) == ["bundle"]


# --- Damage -------------------------------------------------------------------------------------


def two(tmp_path) -> tuple[Path, Path]:
    with CheckpointDirectory(tmp_path / "run") as run:
        return run.save(1, *contents(1)), run.save(2, *contents(2))


def assert_refused(good: Path, bad: Path, file: Path, *parts: object) -> None:
    """The file is named, the previous checkpoint offered, and a run goes on from that."""
    with pytest.raises(MinidalleError) as caught:
        load(bad)
    tells(caught, file, f"load {good} instead", *parts)
    with (
        CheckpointDirectory(bad.parent) as run,
        pytest.warns(UserWarning, match=f"{bad.name} is passed over"),
    ):
        assert run.latest() == good
    assert step_of(good) == 1


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", MANIFEST])
@pytest.mark.parametrize("cut", ["0", "8", "half", "-1"])
def test_truncated(tmp_path, name, cut):
    good, bad = two(tmp_path)
    data = (bad / name).read_bytes()
    length = {"0": 0, "8": 8, "half": len(data) // 2, "-1": len(data) - 1}[cut]
    (bad / name).write_bytes(data[:length])
    parts = [] if name == MANIFEST else [f"{length} bytes are not the {len(data)} that were saved"]
    assert_refused(good, bad, bad / name, "is damaged", *parts)


@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
def test_one_byte_flipped(tmp_path, name):
    good, bad = two(tmp_path)
    data = (bad / name).read_bytes()
    for place in [0, 7, len(data) // 2, len(data) - 1]:
        flipped = bytearray(data)
        flipped[place] ^= 1
        (bad / name).write_bytes(flipped)
        assert_refused(good, bad, bad / name, "is damaged", "SHA-256")


def test_one_byte_flipped_anywhere_in_the_manifest(tmp_path):
    # It has no hash of its own, and needs none: each byte of it matters to JSON, names or hashes.
    path = write(tmp_path / "bundle", 1)
    data = (path / MANIFEST).read_bytes()
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1
        (path / MANIFEST).write_bytes(flipped)
        with pytest.raises(MinidalleError) as caught:
            load(path)
        tells(caught, path)


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", MANIFEST])
def test_a_file_is_missing(tmp_path, name):
    good, bad = two(tmp_path)
    (bad / name).unlink()
    assert_refused(good, bad, bad / name, "No such file")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"format": 1}',
        '{"format": "1", "files": {}}',
        '{"format": 1, "files": []}',
        '{"format": 1, "files": {"state.json": 3}}',
        "[" * 100_000,
        "\xff",
    ],
)
def test_a_manifest_that_is_none(tmp_path, text):
    good, bad = two(tmp_path)
    (bad / MANIFEST).write_bytes(text.encode("latin-1"))
    assert_refused(good, bad, bad, "is damaged")


def test_nothing_there(tmp_path):
    with pytest.raises(MinidalleError) as caught:
        load(tmp_path / "bundle")
    tells(caught, tmp_path / "bundle", "No such file", "no sound checkpoint is beside it", "train")


def test_given_a_run_it_offers_a_checkpoint_inside(tmp_path):
    _, newest = two(tmp_path)
    with pytest.raises(MinidalleError) as caught:
        load(newest.parent)
    tells(caught, newest.parent, f"load {newest} instead")


# --- Hostile files ------------------------------------------------------------------------------


class Canary:
    """Unpickled, it sings: it makes a file."""

    def __init__(self, song: Path):
        self.song = song

    def __reduce__(self):
        return Path.touch, (self.song,)


@pytest.mark.parametrize("forged", [False, True], ids=["by hash", "hash matched"])
@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_in_disguise(tmp_path, forged, kind):
    song = tmp_path / "sung"
    egg = tmp_path / "egg"
    if kind == "pickle":
        egg.write_bytes(pickle.dumps(Canary(song)))
        pickle.loads(egg.read_bytes())
    else:
        torch.save(Canary(song), egg)
        torch.load(egg, weights_only=False)
    assert song.exists()  # the canary does sing, if one lets it
    song.unlink()

    good, bad = two(tmp_path)
    file = bad / "model.safetensors"
    if forged:
        forge(bad, file.name, egg.read_bytes())
        assert_refused(good, bad, file, "is not a safetensors file and was not opened")
    else:
        file.write_bytes(egg.read_bytes())
        assert_refused(good, bad, file, "is damaged", "SHA-256")
    assert not song.exists()


def test_no_pickle_in_the_package():
    for path in Path(minidalle.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = ast.unparse(node) if isinstance(node, ast.Import | ast.ImportFrom) else ""
            assert "pickle" not in text, path
            if isinstance(node, ast.Attribute):
                assert ast.unparse(node) not in {"torch.load", "torch.save"}, path


def test_json_that_is_none(tmp_path):
    good, bad = two(tmp_path)
    forge(bad, "state.json", b"{")
    assert_refused(good, bad, bad / "state.json", "is not a json file")


@pytest.mark.parametrize(
    "name",
    ["../secret.json", "/etc/secret.json", "a/b.json", "..", "", "C:\\a.json", "a.pkl", MANIFEST],
)
def test_a_manifest_that_points_elsewhere(tmp_path, name):
    good, bad = two(tmp_path)
    (bad.parent / "secret.json").write_text("{}")
    manifest = json.loads((bad / MANIFEST).read_text())
    manifest["files"][name] = {"bytes": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    (bad / MANIFEST).write_text(json.dumps(manifest))
    assert_refused(good, bad, bad / MANIFEST, repr(name), "do not trust it")


@pytest.mark.parametrize("name", ["state.json", MANIFEST])
def test_a_link_is_not_followed(tmp_path, name):
    good, bad = two(tmp_path)
    (bad / name).rename(tmp_path / "elsewhere")  # the right bytes, and still refused
    (bad / name).symlink_to(tmp_path / "elsewhere")
    assert_refused(good, bad, bad / name, "not a plain file and was not opened")


def test_a_fifo_does_not_hang(tmp_path):
    good, bad = two(tmp_path)
    (bad / "state.json").unlink()
    os.mkfifo(bad / "state.json")
    assert_refused(good, bad, bad / "state.json", "not a plain file")


# --- Config and weights disagree ----------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    vocabulary: int = 10
    width: int = 4
    heads: tuple[int, ...] = (1, 2)


def tiny(config: Config) -> nn.Module:
    layers = nn.Embedding(config.vocabulary, config.width), nn.Linear(config.width, 2)
    return nn.Sequential(*layers)


@pytest.mark.parametrize("change", [{"width": 6}, {"vocabulary": 12}])
def test_config_and_weights_disagree(tmp_path, change):
    config = Config()
    theirs = dataclasses.replace(config, **change)
    state = {"model": tiny(theirs).state_dict()}
    path = save(tmp_path / "bundle", state, {"config": dataclasses.asdict(theirs)})
    tensors, documents = load(path)
    model = tiny(config)
    before = copy.deepcopy(model.state_dict())
    arguments = {"file": path / "model.safetensors", "saved_config": documents["config"]}
    with pytest.raises(MinidalleError) as caught:
        load_weights(model, tensors["model"], config=config, **arguments)
    ((field, value),) = change.items()
    shape = (theirs.vocabulary, theirs.width)
    tells(
        caught,
        arguments["file"],
        f"0.weight is {shape} in the file and (10, 4) in the model",
        f"config: {field} is {value} in the file and {getattr(config, field)} in the model; build",
        "build the model with the file's config",
    )
    # Nothing was copied, not even the layers that would have fitted.
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    twin = tiny(theirs)
    load_weights(twin, tensors["model"], config=theirs, **arguments)
    assert torch.equal(twin[0].weight, tensors["model"]["0.weight"])


def test_keys_that_disagree(tmp_path):
    model, other = nn.Linear(2, 2), nn.Sequential(*[nn.Linear(2, 2) for _ in range(9)])
    with pytest.raises(MinidalleError) as caught:
        load_weights(model, other.state_dict(), file=tmp_path / "f", config={}, saved_config={})
    tells(caught, "weight is missing from the file", "0.bias is unknown to the model")
    tells(caught, "12 more", "config: no difference")


# --- Read-only ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/proc/run", "/sys/run"])
def test_a_place_that_not_even_root_can_write(place):
    if not Path(place).parent.exists():
        pytest.skip(f"there is no {Path(place).parent} here")
    for attempt in (Run, lambda directory: write(directory, 1)):
        with pytest.raises(MinidalleError) as caught:
            attempt(Path(place))
        tells(caught, f"cannot write {place}: ", "choose a directory you may write to")


def test_a_file_where_a_directory_should_be(tmp_path):
    file = tmp_path / "run"
    file.write_text("mine")
    for place in [file, file / "below"]:
        with pytest.raises(MinidalleError) as caught:
            CheckpointDirectory(place)
        tells(caught, place, "a file is in the way", "choose a directory")
    with pytest.raises(MinidalleError) as caught:
        write(file, 1)
    tells(caught, file, "something else than a checkpoint", "choose another name")
    assert file.read_text() == "mine"


def open_run_as_nobody(directory, pipe):
    if os.getuid() == 0:
        os.setuid(65534)  # root may write anywhere
    try:
        CheckpointDirectory(directory)
    except MinidalleError as error:
        pipe.send(str(error))


def test_read_only_directory_fails_before_step_0():
    # Not tmp_path, which only its owner can enter.
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        directory = Path(place) / "run"
        with CheckpointDirectory(directory) as run:
            run.save(1, *contents(1))
        directory.chmod(0o555)
        with child(open_run_as_nobody, directory) as (_, pipe):
            tells(pipe.recv(), f"cannot write {directory}: Permission denied", "choose a directory")
        # The lock can be opened, but nothing made beside it.
        (directory / "lock").chmod(0o666)
        with child(open_run_as_nobody, directory) as (_, pipe):
            tells(pipe.recv(), f"cannot write {directory}: Permission denied", "choose a directory")
        assert step_of(run.latest()) == 1
        directory.chmod(0o755)


# --- Two writers --------------------------------------------------------------------------------


def own(directory, pipe):
    with CheckpointDirectory(directory) as run:
        run.save(1, *contents(1))
        pipe.send(os.getpid())
        time.sleep(600)


def intrude(directory, pipe):
    try:
        with CheckpointDirectory(directory) as run:
            pipe.send(f"in, latest is {run.latest().name}")
    except MinidalleError as error:
        pipe.send(str(error))


def test_two_writers(tmp_path):
    path = tmp_path / "run"
    with child(own, path) as (owner, from_owner):
        pid = from_owner.recv()
        with child(intrude, path) as (_, pipe):
            tells(pipe.recv(), path, f"by process {pid}:", "end it, or choose another run")
        assert step_of(path / "step-00000001") == 1  # reading needs no lock
        owner.kill()
        owner.join()
    assert (path / "lock").read_text() == f"{pid}\n"  # stale, and of no matter
    with child(intrude, path) as (_, pipe):
        assert pipe.recv() == "in, latest is step-00000001"


def test_two_writers_in_one_notebook(tmp_path):
    with CheckpointDirectory(tmp_path) as run:
        with pytest.raises(MinidalleError) as caught:
            CheckpointDirectory(tmp_path)
        tells(caught, tmp_path, f"process {os.getpid()}, this one", "close() it first")
    with pytest.raises(ValueError, match="is closed"):
        run.save(1, *contents(1))
    run.close()  # twice does no harm
    with CheckpointDirectory(tmp_path) as run:
        assert run.latest() is None


# --- A run keeps the last two -------------------------------------------------------------------


def test_the_last_two_are_kept(tmp_path):
    with CheckpointDirectory(tmp_path) as run:
        paths = [run.save(step, *contents(step)) for step in (99_999_999, 100_000_000, 100_000_001)]
        assert run.latest() == paths[-1]  # by number, though "step-99999999" sorts last
    assert names(tmp_path) == sorted(["lock", paths[1].name, paths[2].name])


def test_a_good_checkpoint_is_not_deleted_for_a_damaged_one(tmp_path):
    with CheckpointDirectory(tmp_path) as run:
        good, bad = run.save(1, *contents(1)), run.save(2, *contents(2))
        (bad / MANIFEST).write_text("")
        new = run.save(3, *contents(3))
        assert good.exists()
        (new / MANIFEST).write_text("")
        with pytest.warns(UserWarning) as said:
            assert run.latest() == good
        tells(str(said[0].message), new / MANIFEST, "is damaged", "step-00000003 is passed over")
        run.save(3, *contents(3))  # trained again, and saved over the damaged one
        run.save(4, *contents(4))
        assert step_of(run.latest()) == 4
    assert names(tmp_path) == ["lock", "step-00000003", "step-00000004"]


def test_leftovers_are_swept(tmp_path):
    with CheckpointDirectory(tmp_path) as run:
        run.save(1, *contents(1))
    write(tmp_path / ".staging-step-00000002-0badcafe", 2)
    write(tmp_path / ".old-step-00000001", 1)
    (tmp_path / "notes.txt").write_text("not ours, and left alone")
    with CheckpointDirectory(tmp_path):
        assert names(tmp_path) == ["lock", "notes.txt", "step-00000001"]


# --- Other formats ------------------------------------------------------------------------------


def frozen(directory: Path, number: int) -> Path:
    """A checkpoint made by hand, byte by byte, and never by `save`: what old disks hold."""
    header = b'{"weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    header += b" " * (-len(header) % 8)
    directory.mkdir()
    (directory / MANIFEST).write_text(json.dumps({"format": number, "files": {}}))
    data = struct.pack("<Q", len(header)) + header + struct.pack("<2f", 0.5, -2.0)
    forge(directory, "model.safetensors", data)
    forge(directory, "config.json", b'{"width": 2}')
    return directory


def test_format_1_loads_for_ever(tmp_path):
    tensors, documents = load(frozen(tmp_path / "bundle", 1))
    assert torch.equal(tensors["model"]["weight"], torch.tensor([0.5, -2.0]))
    assert documents == {"config": {"width": 2}}


@pytest.mark.parametrize(
    ("number", "cure"), [(0, "save it with the release that wrote it"), (2, "update minidalle")]
)
def test_another_format_says_what_to_do(tmp_path, number, cure):
    good, bad = two(tmp_path)
    for path in bad.iterdir():
        path.unlink()
    bad.rmdir()
    frozen(bad, number)
    assert_refused(good, bad, bad / MANIFEST, f"is of format {number}, and this minidalle", cure)
