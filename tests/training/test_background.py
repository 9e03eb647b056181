"""Two stages at once: real processes, real signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from minidalle.cli.main import main
from minidalle.cli.progress import GracefulInterrupt
from minidalle.training.background import BackgroundProcess
from minidalle.training.checkpoint import CheckpointDirectory


def seven(file: Path) -> int:
    file.write_text(str(torch.get_num_threads()))
    return 7


def work_until_told(file: Path) -> int:
    with GracefulInterrupt() as stop:
        while not stop.signal:
            file.write_text(str(os.getpid()))
            time.sleep(0.05)
    file.with_suffix(".saved").touch()
    return 128 + stop.signal


def until(condition, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


def test_it_works_with_half_of_the_threads_and_tells_its_status(tmp_path):
    """Catches two processes that fight for the same cores, and a failure nobody hears of."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with BackgroundProcess(seven, tmp_path / "threads") as other:
            assert torch.get_num_threads() == 1
            assert other.wait() == 7
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert (tmp_path / "threads").read_text() == "1"


def test_leaving_early_lets_it_save(tmp_path):
    """Catches an error of the prior's that costs all of CLIP's training, and a process left."""
    with (
        pytest.raises(ZeroDivisionError),
        BackgroundProcess(work_until_told, tmp_path / "work") as other,
    ):
        assert until((tmp_path / "work").exists)
        raise ZeroDivisionError
    assert (tmp_path / "work.saved").exists() and other.process.exitcode == 128 + signal.SIGTERM


def test_it_ends_when_its_parent_is_killed(tmp_path):
    """Catches a training that goes on alone, and holds its directory, after kill -9."""
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from minidalle.training.background import BackgroundProcess\n"
        "from tests.training.test_background import work_until_told\n"
        "if __name__ == '__main__':\n"
        "    with BackgroundProcess(work_until_told, Path(sys.argv[1])):\n        time.sleep(600)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, script, tmp_path / "work"], env=env) as parent:
        assert until((tmp_path / "work").exists)
        parent.kill()
    assert until((tmp_path / "work.saved").exists)


def test_ctrl_c_while_it_is_being_made_is_no_traceback(tmp_path):
    """Catches Python's own answer to Ctrl-C, in a process that is still importing torch."""
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from minidalle.training.background import BackgroundProcess\n"
        "from minidalle.cli.progress import GracefulInterrupt\n"
        "from tests.training.test_background import work_until_told\n"
        "if __name__ == '__main__':\n"
        "    work = BackgroundProcess(work_until_told, Path(sys.argv[1]))\n"
        "    with GracefulInterrupt() as stop, work:\n"
        "        print('made', flush=True)\n"
        "        while not stop.signal:\n            time.sleep(0.01)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, script, tmp_path / "work"], env=env, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as parent:  # fmt: skip
        assert parent.stdout.readline() == "made\n"
        time.sleep(0.3)
        assert not (tmp_path / "work").exists()  # it is not at work yet
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to both
        _, told = parent.communicate(timeout=60)
    assert parent.returncode == 0 and told == "", told


def test_both_stages_train_and_one_that_fails_is_told(tmp_path, capfd):
    """Catches a bundle made without its CLIP: here somebody else holds CLIP's directory."""
    arguments = ["train", "all", "--preset", "smoke", "--out", str(tmp_path), "--device", "cpu"]
    with CheckpointDirectory(tmp_path / "clip"), pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert f"is being written by process {os.getpid()}" in capfd.readouterr().err
    assert list((tmp_path / "prior").glob("step-*")) and not (tmp_path / "bundle").exists()
    assert main([*arguments, "--resume"]) == 0
    assert (tmp_path / "bundle" / "clip.safetensors").exists()
