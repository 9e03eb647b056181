"""Runs that unpack one archive one after the other, or at once: processes that are killed, three at
once, archives of one name, archives that change."""

import multiprocessing
import os
import random
import shutil
import signal
import time
import warnings
import zipfile

import pytest
from PIL import Image

from minidalle.cli.main import main
from minidalle.datasets.archives import unpack
from minidalle.errors import MinidalleError
from tests.datasets.test_archives import first_process, in_out

SPAWN = multiprocessing.get_context("spawn")


def pack(archive, colour="red", n=12):
    """An archive of n pictures with captions."""
    archive.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(archive, "w") as file:
        for i, name in enumerate("abcdefghijkl"[:n]):
            noise = random.Random(f"{colour} {i}").randbytes((60 + i) * 60 * 3)
            with file.open(f"{name}.png", "w") as picture:
                Image.frombytes("RGB", (60 + i, 60), noise).save(picture, "PNG")
            file.writestr(f"{name}.txt", f"{colour} wall {i}")
    return archive


@pytest.fixture
def archive(tmp_path):
    return pack(tmp_path / "mine.zip")


def assert_whole(folder, colour="red", n=12):
    """All files of the archive, and each with its own bytes."""
    assert len(list(folder.iterdir())) == 2 * n
    for i, name in enumerate("abcdefghijkl"[:n]):
        assert (folder / f"{name}.txt").read_text() == f"{colour} wall {i}"
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.size == (60 + i, 60)


def test_killed_half_way_and_unpacked_again(archive, tmp_path):
    """Catches two pictures of twelve taken for all, and the dead one's files left for ever."""
    for _ in range(2):
        with first_process(archive, tmp_path / "out", 60) as process:
            process.kill()
        assert process.exitcode == -signal.SIGKILL
        (left,) = in_out(tmp_path)
        assert left.startswith(".mine-") and len(os.listdir(tmp_path / "out" / left)) < 24
    folder = unpack(archive, tmp_path / "out")
    assert_whole(folder)
    assert in_out(tmp_path) == [folder.name]


def test_three_at_once(archive, tmp_path):
    """Catches a third that gets in between, when the first lets the second go on."""
    out = tmp_path / "out"
    with first_process(archive, out, 3.0) as first:
        others = [SPAWN.Process(target=unpack, args=(archive, out)) for _ in range(2)]
        for process in others:
            process.start()
        while not list(out.glob("mine-*")):
            assert first.is_alive()
            time.sleep(0.005)
        (folder,) = out.glob("mine-*")
        assert_whole(folder)  # in the moment in which it appears
        made = folder.stat().st_ino
    for process in others:
        process.join(60)
    assert [process.exitcode for process in (first, *others)] == [0, 0, 0]
    assert in_out(tmp_path) == [folder.name] and folder.stat().st_ino == made
    assert_whole(folder)


def test_two_archives_of_one_name_at_once(archive, tmp_path):
    """Catches the pictures of one under the captions of the other, and a wait for nothing."""
    another = pack(tmp_path / "elsewhere" / "mine.zip", "blue")
    with first_process(archive, tmp_path / "out", 2.0), warnings.catch_warnings():
        warnings.simplefilter("error")
        blue = unpack(another, tmp_path / "out")
        assert_whole(blue, "blue")
        assert len(in_out(tmp_path)) == 2  # the first is still at work, and was not swept
    red = unpack(archive, tmp_path / "out")
    assert red != blue and in_out(tmp_path) == sorted([red.name, blue.name])
    assert_whole(red)
    assert_whole(blue, "blue")


@pytest.mark.parametrize("kept", [0, 23])
def test_a_folder_that_has_lost_files(archive, tmp_path, kept, capsys):
    """A run copied half way to another machine: catches a training on what has arrived."""
    out = tmp_path / "run"
    folder = unpack(archive, out / "pictures")
    for file in sorted(folder.iterdir())[kept:]:
        file.unlink()
    command = ["train", "dvae", "--preset", "smoke", "--device", "cpu", "--out", str(out)]
    assert main([*command, "--data", str(archive)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith(f"minidalle: {archive}: {folder}, where it")
    assert f"has {kept} of its 24 files; move that folder away, or name it with --data" in said
    assert len(list(folder.iterdir())) == kept and not (out / "run.json").exists()
    if kept:
        assert main([*command, "--data", str(folder)]) == 0
    shutil.move(folder, tmp_path / "away")
    assert_whole(unpack(archive, out / "pictures"))


def test_files_that_were_added_to_the_folder(archive, tmp_path):
    """Catches a refusal for what a file manager leaves behind."""
    folder = unpack(archive, tmp_path / "out")
    (folder / ".DS_Store").write_text("a Mac was here")
    (folder / "a.txt").write_text("mended by hand")
    assert unpack(archive, tmp_path / "out") == folder
    assert (folder / "a.txt").read_text() == "mended by hand"


def test_the_archive_changes_between_two_runs(archive, tmp_path, capsys):
    """Catches a training that goes on with other pictures, since the name is the same."""
    out = tmp_path / "run"
    command = ["train", "dvae", "--preset", "smoke", "--device", "cpu", "--data", str(archive)]
    command += ["--out", str(out), "--resume"]
    assert main(command) == 0
    (before,) = (out / "pictures").glob("mine-*")
    sound = archive.read_bytes()
    for data, says in (
        (pack(archive, "blue").read_bytes(), f"{out} is trained on"),
        (pack(archive, "red", 11).read_bytes(), f"{out} is trained on"),
        (sound[: len(sound) // 2], f"{archive}: not a valid zip archive"),
    ):
        archive.write_bytes(data)
        assert main(command) == 2
        assert says in capsys.readouterr().err.strip().splitlines()[-1]
        assert_whole(before)
    archive.write_bytes(sound)
    assert main(command) == 0


@pytest.mark.parametrize("change", ["cut", "another"])
def test_the_archive_changes_while_it_is_unpacked(archive, tmp_path, monkeypatch, change):
    """A download that has not ended, or starts again: catches the first half of one and the second
    of another."""
    extract = zipfile.ZipFile.extract
    sound, another = archive.read_bytes(), pack(tmp_path / "x" / "mine.zip", "blue").read_bytes()

    def meddle(file, entry, into):
        if entry.filename == "c.png":
            archive.write_bytes(sound[:200] if change == "cut" else another)
        return extract(file, entry, into)

    monkeypatch.setattr(zipfile.ZipFile, "extract", meddle)
    with pytest.raises(MinidalleError, match=r"not a valid zip archive .*nothing was unpacked"):
        unpack(archive, tmp_path / "out")
    assert in_out(tmp_path) == []
