"""Step checkpoints under every fault of a disk: each is told in one line, and the last good
checkpoint loads."""

import contextlib
import errno
import hashlib
import json
import os
import random
import resource
import signal
import struct
import tempfile
import time
import warnings
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import save as tensor_bytes
from torch import Tensor, nn

from minidalle.errors import MinidalleError
from minidalle.files import write_directory
from minidalle.training import checkpoint
from minidalle.training.checkpoint import FORMAT, CheckpointDirectory, latest, load, save, steps
from minidalle.training.config import TrainConfig
from minidalle.training.trainer import TrainState, fit
from tests.test_files import (
    BIG,
    PNG,
    assert_same_tensors,
    awkward_tensors,
    be_nobody,
    child,
    die_at,
    failing,
    last_word,
    names,
    pickled,
    seconds,
    snapshot,
    tells,
)
from tests.test_files import contents as directory_contents

CAT = {"caption": "一只猫", "rate": 0.1 + 0.2, "best": float("inf"), "shape": [1, [2]], "no": None}


def contents(step: int, size: int = 1000):
    """Tensors and metadata that both tell a step, so that a mixture of two would show."""
    return {"model": {"weight": torch.full((size,), float(step))}}, {"step": step}


def name_of(step: int) -> str:
    return f"step-{step:08d}.safetensors"


def write(path: Path, step: int, size: int = 1000) -> Path:
    return save(path, *contents(step, size))


def step_of(path: Path) -> int:
    tensors, metadata = load(path)
    assert (tensors["model"]["weight"] == metadata["step"]).all()
    return metadata["step"]


def saved_in(directory: Path) -> list[str]:
    """What is in a directory of checkpoints, the lock and its owner left out."""
    return [name for name in names(directory) if name not in ("lock", "owner")]


def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two checkpoints of a training: the newer one is to be damaged."""
    with CheckpointDirectory(tmp_path / "run") as directory:
        return directory.save(1, *contents(1)), directory.save(2, *contents(2))


def refused(path: Path, *parts: object) -> None:
    with pytest.raises(MinidalleError) as caught:
        load(path)
    tells(caught, path, *parts)


def passed_over(good: Path, bad: Path, *parts: object) -> None:
    """The damaged file is named, and the training goes on from the one before."""
    refused(bad, *parts)
    with CheckpointDirectory(bad.parent) as directory:
        for newest in (directory.latest, lambda: latest(bad.parent)):
            with pytest.warns(UserWarning) as said:
                assert newest() == good
            assert len(said) == 1
            tells(str(said[0].message), bad, f"; {bad.name} is passed over", *parts)
    assert step_of(good) == 1


def signed(header: dict, payload: bytes = b"", tensors: dict | None = None) -> bytes:
    """A file with a header like ours and the right hash, made without `save`."""
    ours = {"format": FORMAT, "sha256": "0" * 64, "groups": [], "metadata": {}} | header
    text = json.dumps({"__metadata__": {"minidalle": json.dumps(ours)}} | (tensors or {}))
    data = text.encode() + b" " * (-len(text) % 8)
    data = struct.pack("<Q", len(data)) + data + payload
    return data.replace(b"0" * 64, hashlib.sha256(data).hexdigest().encode(), 1)


# --- What is saved comes back ---------------------------------------------------------------------


def test_awkward_tensors_come_back(tmp_path):
    """Catches strides that are ignored, tied weights that are refused, and groups that are lost."""
    state = awkward_tensors()
    tied = state["embedding.weight"]  # across two groups
    groups = {
        "model": state,
        "empty": {},
        "optimizer": {"state.net.0.weight.exp_avg": torch.ones(2), "": torch.zeros(1), ".": tied},
    }
    path = save(tmp_path / "step-00000001.safetensors", groups, CAT)
    assert path == tmp_path / "step-00000001.safetensors"
    tensors, metadata = load(path)
    assert metadata == CAT
    assert list(tensors) == ["model", "empty", "optimizer"]
    for group in groups:
        assert_same_tensors(tensors[group], groups[group])
    tensors["model"]["head.weight"].add_(1)  # what was read may be written to, and is not tied
    assert torch.equal(tensors["model"]["embedding.weight"], state["embedding.weight"])
    assert names(tmp_path) == ["step-00000001.safetensors"]


def test_floats_come_back_bit_for_bit(tmp_path):
    """Catches a learning rate that is rounded on its way."""
    numbers = [random.Random(0).uniform(-1, 1) * 10.0**e for e in range(-300, 300, 7)]
    path = save(tmp_path / "x.safetensors", {}, {"numbers": [*numbers, float("-inf"), 5e-324]})
    assert load(path)[1]["numbers"] == [*numbers, float("-inf"), 5e-324]
    path = save(tmp_path / "x.safetensors", {}, {"nan": float("nan"), "zero": -0.0, "pair": (1, 2)})
    assert repr(load(path)[1]) == "{'nan': nan, 'zero': -0.0, 'pair': [1, 2]}"


def test_others_can_read_it(tmp_path):
    """Catches a file that only this package can open: the format is safetensors, nothing else."""
    path = save(tmp_path / "x.safetensors", *contents(3))
    with safe_open(path, "pt") as file:
        assert list(file.keys()) == ["model.weight"]
        assert torch.equal(file.get_tensor("model.weight"), torch.full((1000,), 3.0))
        header = json.loads(file.metadata()["minidalle"])
    assert header["format"] == FORMAT and header["metadata"] == {"step": 3}
    data = path.read_bytes()
    unsigned = data.replace(header["sha256"].encode(), b"0" * 64, 1)
    assert hashlib.sha256(unsigned).hexdigest() == header["sha256"]


def save_state(path, pipe):
    pipe.send(save(path, {"a": {"x": torch.ones(3), "y": torch.zeros(2)}, "b": {}}, CAT).name)


def test_the_same_state_gives_the_same_bytes(tmp_path):
    """Catches a time stamp, or an order that depends on the process."""
    files = [tmp_path / "first", tmp_path / "second"]
    for file in files:
        with child(save_state, file) as (_, pipe):
            assert pipe.recv() == file.name
    first, second = (file.read_bytes() for file in files)
    assert first == second
    other = save(tmp_path / "third", {"a": {"x": torch.ones(3), "y": torch.ones(2)}, "b": {}}, CAT)
    assert other.read_bytes() != first


def test_the_digest_tells_a_checkpoint_from_any_other(tmp_path):
    files = [write(tmp_path / "first", 1), write(tmp_path / "second", 2), write(tmp_path / "a", 1)]
    digests = [checkpoint.digest(file) for file in files]
    assert digests[0] == digests[2] != digests[1]
    assert all(
        digest.encode() in file.read_bytes() for digest, file in zip(digests, files, strict=True)
    )
    with pytest.raises(MinidalleError, match="No such file"):
        checkpoint.digest(tmp_path / "nothing")


def test_what_cannot_be_saved_is_told_before_anything_is_written(tmp_path):
    """Catches a checkpoint that is written and cannot be read again."""
    path = write(tmp_path / "x.safetensors", 1)
    with pytest.raises(TypeError, match="not JSON serializable"):
        save(path, {}, {"seen": {1, 2}})
    with pytest.raises(ValueError, match=r"'a\.b' cannot name a group"):
        save(path, {"a.b": {"weight": torch.ones(1)}}, {})
    assert step_of(path) == 1
    assert names(tmp_path) == ["x.safetensors"]


# --- The optimizer --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    widths: tuple[int, ...] = (4, 8)  # a tuple, which comes back as a list


class Toy(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        layers = {"first": nn.Linear(4, config.widths[1])}
        layers["blocks"] = nn.Sequential(
            nn.Linear(config.widths[1], 4)
        )  # Muon's, where it is asked for
        self.net = nn.Sequential(OrderedDict(layers))


class ToyLosses(NamedTuple):
    total: Tensor


TRAINING = TrainConfig(steps=6, batch_size=8, lr=1 / 3, betas=(0.9, 0.95), weight_decay=0.1)


def error(model, step, progress, rows, scale=1.0):
    x = scale * torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
    return ToyLosses((model.net(x) - x.flip(1)).square().mean())


def start(seed: int = 0, muon_lr: float | None = None) -> TrainState:
    torch.manual_seed(seed)
    return TrainState.start(Toy(ToyConfig()), replace(TRAINING, muon_lr=muon_lr))


def advance(state: TrainState, step: int) -> list[tuple]:
    """Train as far as `step`."""
    records = []
    if state.step < step:
        for record in fit(state, error):
            records.append((record.step, record.losses, record.lr, record.grad_norm))
            if record.step == step:
                break
    return records


def resumed(state: TrainState, file: Path) -> TrainState:
    """As in a new process: other weights, until the file is read."""
    save(file, *state.dump())
    again = start(seed=99, muon_lr=state.config.muon_lr)
    again.restore(*load(file), file=file)
    return again


@pytest.mark.parametrize("muon_lr", [None, 0.02])
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_an_optimizer_goes_on_as_if_nothing_had_happened(tmp_path, stop, muon_lr):
    """Catches moments or settings of any parameter group that are lost, mixed up or rounded."""
    unbroken, state = start(muon_lr=muon_lr), start(muon_lr=muon_lr)
    expected = advance(unbroken, 6)
    records = advance(state, stop)
    again = resumed(state, tmp_path / name_of(stop))

    assert again.step == stop
    assert len(state.optimizers) == (1 if muon_lr is None else 2)
    kept = ({"step", "exp_avg", "exp_avg_sq"}, {"momentum_buffer"})
    for mine, other, kinds in zip(again.optimizers, state.optimizers, kept, strict=False):
        ours, theirs = mine.state_dict(), other.state_dict()
        assert repr(ours) == repr(theirs)  # a tuple is no list, and 1 no 1.0
        for index, moments in theirs["state"].items():
            assert moments.keys() == kinds
            assert_same_tensors(ours["state"][index], moments)

    assert records + advance(again, 6) == expected
    for (name, tensor), twin in zip(
        unbroken.model.state_dict().items(), again.model.state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, twin), name
    assert_same_tensors(again.ema.state_dict(), unbroken.ema.state_dict())
    first, second = (
        save(tmp_path / f"{i}.safetensors", *s.dump()) for i, s in enumerate((unbroken, again))
    )
    assert first.read_bytes() == second.read_bytes()


def test_a_dump_changes_nothing(tmp_path):
    """Catches a training that depends on how often it was saved."""
    alone, watched = start(), start()
    advance(alone, 6)
    for step in range(1, 7):
        advance(watched, step)
        watched.dump()
    assert_same_tensors(watched.model.state_dict(), alone.model.state_dict())


def test_a_dump_before_the_first_step_changes_nothing():
    """Catches an optimizer that is given its moments, and a step too many, only to be saved."""
    alone, watched = start(), start()
    watched.dump()
    assert advance(watched, 6) == advance(alone, 6)
    assert_same_tensors(watched.model.state_dict(), alone.model.state_dict())


@pytest.mark.parametrize("case", ["no step was made", "the first step was refused"])
def test_a_checkpoint_of_step_0_is_gone_on_with(tmp_path, case):
    """Catches a run whose first loss is not finite: its checkpoint must load like any other."""
    state = start()
    if "refused" in case:
        with pytest.raises(MinidalleError, match="is nan"):
            list(fit(state, lambda *arguments: error(*arguments, scale=float("nan"))))
    again = resumed(state, tmp_path / name_of(0))
    assert again.step == 0
    unbroken = start()
    assert advance(again, 6) == advance(unbroken, 6)
    assert_same_tensors(again.model.state_dict(), unbroken.model.state_dict())


# --- kill -9 while saving -------------------------------------------------------------------------


def save_forever(path, step, size, pipe):
    pipe.send(step)
    while True:
        step += 1
        write(path, step, size)
        pipe.send(step)


def train_forever(directory, step, pipe):
    with CheckpointDirectory(directory) as run:  # the last owner was killed: its lock is free
        pipe.send(step)
        while True:
            step += 1
            run.save(step, *contents(step, BIG))
            pipe.send(step)


def test_kill_at_random_moments_over_one_checkpoint(tmp_path):
    path, step, delays = tmp_path / "x.safetensors", 0, random.Random(0)
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


def test_kill_at_random_moments_in_a_directory(tmp_path):
    path, step, delays = tmp_path / "run", 0, random.Random(1)
    with CheckpointDirectory(path) as run:
        pace = seconds(lambda: run.save(0, *contents(0, BIG)))
    for _ in range(20):
        with child(train_forever, path, step) as (process, pipe):
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
    assert saved_in(path) == [name_of(step), name_of(step + 1)]


def train_and_die(directory, moment, pipe):
    die_at(moment)
    with CheckpointDirectory(directory) as run:
        run.save(3, *contents(3))


def test_kill_at_every_touch_of_the_disk(tmp_path):
    # Random kills seldom fall between a rename and the deletion that follows. These do.
    moment, survived, outcomes = 0, False, set()
    while not survived:
        moment += 1
        path = tmp_path / f"run {moment}"
        with CheckpointDirectory(path) as run:
            run.save(1, *contents(1))
            run.save(2, *contents(2))
        with child(train_and_die, path, moment) as (process, _):
            process.join()
            survived = process.exitcode == 0
        sound = [step_of(file) for file in steps(path)]  # all that has a checkpoint's name is whole
        assert sound in ([2, 1], [3, 2, 1], [3, 2])
        outcomes.add(len(sound) * sound[0])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with CheckpointDirectory(path) as run:
                assert step_of(run.latest()) == sound[0]
                assert saved_in(path) == sorted(map(name_of, sound))  # what was left is swept
                run.save(4, *contents(4))
        assert saved_in(path) == [name_of(sound[0]), name_of(4)]
    assert moment > 10  # there were that many moments to die at
    assert outcomes == {4, 9, 6}  # before the rename, after it, and after the deletion


def test_a_reader_always_sees_a_whole_checkpoint(tmp_path):
    """Catches a file that is written in place: a reader needs no lock, and meets no fault."""
    path = write(tmp_path / "x.safetensors", 0)
    with child(save_forever, path, 0, 1000) as (_, pipe):
        assert pipe.poll(300)
        seen, began = [], time.monotonic()
        while (took := time.monotonic() - began) < 2 or (len(set(seen)) < 5 and took < 60):
            seen.append(step_of(path))
    assert seen == sorted(seen)
    assert len(set(seen)) >= 5  # it was replaced while it was read


# --- Disk full ------------------------------------------------------------------------------------


def save_within(directory, limit, pipe):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with CheckpointDirectory(directory) as run:
        try:
            run.save(2, *contents(2, 1_000_000))
        except MinidalleError as error:
            pipe.send(str(error))
        run.save(3, *contents(3))  # smaller, and there is room for it
        pipe.send("saved")


def test_disk_full(tmp_path):
    path = tmp_path / "run"
    with CheckpointDirectory(path) as run:
        run.save(1, *contents(1))
    with child(save_within, path, 1 << 20) as (_, pipe):
        said = pipe.recv()
        assert pipe.recv() == "saved"
    tells(said, f"cannot save {path / name_of(2)}: File too large", "it needs 4,000,", "bytes, and")
    tells(said, "intact", "make room", "or save elsewhere")
    assert step_of(path / name_of(1)) == 1
    assert saved_in(path) == [name_of(1), name_of(3)]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_no_space_wherever_it_strikes(tmp_path, monkeypatch, call):
    moment, told = 0, 0
    while True:
        moment += 1
        path = tmp_path / f"run {moment}"
        with CheckpointDirectory(path) as run:
            run.save(1, *contents(1))
            run.save(2, *contents(2))
            with failing(monkeypatch, call, moment) as calls:
                try:
                    run.save(3, *contents(3))
                except MinidalleError as error:
                    tells(str(error), f"cannot save {path / name_of(3)}: No space left", "needs")
                    tells(str(error), "are free there", "intact", "make room")
                    told += 1
            assert step_of(path / name_of(2)) == 2
            assert step_of(run.latest()) in (2, 3)
            run.save(4, *contents(4))
            newest = steps(path)
            assert [step_of(file) for file in newest] in ([4, 3], [4, 2])
        if len(calls) < moment:
            break
    assert told == {"fsync": 2, "replace": 1}[call]


@pytest.mark.parametrize("method", ["mkdir", "write_text", "touch"])
def test_no_space_at_the_opening(tmp_path, monkeypatch, method):
    """Catches a traceback before step 0, and a lock that is kept by what was never opened."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, method, full)
        with pytest.raises(MinidalleError) as caught:
            CheckpointDirectory(tmp_path / "run")
    tells(caught, f"cannot write {tmp_path / 'run'}: No space left on device")
    with CheckpointDirectory(tmp_path / "run") as run:
        assert run.latest() is None


# --- Damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", ["0", "7", "8", "header", "half", "-1"])
def test_truncated(tmp_path, cut):
    good, bad = two(tmp_path)
    data = bad.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    length = {"0": 0, "7": 7, "8": 8, "header": header, "half": len(data) // 2, "-1": -1}[cut]
    bad.write_bytes(data[:length])
    passed_over(good, bad, "is damaged")


def test_bytes_appended(tmp_path):
    good, bad = two(tmp_path)
    bad.write_bytes(bad.read_bytes() + b"\0")
    passed_over(good, bad, "is damaged: its bytes are not those that were saved")


def test_one_byte_flipped(tmp_path):
    # Every bit of the header, and some of the payload.
    file = save(tmp_path / "x.safetensors", {"model": {"weight": torch.arange(9.0)}}, {"step": 1})
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    assert len(data) == end + 36
    for place in [*range(end), end, end + 1, end + 17, len(data) - 1]:
        for bit in range(8):
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            file.write_bytes(flipped)
            refused(file)
    file.write_bytes(data)
    assert load(file)[1] == {"step": 1}


def test_one_byte_changed_that_no_parser_minds(tmp_path):
    """Catches a hash that leaves out the header: white space in it may be of any kind."""
    file = save(tmp_path / "x.safetensors", {"model": {"weight": torch.arange(9.0)}}, {"step": 1})
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    places = [place for place in range(8, end) if data[place] == 0x20]
    padding = [place for place in places if not data[place:end].strip()]
    assert padding, "this header happens to need no padding"
    for place in padding:
        for white in b"\t\n\r":
            changed = bytearray(data)
            changed[place] = white
            json.loads(changed[8:end])  # still JSON
            file.write_bytes(changed)
            refused(file, "is damaged: its bytes are not those that were saved")
    # The same numbers of another type, of the same size: only the hash can tell.
    file.write_bytes(data.replace(b'"F32"', b'"I32"'))
    refused(file, "is damaged: its bytes are not those that were saved")


def test_a_hash_of_another_file(tmp_path):
    """Catches a hash that is read but not compared."""
    one, other = (write(tmp_path / name, step) for step, name in enumerate("ab"))
    hashes = [json.loads(_header_text(file))["sha256"].encode() for file in (one, other)]
    assert hashes[0] != hashes[1]
    one.write_bytes(one.read_bytes().replace(*hashes))
    refused(one, "is damaged: its bytes are not those that were saved")


def _header_text(file: Path) -> str:
    with safe_open(file, "pt") as opened:
        return opened.metadata()["minidalle"]


def test_nothing_there(tmp_path):
    refused(tmp_path / name_of(1), "cannot read", "No such file or directory")
    assert latest(tmp_path) is None
    assert latest(tmp_path / "nothing") is None
    assert steps(tmp_path / "nothing") == []


# --- Hostile files --------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["alone", "after our header", "after our header, hash matched"])
@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_in_disguise(tmp_path, kind, where):
    song = tmp_path / "sung"
    data = pickled(kind, song)
    good, bad = two(tmp_path)
    if where == "alone":
        bad.write_bytes(data)
        parts = ["was not opened"]
    elif where == "after our header":
        ours = bad.read_bytes()
        bad.write_bytes(ours[: 8 + int.from_bytes(ours[:8], "little")] + data)
        parts = ["is damaged: its bytes are not those that were saved"]
    else:
        bad.write_bytes(signed({}, data))
        parts = ["is not a checkpoint of minidalle and was not opened"]
    passed_over(good, bad, *parts)
    assert not song.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"{}",
        PNG,
        b"\xff" * 8,
        b"\xff" * 100,
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"null",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_safetensors_file(tmp_path, data):
    good, bad = two(tmp_path)
    bad.write_bytes(data)
    passed_over(good, bad, "is damaged, or is not a checkpoint of minidalle, and was not opened")


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        {"minidalle": "not JSON"},
        {"minidalle": "[]"},
        {"minidalle": "2"},
        {"minidalle": '"format"'},
        {"minidalle": "[" * 100_000},
        {"minidalle": '{"format": 2}'},
        {"minidalle": '{"format": 2, "sha256": null}'},
    ],
    ids=lambda metadata: str(metadata)[:40],
)
def test_a_safetensors_file_of_somebody_else(tmp_path, metadata):
    good, bad = two(tmp_path)
    bad.write_bytes(tensor_bytes({"weight": torch.ones(2)}, metadata))
    passed_over(good, bad, "is not a checkpoint of minidalle, and was not opened")


@pytest.mark.parametrize(
    "header",
    [
        {"sha256": ""},
        {"sha256": "0" * 63 + "é"},
        {"sha256": "\ud800" * 64},
        {"sha256": ["0"] * 64},
        {"sha256": 7},
        {"groups": 3},
        {"groups": [[]]},
        {"groups": {}},
        {"groups": ["other"]},
    ],
    ids=lambda header: str(header)[:24],
)
def test_a_header_that_save_did_not_write(tmp_path, header):
    """Catches a traceback where JSON of another shape is in our place, though the hash be right."""
    good, bad = two(tmp_path)
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    bad.write_bytes(signed(header, bytes(4), {"model.weight": entry}))
    passed_over(good, bad)


def test_a_tensor_of_a_type_that_torch_lacks(tmp_path):
    good, bad = two(tmp_path)
    for dtype in ("F4", "I9000"):
        entry = {"dtype": dtype, "shape": [2], "data_offsets": [0, 1]}
        bad.write_bytes(signed({"groups": ["model"]}, bytes(1), {"model.weight": entry}))
        passed_over(good, bad, "is not a checkpoint of minidalle and was not opened")


@pytest.mark.parametrize("kind", ["link", "dangling link", "FIFO", "directory"])
def test_only_plain_files_are_opened(tmp_path, kind):
    # A FIFO would make the reader wait for ever; a link could lead anywhere.
    good, bad = two(tmp_path)
    sound = bad.rename(tmp_path / "elsewhere")
    match kind:
        case "link":
            bad.symlink_to(sound)  # the right bytes, and still refused
        case "dangling link":
            bad.symlink_to(tmp_path / "nowhere")
        case "FIFO":
            os.mkfifo(bad)
        case "directory":
            bad.mkdir()
    passed_over(good, bad, "is not a plain file and was not opened")


@pytest.mark.parametrize("kind", ["link", "FIFO"])
def test_what_is_no_plain_file_is_replaced(tmp_path, kind):
    """Catches a save through a link, onto somebody's file, that no `load` would read again."""
    precious = tmp_path / "precious"
    precious.write_text("theirs")
    with CheckpointDirectory(tmp_path / "run") as run:
        file = tmp_path / "run" / name_of(1)
        if kind == "link":
            file.symlink_to(precious)
        else:
            os.mkfifo(file)
        run.save(1, *contents(1))
        assert step_of(run.latest()) == 1
    assert precious.read_text() == "theirs"


# --- Read-only ------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/proc/run", "/sys/run"])
def test_a_place_that_not_even_root_can_write(place):
    if not Path(place).parent.exists():
        pytest.skip(f"there is no {Path(place).parent} here")
    for attempt in (CheckpointDirectory, lambda path: write(path, 1)):
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
        write(file / name_of(1), 1)
    tells(caught, f"cannot write {file / name_of(1)}: a file is in the way")
    assert file.read_text() == "mine"


def test_a_directory_where_a_checkpoint_should_be(tmp_path):
    with CheckpointDirectory(tmp_path) as run:
        (tmp_path / name_of(1)).mkdir()
        with pytest.raises(MinidalleError) as caught:
            run.save(1, *contents(1))
        tells(caught, f"cannot write {tmp_path / name_of(1)}: a directory is in the way")
    assert saved_in(tmp_path) == [name_of(1)]


def open_as_nobody(directory, pipe):
    be_nobody()
    try:
        CheckpointDirectory(directory)
        pipe.send("opened")
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
        # At last, the lock and its owner can be written, but nothing can be made beside them.
        for writable in ([], ["lock"], ["lock", "owner"]):
            for name in writable:
                (directory / name).chmod(0o666)
            with child(open_as_nobody, directory) as (_, pipe):
                tells(pipe.recv(), f"cannot write {directory}: Permission denied", "choose a dir")
        assert step_of(latest(directory)) == 1
        assert saved_in(directory) == [name_of(1)]
        directory.chmod(0o755)


# --- Two writers ----------------------------------------------------------------------------------


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
        (path / ".staging-of-the-owner").touch()
        with child(intrude, path) as (_, pipe):
            tells(pipe.recv(), path, f"by process {pid}:", "end it, or choose another run")
        assert (path / ".staging-of-the-owner").exists()  # who may not write sweeps nothing
        assert step_of(latest(path)) == 1  # reading needs no lock
        os.kill(pid, signal.SIGKILL)
        owner.join()
    assert (path / "owner").read_text() == f"{pid}\n"  # stale, and of no matter
    with child(intrude, path) as (_, pipe):
        assert pipe.recv() == f"in, latest is {name_of(1)}"


def test_two_writers_in_one_notebook(tmp_path):
    with CheckpointDirectory(tmp_path) as run:
        with pytest.raises(MinidalleError) as caught:
            CheckpointDirectory(tmp_path)
        tells(caught, tmp_path, f"process {os.getpid()}, this one", "close() it first")
        run.save(1, *contents(1))  # the first one is not disturbed
    run.close()  # twice does no harm
    with CheckpointDirectory(tmp_path) as run:
        assert step_of(run.latest()) == 1


def test_a_closed_directory(tmp_path):
    """Catches a save without the lock: another process may have it by now."""
    with CheckpointDirectory(tmp_path) as run:
        pass
    with pytest.raises(ValueError, match="is closed"):
        run.save(1, *contents(1))
    assert saved_in(tmp_path) == []


@pytest.mark.parametrize("owner", [None, b"", b"\xff"], ids=str)
def test_a_writer_that_has_not_told_who_it_is(tmp_path, owner):
    """Catches a traceback in the instant between the lock and the name of its owner."""
    if owner is not None:
        (tmp_path / "owner").write_bytes(owner)
    lock = FileLock(tmp_path / "lock")
    with lock, pytest.raises(MinidalleError) as caught:
        CheckpointDirectory(tmp_path)
    tells(caught, f"{tmp_path} is being written by another process: end it, or choose another run")
    with CheckpointDirectory(tmp_path) as run:
        assert run.latest() is None


@pytest.mark.parametrize(
    "error", [NotImplementedError(), OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))], ids=repr
)
def test_a_file_system_without_locks(tmp_path, monkeypatch, error):
    """Catches a training that cannot start on a network drive, and one that is silent about it."""

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.warns(UserWarning, match="file system without locks") as said:
        run = CheckpointDirectory(tmp_path)
    tells(str(said[0].message), tmp_path, "make sure that no other process writes there")
    with run:
        run.save(1, *contents(1))
        assert step_of(run.latest()) == 1
    with pytest.raises(ValueError, match="is closed"):
        run.save(2, *contents(2))


def test_an_error_frees_the_lock(tmp_path):
    with contextlib.suppress(KeyboardInterrupt), CheckpointDirectory(tmp_path):
        raise KeyboardInterrupt
    with CheckpointDirectory(tmp_path) as run:
        assert step_of(run.save(1, *contents(1))) == 1


# --- The last two are kept ------------------------------------------------------------------------


def test_the_last_two_are_kept(tmp_path):
    with CheckpointDirectory(tmp_path) as run:
        paths = [run.save(step, *contents(step)) for step in (99_999_999, 100_000_000, 100_000_001)]
        assert run.latest() == paths[-1]  # by number, though step-99999999 sorts last
    assert saved_in(tmp_path) == sorted(path.name for path in paths[1:])
    assert steps(tmp_path) == paths[:0:-1]
    assert [checkpoint.step_of(path) for path in steps(tmp_path)] == [100_000_001, 100_000_000]


def test_a_damaged_newest_is_passed_over(tmp_path):
    with CheckpointDirectory(tmp_path) as run:
        paths = [run.save(step, *contents(step)) for step in (1, 2)]
        paths.append(write(tmp_path / name_of(3), 3))
        for path in paths[1:]:
            path.write_bytes(path.read_bytes()[:-1])
        with pytest.warns(UserWarning) as said:
            assert run.latest() == paths[0]
    assert len(said) == 2
    for message, path in zip(said, paths[:0:-1], strict=True):
        tells(str(message.message), f"{path} is damaged", f"; {path.name} is passed over")
    paths[0].write_bytes(b"")
    with pytest.warns(UserWarning) as said:
        assert latest(tmp_path) is None
    assert len(said) == 3


def test_a_good_checkpoint_is_not_deleted_for_a_damaged_one(tmp_path):
    with CheckpointDirectory(tmp_path) as run:
        good, bad = run.save(1, *contents(1)), run.save(2, *contents(2))
        bad.write_bytes(b"")
        new = run.save(3, *contents(3))
        assert good.exists()
        new.write_bytes(b"")
        with pytest.warns(UserWarning):
            assert run.latest() == good
        run.save(3, *contents(3))  # trained again, and saved over the damaged one
        run.save(4, *contents(4))
        assert step_of(run.latest()) == 4
    assert saved_in(tmp_path) == [name_of(3), name_of(4)]


def test_leftovers_are_swept(tmp_path):
    with CheckpointDirectory(tmp_path) as run:
        run.save(1, *contents(1))
    write(tmp_path / f".staging-{name_of(2)}-0badcafe", 2)
    (tmp_path / f".staging-.staging-{name_of(2)}-0badcafe-0badcafe").touch()
    (tmp_path / ".staging-directory").mkdir()
    (tmp_path / ".staging-directory" / "file").touch()
    with CheckpointDirectory(tmp_path):
        assert saved_in(tmp_path) == [name_of(1)]


def test_files_of_strangers_are_left_alone(tmp_path):
    """Catches the deletion of old checkpoints that takes what only looks like one."""
    with CheckpointDirectory(tmp_path) as run:
        (tmp_path / "notes.txt").write_text("mine")
        (tmp_path / ".notes").write_text("mine")
        (tmp_path / f"{name_of(1)}.bak").write_text("mine")
        (tmp_path / f"my-{name_of(1)}").write_text("mine")
        (tmp_path / "step-one.safetensors").write_text("mine")
        (tmp_path / "step-1.json").write_text("mine")
        (tmp_path / name_of(1)).mkdir()  # no checkpoint is a directory
        (tmp_path / name_of(1) / "thesis.txt").write_text("years of work")
        theirs = {k: v for k, v in snapshot(tmp_path).items() if k not in ("lock", "owner")}
        for step in (2, 3, 4, 5):
            run.save(step, *contents(step))
    with CheckpointDirectory(tmp_path) as run:
        assert step_of(run.latest()) == 5
    assert saved_in(tmp_path) == sorted(
        [name_of(4), name_of(5), *{name.split("/")[0] for name in theirs}]
    )
    after = snapshot(tmp_path)
    assert {name: after[name] for name in theirs} == theirs


# --- Other formats --------------------------------------------------------------------------------

FROZEN = (  # a file of format 2, byte by byte and not made by `save`: what old disks hold
    b"\x20\x01\x00\x00\x00\x00\x00\x00"
    rb'{"__metadata__":{"minidalle":"{\"format\": 2, '
    rb"\"sha256\": \"2d0469e8cf566e742351ad99a7dc7e389f20cd68187590859d8936195e980276\", "
    rb'\"groups\": [\"model\", \"empty\"], \"metadata\": {\"step\": 7, \"name\": \"\\u732b\"}}"},'
    rb'"model.net.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  '
    b"\x00\x00\x00\x3f\x00\x00\x00\xc0"
)


def test_format_2_loads_for_ever(tmp_path):
    file = tmp_path / name_of(7)
    file.write_bytes(FROZEN)
    tensors, metadata = load(file)
    assert tensors.keys() == {"model", "empty"} and tensors["empty"] == {}
    assert torch.equal(tensors["model"]["net.weight"], torch.tensor([0.5, -2.0]))
    assert metadata == {"step": 7, "name": "猫"}
    assert latest(tmp_path) == file


@pytest.mark.parametrize("number", [0, 1, 3])
def test_another_format_says_what_to_do(tmp_path, number):
    good, bad = two(tmp_path)
    bad.write_bytes(signed({"format": number}))
    passed_over(
        good, bad, f"is of format {number}, and this minidalle reads format 2",
        "use the release that wrote it, or train again",
    )  # fmt: skip


def test_a_directory_of_an_older_release_says_what_to_do(tmp_path):
    """Catches a training that starts again from step 0 in place of one that was nearly done."""
    for step in (1, 2):
        write_directory(tmp_path / f"step-{step:08d}", directory_contents(step))
    before = snapshot(tmp_path)
    with CheckpointDirectory(tmp_path) as run:
        for newest in (run.latest, lambda: latest(tmp_path)):
            with pytest.raises(MinidalleError) as caught:
                newest()
            tells(caught, f"{tmp_path} was trained by an older minidalle: finish it with that")
            tells(caught, "or choose another --out")
    after = {k: v for k, v in snapshot(tmp_path).items() if k not in ("lock", "owner")}
    assert after == before


def test_a_copy_is_as_good(tmp_path):
    """Catches a checkpoint that loads only where it was saved, or only under its own name."""
    copied = tmp_path / "backup of monday"
    copied.write_bytes(write(tmp_path / name_of(1), 1).read_bytes())
    assert step_of(copied) == 1
