"""Shards as img2dataset writes them, and as an attacker would."""

import io
import os
import tarfile

import pytest
from PIL import Image

from minidalle.datasets import archives
from minidalle.datasets.image_folder import CaptionedImageFolder
from minidalle.datasets.shards import find_shards, unpack_shards
from minidalle.errors import MinidalleError


def picture(colour="red"):
    data = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(data, "JPEG")
    return data.getvalue()


def write_shard(path, *members):
    """A tar of (name, bytes) pairs and of TarInfos."""
    with tarfile.open(path, "w") as file:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                file.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            file.addfile(info, io.BytesIO(member[1]))
    return path


@pytest.fixture
def shards(tmp_path):
    """Two shards of two pairs, with the files that img2dataset puts beside them."""
    folder = tmp_path / "set"
    folder.mkdir()
    for s in range(2):
        members = []
        for i in range(2):
            key = f"{s:05d}{i:04d}"
            members += [(f"{key}.jpg", picture()), (f"{key}.txt", f"pair {s} {i}".encode()),
                        (f"{key}.json", b"{}")]  # fmt: skip
        write_shard(folder / f"{s:05d}.tar", *members)
        (folder / f"{s:05d}_stats.json").write_text("{}")
        (folder / f"{s:05d}.parquet").write_bytes(b"PAR1")
    return folder


def unpack(data, into):
    return unpack_shards(data, find_shards(data), into)


def assert_refused(data, tmp_path, *words):
    with pytest.raises(MinidalleError) as caught:
        unpack(data, tmp_path / "out")
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".jpg", ".txt")]


def test_the_pairs_of_all_shards(shards, tmp_path):
    folder = unpack(shards, tmp_path / "out")
    pairs = CaptionedImageFolder(folder, 8, strict=True)
    assert [pairs.caption(i) for i in range(4)] == ["pair 0 0", "pair 0 1", "pair 1 0", "pair 1 1"]
    assert pairs.name(3) == "00001/000010001.jpg"
    assert pairs.report() == "4 pictures with 4 captions; 0 files left out"
    one = CaptionedImageFolder(unpack(shards / "00001.tar", tmp_path / "out"), 8)
    assert [one.caption(i) for i in range(2)] == ["pair 1 0", "pair 1 1"]


def test_the_same_shards_are_unpacked_once_and_changed_ones_again(shards, tmp_path):
    folder = unpack(shards, tmp_path / "out")
    before = (folder / "00000" / "000000000.jpg").stat()
    assert unpack(shards, tmp_path / "out") == folder
    assert (folder / "00000" / "000000000.jpg").stat() == before
    write_shard(shards / "00001.tar", ("a.jpg", picture()), ("a.txt", b"new"))
    assert unpack(shards, tmp_path / "out") != folder
    (folder / "00000" / "000000000.jpg").unlink()
    os.utime(shards / "00001.tar", (1, 1))
    assert unpack(shards, tmp_path / "out") != folder


def test_a_folder_that_has_lost_files(shards, tmp_path):
    (unpack(shards, tmp_path / "out") / "00000" / "000000000.jpg").unlink()
    with pytest.raises(MinidalleError, match="has 7 of its 8 files; move that folder away"):
        unpack(shards, tmp_path / "out")


def test_what_is_no_folder_of_shards(shards, tmp_path):
    assert [path.name for path in find_shards(shards)] == ["00000.tar", "00001.tar"]
    (shards / "cat.png").write_bytes(b"")
    assert not find_shards(shards)
    assert not find_shards(tmp_path / "nothing") and not find_shards(tmp_path)


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/tmp/a.jpg", "C:a.jpg", "x/../../a.jpg", "..\\a.jpg"]
)
def test_a_name_that_leads_out(tmp_path, name):
    data = write_shard(tmp_path / "a.tar", ("b.jpg", picture()), (name, picture()))
    assert_refused(data, tmp_path, "points outside the folder", "a.tar", "nothing was unpacked")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_links_and_devices(tmp_path, kind):
    member = tarfile.TarInfo("a.jpg")
    member.type, member.linkname = kind, "/etc/passwd"
    data = write_shard(tmp_path / "a.tar", ("b.jpg", picture()), member)
    assert_refused(data, tmp_path, "'a.jpg' is a link or not a regular file")


def test_two_members_of_one_name(tmp_path):
    data = write_shard(tmp_path / "a.tar", ("b.jpg", picture()), ("b.jpg", picture("blue")))
    assert_refused(data, tmp_path, "'b.jpg' is there twice")
    data = write_shard(tmp_path / "b.tar", ("x.txt", b"a"), ("x.txt/b.jpg", picture()))
    assert_refused(data, tmp_path, "is there twice")


def test_too_much(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILES", 7)
    with pytest.raises(MinidalleError, match=r"set: 8 files, .* at most 7"):
        unpack(shards, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
def test_truncated(shards, tmp_path, share):
    """Catches half of a download that is taken for all of it; headers and contents alternate."""
    path = shards / "00001.tar"
    data = path.read_bytes().rstrip(b"\0")
    for cut in range(-1, 600, 100):
        path.write_bytes(data[: int(len(data) * share) + cut])
        assert_refused(shards, tmp_path, "00001.tar: not a valid tar archive", "leave it out")


def test_a_damaged_header_in_the_middle(shards, tmp_path):
    """tarfile alone takes it for the end of the archive."""
    path = shards / "00000.tar"
    data = bytearray(path.read_bytes())
    at = data.index(b"000000001.jpg")
    data[at] ^= 1
    path.write_bytes(data)
    assert_refused(shards, tmp_path, "00000.tar: not a valid tar archive", "damaged")


@pytest.mark.parametrize(
    "contents", [b"", b"PK\x03\x04", b"\x1f\x8b\x08" + bytes(600), bytes(1024)]
)
def test_what_is_no_tar(tmp_path, contents):
    (tmp_path / "a.tar").write_bytes(contents)
    if contents == bytes(1024):  # an empty archive is a valid one
        folder = unpack(tmp_path / "a.tar", tmp_path / "out")
        with pytest.raises(MinidalleError, match="no pictures"):
            CaptionedImageFolder(folder, 8)
    else:
        assert_refused(tmp_path / "a.tar", tmp_path, "not a valid tar archive")


def test_no_room(shards, tmp_path):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(MinidalleError, match=r"cannot be unpacked into .*no files were left"):
        unpack(shards, tmp_path / "out")
