"""`minidalle data` at the terminal: what it prints, and what it leaves alone."""

import json
import os
import tarfile
import zipfile
from types import SimpleNamespace

import pytest
from PIL import Image

from minidalle.cli import data
from minidalle.cli.main import main
from minidalle.datasets import emoji
from tests.cli.test_commands import last_line


@pytest.fixture(autouse=True)
def small_bundle(smoke_bundle, monkeypatch):
    """The bundle that ships takes seconds to load."""
    monkeypatch.setattr(data, "default_bundle", lambda: smoke_bundle)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with a folder `mine` of 8 pictures in it."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for i in range(8):
        Image.new("RGB", (60, 40), (20 * (i // 2), 40, 90)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"picture {i}", encoding="utf-8")
    (folder / "bad.png").write_bytes(b"\x89PNG")
    (folder / "bad.txt").write_text("a bad picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder):
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def pack(folder, archive):
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.iterdir()):
            file.write(path, path.name)


def check(capsys, *arguments):
    assert main(["data", "check", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_a_folder_is_counted_and_left_alone(place, capsys):
    before = contents(place / "mine")
    out = check(capsys, "mine")
    for line in ("pictures    8, 60 × 40", "more than a fifth of 8 pictures; at most 33%, of 0.png",
                 "captions    8, 1.0 per picture", "Latin letters 8", "2 to 2, median 2",
                 "duplicates  4 groups: 0.png = 1.png; 2.png = 3.png; 4.png = 5.png; …",
                 "mine/bad.png: not a picture", "sheet       mine.png"):  # fmt: skip
        assert line in out, out
    assert Image.open(place / "mine.png").width > 600
    assert contents(place / "mine") == before
    assert sorted(p.name for p in place.iterdir()) == ["mine", "mine.png"]


def test_json_holds_the_same(place, capsys):
    result = json.loads(check(capsys, "mine", "--json", "--crop", "pad", "--sheet", "a.jpg"))
    assert (result["pictures"], result["captions"], result["sheet"]) == (8, 8, "a.jpg")
    assert len(result["duplicates"]["exact"]) == 4 and len(result["problems"]) == 1
    assert Image.open(place / "a.jpg").format == "JPEG"


def test_the_sheet_is_the_same_each_time_and_replaces_only_its_like(place, capsys):
    """Catches a check that overwrites a picture of the user's which has the folder's name."""
    check(capsys, "mine")
    first = (place / "mine.png").read_bytes()
    check(capsys, "mine")
    assert (place / "mine.png").read_bytes() == first
    Image.new("RGB", (9, 9)).save(place / "mine.png")
    theirs = (place / "mine.png").read_bytes()
    assert main(["data", "check", "mine"]) == 0
    shown = capsys.readouterr()
    assert "no sheet is drawn: mine.png exists already" in shown.err
    assert "sheet       none" in shown.out and (place / "mine.png").read_bytes() == theirs


def test_the_sheet_is_never_among_the_pictures(place, capsys, monkeypatch):
    (place / "link").symlink_to(place / "mine")
    for file in ("mine/sheet.png", "link/sheet.png"):
        assert main(["data", "check", "mine", "--sheet", file]) == 2
        assert "would be among the pictures of mine; name a file" in last_line(capsys)
    monkeypatch.chdir(place / "mine")
    before = contents(place / "mine")
    assert main(["data", "check", "."]) == 0
    assert "no sheet is drawn" in capsys.readouterr().err
    assert contents(place / "mine") == before


def test_an_archive_is_read_like_its_folder_and_nothing_stays(place, capsys, monkeypatch):
    pack(place / "mine", place / "mine.zip")
    (place / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place / "tmp"))
    out = check(capsys, "mine.zip")
    assert "mine.zip/bad.png: not a picture" in out
    assert "pictures    8, 60 × 40" in out and "sheet       mine.png" in out
    assert not list((place / "tmp").iterdir())


def test_shards_are_read_like_their_folder(place, capsys):
    """Catches an option of the loader that shards do not get, and paths of the scratch folder."""
    (place / "set 1").mkdir()
    with tarfile.open(place / "set 1" / "00000.tar", "w") as file:
        for path in sorted((place / "mine").iterdir()):
            file.add(path, path.name)
    out = check(capsys, "set 1", "--crop", "pad")
    assert "set 1/00000/bad.png: not a picture" in out and "crop        none: each is padded" in out
    assert "pictures    8, 60 × 40" in out and "sheet       set 1.png" in out
    assert main(["data", "check", "set 1", "--strict"]) == 2
    assert "set 1/00000/bad.png: not a picture" in last_line(capsys)
    (place / "set 1" / "00001.tar").write_bytes(b"damaged")
    assert main(["data", "check", "set 1"]) == 2
    assert "set 1/00001.tar: not a valid tar archive" in last_line(capsys)


@pytest.mark.parametrize(
    "arguments, says",
    [(["nowhere"], "no such folder"), (["empty"], "no pictures"), (["loop"], "link to itself"),
     (["file.zip"], "not a valid zip archive"), (["x.parquet"], "Parquet is not read"),
     (["mine", "--strict"], "bad.png: not a picture"), (["my own.zip", "--strict"], "my own.zip/b"),
     (["mine", "--caption-column", "x"], "no table"),
     (["mine", "--sheet", "x"], "kind of picture"), (["mine", "--sheet", "no/x.png"], "no folder"),
     (["mine", "--sheet", "x.pdf/x.png"], "no folder")],
)  # fmt: skip
def test_what_cannot_be_checked_is_one_line(place, capsys, arguments, says):
    (place / "empty").mkdir()
    (place / "loop").symlink_to(place / "loop")
    (place / "file.zip").write_bytes(b"PK\x03\x04 no archive")
    (place / "x.parquet").write_bytes(b"PAR1")
    pack(place / "mine", place / "my own.zip")
    assert main(["data", "check", *arguments]) == 2
    message = capsys.readouterr()
    (line,) = [x for x in message.err.splitlines() if x.startswith("minidalle: ")]
    assert says in line and not message.out


def test_captions_and_names_cannot_write_to_the_terminal(place, capsys):
    """Catches escape sequences from a caption or a file name that are printed as they are."""
    for i in (0, 1):
        (place / "mine" / f"{i}.txt").write_text("\x1b[31mred\x1b]0;x\x07", encoding="utf-8")
    Image.new("RGB", (9, 9)).save(place / "mine" / "\x1b[2J.png")
    os.link(place / "mine" / "3.png", place / "mine" / "new\nline.png")
    for options in ([], ["--json"]):
        assert main(["data", "check", "mine", *options]) == 0
        shown = capsys.readouterr()
        assert "\x1b" not in shown.out + shown.err and "\x07" not in shown.out


def test_a_long_list_of_problems_is_cut(place, capsys):
    for i in range(100, 130):
        Image.new("RGB", (9, 9)).save(place / "mine" / f"{i}.png")
    out = check(capsys, "mine")
    assert out.count("no caption; write") < 21 and "more; --json lists all" in out
    assert len(json.loads(check(capsys, "mine", "--json"))["problems"]) == 32


def test_emoji(place, capsys, monkeypatch):
    """The drawings are stood in for; tests/datasets/test_emoji.py has the real ones."""
    picture = (place / "mine" / "0.png").read_bytes()
    items = [emoji.Emoji(name, (name, "词"), None) for name in "ab"]
    monkeypatch.setattr(emoji, "load_packages", SimpleNamespace)
    monkeypatch.setattr(emoji, "list_emoji", lambda packages: items)
    monkeypatch.setattr(emoji, "_notices", lambda packages, size: {"LICENSE": b"CC"})
    monkeypatch.setattr(emoji, "_draw", lambda packages, item, size: picture)
    assert main(["data", "emoji", "faces"]) == 0
    shown = capsys.readouterr()
    assert "faces: 2 pictures with 4 captions" in shown.out and "picture 2 of 2" in shown.err
    assert "languages   Latin letters 2; Chinese 2" in check(capsys, "faces", "--strict")
    assert main(["data", "emoji", "faces"]) == 2
    assert "faces is not empty (LICENSE)" in last_line(capsys)
