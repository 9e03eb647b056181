"""A background process that is killed, stopped, orphaned, or cannot be made: real processes."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from multiprocessing import resource_tracker, util
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

from minidalle.cli.main import main
from minidalle.training import checkpoint
from tests.training.test_background import until

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, sys
from minidalle.cli.main import main
from minidalle.training import presets

prior, clip = int(os.environ["PRIOR"]), int(os.environ["CLIP"])
smoke = presets.SMOKE.with_training("prior", steps=prior).with_training("clip", steps=clip)
presets.PRESETS["smoke"] = smoke
if __name__ == "__main__":
    sys.exit(main(["train", "all", "--preset", "smoke", "--device", "cpu", "--out", sys.argv[1]]))
"""


def is_running(pid: int) -> bool:
    """Whether a process is there and has not ended: who ends without a parent may stay a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def training(tmp_path, *, prior=100_000, clip=100_000):
    """A real `train all` in which both stages are at work: (parent, process id of the child)."""
    (tmp_path / "script.py").write_text(SCRIPT)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PRIOR": str(prior), "CLIP": str(clip)}
    out = tmp_path / "run"
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", out], env=env, text=True, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        logs = out / "clip.jsonl", out / "prior.jsonl"
        assert until(lambda: all(log.exists() and log.stat().st_size for log in logs), 120)
        yield parent, int((out / "clip" / "owner").read_text())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()


def assert_saved(out, *stages):
    """Each stage was saved on the way, and nobody holds its directory."""
    for stage in stages:
        with checkpoint.CheckpointDirectory(out / stage) as directory:
            assert checkpoint.step_of(directory.latest()) >= 20


def test_it_is_killed_in_the_middle_of_its_stage(tmp_path):
    """Catches hours of the prior's training lost with it, and a bundle without its CLIP."""
    with training(tmp_path, prior=600) as (parent, child):
        os.kill(child, signal.SIGKILL)
        _, said = parent.communicate(timeout=120)
    assert parent.returncode == 2 and "Traceback" not in said
    assert said.count("the background process has ended early; prior continues") == 1
    last = said.strip().splitlines()[-1]
    assert last == ("minidalle: the background process was killed (signal 9); continue with"
                    " --resume")  # fmt: skip
    assert_saved(tmp_path / "run", "prior")
    assert not (tmp_path / "run" / "bundle").exists()


@pytest.mark.parametrize(("number", "prior"), [(signal.SIGINT, 100_000), (signal.SIGTERM, 20)])
def test_it_is_stopped_and_the_training_ended(tmp_path, number, prior):
    """Catches a parent that waits, deaf to signals, for a process that cannot hear it; it may train
    the prior, or have finished it."""
    with training(tmp_path, prior=prior) as (parent, child):
        os.kill(child, signal.SIGSTOP)
        if prior == 20:
            assert until((tmp_path / "run" / "prior" / "step-00000020.safetensors").exists)
            time.sleep(1)
        parent.send_signal(number)
        _, said = parent.communicate(timeout=60)
        assert parent.returncode == 128 + number and "Traceback" not in said, said
        assert "continue with --resume" in said
        assert not is_running(child)
    assert_saved(tmp_path / "run", "clip", "prior")


@pytest.mark.parametrize("is_stopped", [False, True])
def test_the_parent_is_killed_in_the_middle_of_both(tmp_path, is_stopped):
    """Catches a process that trains on alone, or holds its directory for ever."""
    with training(tmp_path) as (parent, child):
        if is_stopped:
            os.kill(child, signal.SIGSTOP)
        parent.kill()
        parent.wait()
        if is_stopped:
            os.kill(child, signal.SIGCONT)
        assert until(lambda: not is_running(child))
    assert_saved(tmp_path / "run", "clip")


def no_more_processes(*_):
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_it_cannot_be_made(tmp_path, monkeypatch, capfd):
    """No process is free, or no memory, once the dVAE is trained: catches a traceback, and Ctrl-C
    ignored for good."""
    resource_tracker.ensure_running()  # Python's own process for locks, which is made before
    before, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    monkeypatch.setattr(util, "spawnv_passfds", no_more_processes)
    command = ["train", "all", "--preset", "smoke", "--out", str(tmp_path), "--device", "cpu"]
    assert main(command) == 0
    said = capfd.readouterr().err
    assert "CLIP is trained after the prior" in said and "Traceback" not in said
    assert (tmp_path / "bundle" / "clip.safetensors").exists()
    assert signal.getsignal(signal.SIGINT) is before and torch.get_num_threads() == threads


def die_with_the_lock() -> int:
    tqdm.get_lock().acquire()
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def test_it_is_killed_while_it_writes_its_bar(tmp_path):
    """Catches a parent that waits for ever for the lock of a dead process."""
    code = (
        "from tqdm import tqdm\n"
        "from minidalle.training.background import BackgroundProcess\n"
        "from tests.training.test_background_ends import die_with_the_lock\n"
        "if __name__ == '__main__':\n"
        "    with BackgroundProcess(die_with_the_lock) as process:\n"
        "        assert process.wait() == -9\n"
        "        for _ in tqdm(range(1000), mininterval=0):\n            pass\n"
    )
    (tmp_path / "script.py").write_text(code)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], env=env, timeout=60, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "1000/1000" in done.stderr, done.stderr
