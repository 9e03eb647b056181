"""An archive is unpacked whole or refused whole, and says why."""

import random
import stat
import struct
import zipfile

import pytest
from PIL import Image

from minidalle.datasets import archives
from minidalle.datasets.archives import unpack
from minidalle.datasets.image_folder import CaptionedImageFolder
from minidalle.errors import MinidalleError


@pytest.fixture
def folder(tmp_path):
    """Four pictures with captions, one of them in a subfolder."""
    folder = tmp_path / "mine"
    (folder / "more").mkdir(parents=True)
    for i, name in enumerate(("a", "b", "c", "more/猫")):
        Image.new("RGB", (20, 20), (50 * i, 90, 200)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"caption {i}", encoding="utf-8")
    return folder


@pytest.fixture
def archive(folder, tmp_path):
    """The same folder as one file."""
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as file:
        for path in sorted(folder.rglob("*.*")):
            file.write(path, path.relative_to(folder))
    return tmp_path / "mine.zip"


def assert_refused(archive, tmp_path, match):
    """It is refused, on one line, and nothing of it is on the disk."""
    with pytest.raises(MinidalleError, match=match) as caught:
        unpack(archive, tmp_path / "out")
    assert str(archive) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "x").exists()


def test_a_sound_archive_is_the_folder_that_was_packed(folder, archive, tmp_path):
    one, other = (CaptionedImageFolder(f, 8) for f in (folder, unpack(archive, tmp_path / "out")))
    assert len(one) == 4
    assert [one.caption(i) for i in range(4)] == [other.caption(i) for i in range(4)]
    assert all((one.image(i) == other.image(i)).all() for i in range(4))


def test_it_is_unpacked_once_and_another_of_that_name_beside_it(folder, archive, tmp_path):
    first = unpack(archive, tmp_path / "out")
    (first / "a.txt").write_text("mended by hand")
    assert unpack(archive, tmp_path / "out") == first
    assert (first / "a.txt").read_text() == "mended by hand"
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("d.txt", "one more")
    assert unpack(archive, tmp_path / "out") != first


def test_what_a_kill_left_half_done_is_done_anew(archive, tmp_path):
    whole = unpack(archive, tmp_path / "out")
    names = sorted(p.name for p in whole.iterdir())
    whole.rename(whole.with_name(f".{whole.name}"))
    (whole.with_name(f".{whole.name}") / "a.png").unlink()
    assert sorted(p.name for p in unpack(archive, tmp_path / "out").iterdir()) == names
    assert [p.name for p in (tmp_path / "out").iterdir()] == [whole.name]


@pytest.mark.parametrize("name", ["../x", "more/../../x", "/tmp/x", "C:\\x", "more\\..\\..\\x"])
def test_a_name_that_leads_out(archive, tmp_path, name):
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, "not here")
    assert_refused(archive, tmp_path, r"points outside the folder; nothing was unpacked")


def test_a_link(archive, tmp_path):
    link = zipfile.ZipInfo("more/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(link, "/etc")
    assert_refused(archive, tmp_path, "'more/link' is a link")


def test_a_bomb_is_refused_before_it_is_unpacked(archive, tmp_path):
    """Forty million zeros are packed into forty kilobytes; its listing is changed to say more."""
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("huge.png", bytes(40_000_000))
    data = archive.read_bytes()
    assert len(data) < 100_000
    size = struct.pack("<I", 40_000_000)
    assert data.count(size) == 2  # next to the bytes, and in the listing
    archive.write_bytes(data.replace(size, struct.pack("<I", 4_000_000_000)))
    many = archive.with_name("many.zip")
    many.write_bytes(archive.read_bytes())
    unlimited, archives.MAX_BYTES = archives.MAX_BYTES, 3_000_000_000
    try:
        assert_refused(many, tmp_path, r"4.0 GB unpacked; at most 1000000 and 3 GB")
    finally:
        archives.MAX_BYTES = unlimited


def test_too_many_files(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILES", 7)
    assert_refused(archive, tmp_path, "8 files, 0.0 GB unpacked; at most 7")


def test_a_listing_that_promises_less_than_there_is(archive, tmp_path):
    """A bomb that lies about its size is no way round: no more is read than it promised."""
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("huge.png", bytes(40_000_000))
    size = struct.pack("<I", 40_000_000)
    archive.write_bytes(archive.read_bytes().replace(size, struct.pack("<I", 10)))
    assert_refused(archive, tmp_path, "not a valid zip archive")


@pytest.mark.parametrize("cut", [0, 8, -200, -1])
def test_truncated(archive, tmp_path, cut):
    archive.write_bytes(archive.read_bytes()[:cut])
    assert_refused(archive, tmp_path, "not a valid zip archive")


def test_one_byte_flipped(archive, tmp_path):
    data = bytearray(archive.read_bytes())
    data[60] ^= 0xFF
    archive.write_bytes(data)
    assert_refused(archive, tmp_path, "not a valid zip archive")


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_one_byte_flipped_in_what_is_packed(tmp_path, packing):
    """Every way of packing fails in a way of its own."""
    archive = tmp_path / "packed.zip"
    noise = random.Random(0).randbytes(3000)
    with zipfile.ZipFile(archive, "w", packing) as file:
        file.writestr("a.png", noise)
    sound = archive.read_bytes()
    for at in (60, 300, 2000):
        data = bytearray(sound)
        data[at] ^= 0xFF
        archive.write_bytes(data)
        assert_refused(archive, tmp_path, "not a valid zip archive")


def test_a_name_that_is_not_the_utf_8_it_claims_to_be(archive, tmp_path):
    data = archive.read_bytes()
    assert data.count("猫".encode()) > 1
    archive.write_bytes(data.replace("猫".encode(), b"\xff\xfe\xfd"))
    assert_refused(archive, tmp_path, "not a valid zip archive")


def test_a_file_and_a_folder_of_one_name(archive, tmp_path):
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("more/猫.png/x.png", "below a file")
    assert_refused(archive, tmp_path, "a file and a folder in it have the same name")


def test_encrypted(archive, tmp_path):
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    archive.write_bytes(data)
    assert_refused(archive, tmp_path, "'a.png' is encrypted")


def test_no_room(archive, tmp_path):
    (tmp_path / "out").write_text("a file is in the way")
    with pytest.raises(MinidalleError, match=r"cannot be unpacked into .*choose another --out"):
        unpack(archive, tmp_path / "out")
