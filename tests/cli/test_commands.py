"""The command line as a user meets it: exit codes, one line for each mistake, signals."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest
from PIL import Image

from minidalle.cli.main import main
from minidalle.training import checkpoint

COMMAND = [sys.executable, "-m", "minidalle"]


def last_line(capsys) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_generate_writes_a_strip(smoke_bundle, tmp_path, capsys):
    out = tmp_path / "p.png"
    arguments = ["--bundle", str(smoke_bundle), "--candidates", "4", "--keep", "2"]
    assert main(["generate", "a red cat", *arguments, "--out", str(out)]) == 0
    assert "best 2 of 4" in capsys.readouterr().out
    with Image.open(out) as sheet:
        assert sheet.width >= 2 * 192


def test_generate_prints_json(smoke_bundle, tmp_path, capsys):
    out = tmp_path / "p.png"
    arguments = ["--bundle", str(smoke_bundle), "--candidates", "3", "--keep", "2", "--json"]
    assert main(["generate", "一只红色的猫", *arguments, "--out", str(out)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["caption"] == "一只红色的猫" and len(result["scores"]) == 2
    assert result["out"] == str(out) and out.exists()


@pytest.mark.parametrize("screen", ["", ":0"])
def test_show_opens_a_viewer_where_there_is_a_screen(
    smoke_bundle, tmp_path, capsys, monkeypatch, screen
):
    """Catches a viewer that is looked for in a container, and complains line after line."""
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda image, **_: shown.append(image))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", screen)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    arguments = ["--bundle", str(smoke_bundle), "--candidates", "2", "--keep", "2", "--show"]
    assert main(["generate", "a cat", *arguments, "--out", str(tmp_path / "p.png")]) == 0
    told = f"open {tmp_path / 'p.png'}" in capsys.readouterr().err
    assert (len(shown), told) == ((1, False) if screen else (0, True))


def test_training_on_a_zip_of_ones_own_pictures(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as file:
        for colour in ("red", "green", "blue", "white", "black"):
            with file.open(f"{colour}.png", "w") as picture:
                Image.new("RGB", (40, 30), colour).save(picture, "PNG")
            file.writestr(f"{colour}.txt", f"a {colour} wall")
    arguments = ["--preset", "smoke", "--data", str(tmp_path / "mine.zip"), "--device", "cpu"]
    out = ["--out", str(tmp_path / "run")]
    assert main(["train", "dvae", *arguments, *out]) == 0
    assert "5 pictures" in capsys.readouterr().err
    assert list((tmp_path / "run" / "dvae").glob("step-*"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", ""], "a caption is needed"),
        (["generate", "a cat", "--keep", "9", "--candidates", "3"], "keep must be from 1 to the"),
        (
            ["generate", "a cat", "--temperature", "-1"],
            "temperature must be from 0 to 100, got -1.0",
        ),
        (["generate", "a cat", "--top-p", "2"], "top_p must be from 0.001 to 1"),
        (["generate", "a cat", "--device", "cuda:9"], "On the CPU: --device cpu"),
        (["train", "dvae", "--preset", "huge"], "no preset 'huge'; choose one of: smoke"),
        (["train", "dvae", "--data", "nowhere"], "nowhere"),
        (["train", "dvae", "--data", __file__], "not a valid zip archive"),
        (["generate", "a cat", "--candidates", "0"], "candidates must be at least 1, got 0"),
        (["generate", "\u200b"], "a caption is needed"),
        (["generate", "a cat", "--bundle", "/"], "cannot read /manifest.json"),
        (["train", "dvae", "--preset", "smoke", "--accumulate", "3"], "does not divide among"),
        (["train", "clip", "--preset", "smoke", "--accumulate", "2"], "leave --accumulate out"),
        (["train", "all", "--preset", "smoke", "--batch-size", "1"], "--batch-size of 2 or more"),
        (["train", "all", "--preset", "smoke", "--lr", "0.1"], "for one stage, dvae, prior, clip"),
        (["train", "prior", "--preset", "smoke", "--lr", "-1"], "lr must be above 0, got -1.0"),
    ],
)
def test_mistakes_are_one_line_and_status_2(smoke_bundle, arguments, says, capsys, tmp_path):
    if arguments[0] == "generate" and "--bundle" not in arguments:
        arguments = [*arguments, "--bundle", str(smoke_bundle)]
    arguments = [*arguments, "--out", str(tmp_path / "out.png")]
    assert main(arguments) == 2
    assert last_line(capsys).startswith("minidalle: ") and not (tmp_path / "out.png").exists()
    # Said again, since the line above has read it: the message itself.
    assert main(arguments) == 2
    assert says in capsys.readouterr().err


def test_a_damaged_bundle_is_named(smoke_bundle, tmp_path, capsys):
    """Hashes are checked before anything is opened."""
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in smoke_bundle.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    data = bytearray((broken / "prior.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (broken / "prior.safetensors").write_bytes(data)
    assert main(["generate", "a cat", "--bundle", str(broken)]) == 2
    assert "prior.safetensors" in last_line(capsys)


def test_what_cannot_be_written_is_told_before_the_work(smoke_bundle, tmp_path, capsys):
    """Catches a report lost after an hour's drawing, and a traceback of a wrong --out."""
    (tmp_path / "file").write_text("in the way")
    bundle, nowhere = ["--bundle", str(smoke_bundle)], str(tmp_path / "no" / "x")
    for arguments, says in (
        (["evaluate", *bundle, "--json", nowhere], "there is no folder"),
        (["evaluate", *bundle, "--json", str(tmp_path)], "it is a folder"),
        (["generate", "a cat", *bundle, "--out", f"{nowhere}.png"], "there is no folder"),
        (["generate", "a cat", *bundle, "--out", str(tmp_path / "c.x")], "for instance c.png"),
        (["train", "all", "--preset", "smoke", "--out", str(tmp_path / "file")], "another --out"),
    ):
        assert main(arguments) == 2
        told = capsys.readouterr()
        assert says in told.err and "%" not in told.err and told.out == ""


@pytest.mark.parametrize("stage", ["tokenizer", "all"])
def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_room(tmp_path, stage):
    """A real limit on what may be written: catches a traceback of the small files, which are no
    checkpoints, and half a file that spoils the directory for good."""
    command = [*COMMAND, "train", stage, "--preset", "smoke", "--out", str(tmp_path / "run")]
    for limit, cause in ((0, "cannot save"), (1, "cannot save")):  # nothing at all, and 1 kB
        full = f"ulimit -f {limit}; exec " + " ".join(command)
        done = subprocess.run(["bash", "-c", full], capture_output=True, text=True, timeout=180)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        told = done.stderr.strip().splitlines()[-1]
        assert told.startswith(f"minidalle: {cause}") and "make room" in told, told
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr


def test_too_many_candidates_for_the_memory_is_one_line(smoke_bundle, tmp_path):
    """A real limit on memory: catches the allocator's own traceback."""
    command = [*COMMAND, "generate", "a_cat", "--bundle", str(smoke_bundle), "--candidates"]
    command += ["3000000", "--out", str(tmp_path / "x.png")]
    limited = "ulimit -v 8000000; exec " + " ".join(command)
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=180)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "minidalle: out of memory: " in done.stderr and "fewer --candidates" in done.stderr


def test_another_rate_for_one_stage(tmp_path):
    """Catches a remedy for a loss that is not finite which nobody can follow."""
    arguments = ["train", "dvae", "--preset", "smoke", "--out", str(tmp_path), "--lr", "0.0005"]
    assert main(arguments) == 0
    (step,) = (tmp_path / "dvae").glob("step-*")
    assert checkpoint.load(step)[1]["train_config"]["lr"] == 0.0005


def test_a_directory_that_is_no_bundle_says_what_is(smoke_bundle, tmp_path, capsys):
    """Catches a KeyError for one of the stages, and a bundle not found inside its own run."""
    (step,) = (smoke_bundle.parent / "prior").glob("step-*")
    assert main(["generate", "a cat", "--bundle", str(step)]) == 2
    assert "is a file, and not a bundle" in last_line(capsys)
    out = ["--candidates", "1", "--out", str(tmp_path / "x.png")]
    assert main(["generate", "a cat", "--bundle", str(smoke_bundle.parent), *out]) == 0


@pytest.mark.parametrize("numbers", [["--captions", "0"], ["--candidates", "1", "0"]])
def test_evaluating_nothing_is_refused(smoke_bundle, numbers, capsys):
    assert main(["evaluate", "--bundle", str(smoke_bundle), *numbers]) == 2
    assert "at least 1" in last_line(capsys)


def test_evaluate_writes_the_contract(smoke_bundle, tmp_path, capsys):
    file = tmp_path / "report.json"
    arguments = ["--bundle", str(smoke_bundle), "--captions", "6", "--candidates", "1", "3"]
    assert main(["evaluate", *arguments, "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert report == json.loads(capsys.readouterr().out)
    assert list(report) == [
        "split", "language", "captions", "seed", "candidates", "dvae", "diversity", "clip", "error",
    ]  # fmt: skip
    assert set(report["candidates"]) == {"1", "3"}
    assert set(report["candidates"]["1"]) == {"overall", "skills"}
    assert set(report["dvae"]) == {"psnr", "codes_used", "perplexity", "facts_kept"}
    assert set(report["error"]) == {"dvae", "prior", "rerank"}
    assert set(report["diversity"]) == {
        "candidates_of_the_worlds", "four_shown_differ", "precision", "recall",
    }  # fmt: skip
    lost = report["error"]["prior"] + report["error"]["rerank"]
    assert report["candidates"]["3"]["overall"] == pytest.approx(1 - lost, abs=1e-3)


def test_long_captions_of_a_folder_are_told_in_one_line(tmp_path, capsys):
    """Catches a note for each of a thousand captions, and thousands of epochs of them."""
    for i in range(8):
        Image.new("RGB", (24, 24), (10 * i, 40, 90)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"{i} " + "the quick brown fox jumps over " * 9)
    arguments = ["--preset", "smoke", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    assert main(["train", "all", *arguments]) == 0
    told = capsys.readouterr().err
    assert "captions are longer than 48 tokens" in told and told.count("cut") == 1


def test_a_batch_larger_than_the_data_is_refused_before_any_stage(tmp_path, capsys):
    """Catches CLIP's refusal after an hour's training of the others, and a remedy that is none."""
    for i in range(8):
        Image.new("RGB", (24, 24), (10 * i, 40, 90)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"a {('red', 'blue')[i % 2]} wall")
    arguments = ["train", "all", "--preset", "smoke", "--data", str(tmp_path)]
    run = ["--out", str(tmp_path / "run")]
    assert main([*arguments, *run]) == 2
    assert "clip needs 4 different captions" in last_line(capsys)
    assert not (tmp_path / "run").exists()
    assert main([*arguments, *run, "--batch-size", "2"]) == 0
    assert "bundle" in capsys.readouterr().out


def test_train_on_a_folder_makes_a_bundle(tmp_path, capsys):
    """The whole way on somebody's own pictures, with one that is broken."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for i in range(24):
        Image.new("RGB", (80 + i, 60), (10 * i, 40, 90)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"picture number {i}")
    (folder / "bad.png").write_bytes(b"not a picture")
    (folder / "bad.txt").write_text("a bad one")
    arguments = ["--preset", "smoke", "--data", str(folder), "--out", str(tmp_path / "run")]
    assert main(["train", "all", *arguments]) == 0
    said = capsys.readouterr()
    assert "bad.png" in said.err and "24 pictures" in said.err
    bundle = tmp_path / "run" / "bundle"
    assert str(bundle) in said.out
    out = ["--bundle", str(bundle), "--out", str(tmp_path / "x.png"), "--candidates", "2"]
    assert main(["generate", "picture number 3", *out, "--keep", "1"]) == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_step_saves_and_resumes(tmp_path, number, status):
    """A real process, a real signal, in the middle of training."""
    out = tmp_path / "run"
    env = {**os.environ, "MINIDALLE_PRESET": "smoke"}
    command = [*COMMAND, "train", "dvae", "--steps", "100000", "--out", str(out), "--device", "cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        deadline = time.monotonic() + 120
        said = ""
        while "total" not in said and time.monotonic() < deadline:
            said += process.stderr.read(40)
        process.send_signal(number)
        said += process.stderr.read()
        assert process.wait(60) == status
    assert "continue with --resume" in said
    assert list((out / "dvae").glob("step-*"))
    again = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    assert again.returncode == 2 and "--resume" in again.stderr


def test_help_says_what_there_is():
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("generate", "train", "evaluate"))
