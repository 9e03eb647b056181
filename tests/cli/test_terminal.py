"""Real processes at terminals that close, pipes that break, and signals at bad moments."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import pytest
import torch

from minidalle.cli.main import main
from minidalle.cli.progress import GracefulInterrupt, PlainProgress, train_with_progress
from minidalle.training import background, checkpoint
from minidalle.training.presets import preset
from minidalle.training.run import TrainingRun
from minidalle.world.storybook import Storybook

COMMAND = [sys.executable, "-m", "minidalle"]
LONG_TRAINING = ["train", "dvae", "--preset", "smoke", "--steps", "100000", "--device", "cpu"]


def start(*arguments, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*COMMAND, *arguments], text=True, env=environment, **options)


def wait_for_log(log, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not log.exists() or not log.stat().st_size:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)


def test_a_closed_terminal_saves(tmp_path):
    """SIGHUP: catches up to 499 steps that are lost with an ssh connection."""
    controller, terminal = pty.openpty()
    process = start(*LONG_TRAINING, "--out", str(tmp_path),
                    stdout=terminal, stderr=terminal, stdin=terminal)  # fmt: skip
    os.close(terminal)
    try:
        wait_for_log(tmp_path / "dvae.jsonl", process)
        os.close(controller)  # the terminal is gone: writing to it fails from now on
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) in (129, 2)
    finally:
        process.kill()
    saved = checkpoint.latest(tmp_path / "dvae")
    assert saved is not None and checkpoint.step_of(saved) >= 20


def test_sigusr1_saves_and_continues(tmp_path):
    process = start(*LONG_TRAINING, "--out", str(tmp_path),
                    stderr=subprocess.PIPE)  # fmt: skip
    try:
        wait_for_log(tmp_path / "dvae.jsonl", process)
        process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 60
        while not checkpoint.steps(tmp_path / "dvae"):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, message = process.communicate(timeout=60)
        assert process.returncode == 143 and "continue with --resume" in message
        assert "\r" not in message and message.count("\n") < 10  # plain lines off a terminal
    finally:
        process.kill()


@pytest.mark.parametrize("delay", [0.1, 0.6, 1.5, 2.5])
def test_ctrl_c_at_the_start_is_no_traceback(smoke_bundle, tmp_path, delay):
    """Catches Python's own traceback while torch is imported."""
    out = str(tmp_path / "x.png")
    process = start("generate", "a cat", "--bundle", str(smoke_bundle), "--out", out,
                    "--candidates", "64", stderr=subprocess.PIPE)  # fmt: skip
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT, 0), message
    assert "Traceback" not in message


def test_a_broken_pipe_and_closed_streams_are_no_traceback(smoke_bundle, tmp_path):
    common = f"generate 'a cat' --candidates 1 --bundle {smoke_bundle} --out {tmp_path}/x.png"
    run = f"{sys.executable} -m minidalle {common}"
    for script, status in (
        (f"{run} | true; exit ${{PIPESTATUS[0]}}", (0, 141)),
        (f"{run} 2>&-", (0,)),
        (f"{run} >&-", (0,)),
        (f"PYTHONIOENCODING=ascii {run.replace('a cat', '一只猫')} --json", (0,)),
        (f"PYTHONIOENCODING=cp1252 {run.replace('a cat', '猫 zeppelin')}", (0,)),
    ):
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
        assert done.returncode in status, (script, done.stderr)
        assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_escape_sequences_of_names_are_shown_as_text(capsys, tmp_path):
    name = str(tmp_path / "\x1b[31mred\x1b[0m\u202e")
    assert main(["generate", "a cat", "--bundle", name]) == 2
    message = capsys.readouterr().err
    assert "\x1b" not in message and "\u202e" not in message and r"\x1b[31m" in message


@pytest.mark.parametrize("arguments", [["--out=~nobody12/x.png"], ["--bundle=~nobody12/b"]])
def test_a_home_directory_that_does_not_exist(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["generate", "a cat", *arguments])
    assert ended.value.code == 2 and "no such home directory" in capsys.readouterr().err


def test_a_tilde_is_expanded(monkeypatch, smoke_bundle, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    command = ["generate", "a cat", "--candidates", "1", "--bundle", str(smoke_bundle)]
    assert main([*command, "--out=~/cat.png"]) == 0
    assert (tmp_path / "cat.png").exists()


def test_a_background_process_that_dies_at_birth_ends_in_one_line(tmp_path, monkeypatch, capfd):
    """Catches a parent that waits for ever, deaf to signals: its child dies before it has read."""
    from minidalle.cli import train

    monkeypatch.setattr(train, "train_clip", die)
    command = ["train", "all", "--preset", "smoke", "--out", str(tmp_path), "--device", "cpu"]
    assert main(command) == 2
    message = capfd.readouterr().err
    assert "background process was killed (signal 9); continue with --resume" in message
    monkeypatch.undo()
    assert main([*command, "--resume"]) == 0


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_background_process_that_ends_early_is_reported_at_once(tmp_path, capsys):
    """Catches hours of the prior's training before anybody hears of it."""

    class Failed:
        def has_failed(self):
            return True

    run = TrainingRun(preset("smoke"), Storybook(), tmp_path, torch.device("cpu"))
    with GracefulInterrupt() as interrupt:
        assert train_with_progress(run, "dvae", False, interrupt, background=Failed()) == 0
    message = capsys.readouterr().err
    assert message.count("the background process has ended early; dvae continues") == 1


def test_without_shared_locks_clip_is_trained_after_the_prior(tmp_path, monkeypatch, capfd):
    """Containers without /dev/shm: catches a training that does not begin at all."""

    def missing(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(background.multiprocessing, "get_context", missing)
    command = ["train", "all", "--preset", "smoke", "--out", str(tmp_path), "--device", "cpu"]
    assert main(command) == 0
    assert "CLIP is trained after the prior" in capfd.readouterr().err
    assert (tmp_path / "bundle" / "clip.safetensors").exists()


@pytest.mark.parametrize("error", [OSError(38, "x"), OSError(95, "x"), OSError(37, "x"),
                                   NotImplementedError("flock")], ids=str)  # fmt: skip
def test_a_file_system_without_locks_or_fsync(tmp_path, monkeypatch, error):
    """Network drives: catches a training that does not begin at all."""
    from filelock import FileLock

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with (
        pytest.warns(UserWarning, match="file system without locks"),
        checkpoint.CheckpointDirectory(tmp_path) as directory,
    ):
        directory.save(1, {}, {"step": 1})
    assert checkpoint.latest(tmp_path).name == "step-00000001.safetensors"


def test_a_training_that_cannot_end_in_its_bundle_is_refused_at_once(tmp_path, capsys):
    """Catches a stranger's folder that is only noticed after hours, or deleted."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "thesis.txt").write_text("precious")
    assert main(["train", "all", "--preset", "smoke", "--out", str(tmp_path)]) == 2
    assert "thesis.txt" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    assert (tmp_path / "bundle" / "thesis.txt").read_text() == "precious"


def test_options_that_do_not_go_together(tmp_path, capsys):
    command = ["train", "dvae", "--preset", "smoke", "--out", str(tmp_path)]
    for more, says in (
        (["--epochs", "2"], "--epochs needs --data"),
        (["--steps", "0"], "steps must be from 1"),
        (["--text-length", "0"], "text_length must be from 1"),
        (["--init", str(tmp_path / "none")], "no such directory"),
        (["--init", "x", "--text-length", "8"], "--init brings its own text length: leave"),
    ):
        assert main([*command, *more]) == 2
        assert says in capsys.readouterr().err


def test_plain_lines_off_a_terminal(capsys):
    assert list(PlainProgress(range(3), total=3, desc="reading ", unit="picture")) == [0, 1, 2]
    assert capsys.readouterr().err == "reading: picture 3 of 3\n"


def test_several_captions_and_separate_pictures(smoke_bundle, tmp_path):
    command = [
        "generate",
        "a red car",
        "一只猫",
        "--bundle",
        str(smoke_bundle),
        "--candidates",
        "2",
    ]
    assert main([*command, "--out", str(tmp_path / "many")]) == 0
    names = {p.relative_to(tmp_path / "many").as_posix() for p in tmp_path.rglob("*.png")}
    assert {"01/strip.png", "02/strip.png"} <= names and len(names) == 6


@pytest.mark.parametrize(
    "command",
    [
        "generate cat --bundle LINK", "generate cat --bundle LINK/below", "evaluate --bundle LINK",
        "generate cat --out LINK", "generate cat --out LINK/x.png", "generate cat dog --out LINK",
        "evaluate --json LINK", "evaluate --json LINK/x.json", "train all --out LINK",
        "train dvae --out LINK/below", "train dvae --init LINK", "train dvae --data LINK",
    ],
)  # fmt: skip
@pytest.mark.parametrize("link", ["loop", "a"])
def test_a_link_to_itself_in_an_option(command, link, tmp_path, capsys, monkeypatch):
    """Catches a traceback of pathlib's, and hours of work that cannot be saved."""
    monkeypatch.chdir(tmp_path)
    for name, target in {"loop": "loop", "a": "b", "b": "a"}.items():
        (tmp_path / name).symlink_to(target)
    assert main(command.replace("LINK", link).split()) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert f"minidalle: {link}" in told.err and "leads to a link to itself: remove" in told.err
    assert {path.name for path in tmp_path.iterdir()} == {"loop", "a", "b"}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dvae", "cannot write"), ("bundle", "leads to a link to itself"),
        ("pictures", "cannot be unpacked into"),
    ],
)  # fmt: skip
def test_a_link_to_itself_in_a_run(name, says, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / name).symlink_to(name)
    command = ["train", "dvae", "--preset", "smoke", "--out", str(run), "--device", "cpu"]
    if name == "pictures":
        with zipfile.ZipFile(tmp_path / "mine.zip", "w") as file:
            file.writestr("a.txt", "a red wall")
        command += ["--data", str(tmp_path / "mine.zip")]
    assert main(command) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("minidalle: ") and says in told and str(run / name) in told


@pytest.mark.parametrize("name", ["clip.safetensors", "info.json", "manifest.json"])
def test_a_bundle_with_a_file_that_is_missing(name, smoke_bundle, tmp_path, capsys):
    """Catches a message that blames a file which is in order."""
    bundle = tmp_path / "bundle"
    shutil.copytree(smoke_bundle, bundle)
    (bundle / name).unlink()
    for command in (["generate", "a cat", "--bundle", str(bundle)],
                    ["evaluate", "--bundle", str(bundle)],
                    ["train", "dvae", "--preset", "smoke", "--init", str(bundle)]):  # fmt: skip
        assert main(command) == 2
        assert f"minidalle: cannot read {bundle / name}: No such file" in capsys.readouterr().err
    command = ["train", "all", "--preset", "smoke", "--out", str(tmp_path)]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert f"cannot save {bundle}: something else than a bundle is there" in told
    assert f"({name} is missing)" in told or name == "manifest.json"
