"""An archive is unpacked whole or refused whole, and says why."""

import contextlib
import errno
import multiprocessing
import random
import shutil
import stat
import struct
import threading
import time
import unicodedata
import warnings
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock
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


def in_out(tmp_path):
    """The names in the folder to unpack into, the empty lock files left out."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(p.name for p in (tmp_path / "out").iterdir() if p.suffix != ".lock")
    return []


def assert_refused(archive, tmp_path, match):
    """It is refused, on one line, and nothing of it is on the disk."""
    with pytest.raises(MinidalleError, match=match) as caught:
        unpack(archive, tmp_path / "out")
    assert str(archive) in str(caught.value) and "\n" not in str(caught.value)
    assert in_out(tmp_path) == []
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
    for leftover in (f".{whole.name}", f".{whole.name}.{'0' * 16}"):
        (whole / "a.png").unlink(missing_ok=True)
        shutil.copytree(whole, whole.with_name(leftover))
    shutil.rmtree(whole)
    mine = whole.with_name(f".{whole.name}.mine")  # a user's own, though it looks similar
    mine.mkdir()
    assert sorted(p.name for p in unpack(archive, tmp_path / "out").iterdir()) == names
    assert in_out(tmp_path) == sorted([whole.name, mine.name])


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
    with pytest.raises(MinidalleError, match=r"cannot be unpacked into .*or unpack it yourself"):
        unpack(archive, tmp_path / "out")


# Several processes, one archive


def unpack_slowly(archive, into, pause):
    """In a process of its own: stops for `pause` seconds before the third file."""
    extract, count = zipfile.ZipFile.extract, 0

    def slow(*arguments):
        nonlocal count
        count += 1
        if count == 3:
            time.sleep(pause)
        return extract(*arguments)

    zipfile.ZipFile.extract = slow
    unpack(archive, into)


@contextlib.contextmanager
def first_process(archive, into, pause):
    """Another process that is in the middle of unpacking."""
    process = multiprocessing.get_context("spawn").Process(
        target=unpack_slowly, args=(archive, into, pause)
    )
    process.start()
    while not list(into.glob(".*/a.txt")):
        assert process.is_alive()
        time.sleep(0.01)
    yield process
    process.join()


def assert_whole(folder):
    assert len([p for p in folder.rglob("*") if p.is_file()]) == 8


def test_the_second_process_waits_for_the_first(archive, tmp_path, monkeypatch):
    """Catches half of an archive kept for ever as if it were whole."""
    monkeypatch.setattr(archives, "PATIENCE", 0.1)
    with (
        first_process(archive, tmp_path / "out", 1.0),
        pytest.warns(UserWarning, match=r"another process unpacks it into .*; waiting for it"),
    ):
        folder = unpack(archive, tmp_path / "out")
    assert_whole(folder)
    assert in_out(tmp_path) == [folder.name]


def test_the_first_process_is_killed_while_the_second_waits(archive, tmp_path, monkeypatch):
    """Catches a wait without end, and the dead one's half taken for the whole."""
    monkeypatch.setattr(archives, "PATIENCE", 0.1)
    with first_process(archive, tmp_path / "out", 60) as process:
        threading.Timer(0.4, process.kill).start()
        with pytest.warns(UserWarning, match="waiting for it"):
            folder = unpack(archive, tmp_path / "out")
    assert_whole(folder)
    assert in_out(tmp_path) == [folder.name]


@pytest.mark.parametrize("error", [NotImplementedError(), OSError(errno.ENOLCK, "No locks")])
def test_two_at_once_on_a_file_system_without_locks(archive, tmp_path, monkeypatch, error):
    """Both work, the slower uses what the faster made; nobody sweeps what another writes."""

    def refuse(*_, **__):
        raise error

    with first_process(archive, tmp_path / "out", 0.5) as process:
        with monkeypatch.context() as patch:
            patch.setattr(FileLock, "acquire", refuse)
            folder = unpack(archive, tmp_path / "out")
        assert_whole(folder)
        process.join()
        assert process.exitcode == 0
    assert in_out(tmp_path) == [folder.name]
    assert_whole(folder)


def test_files_that_vanish_while_they_are_unpacked(archive, tmp_path, monkeypatch):
    extract = zipfile.ZipFile.extract

    def meddle(file, entry, into):
        extract(file, entry, into)
        if entry.filename == "b.png":
            (Path(into) / "a.png").unlink()

    monkeypatch.setattr(zipfile.ZipFile, "extract", meddle)
    assert_refused(archive, tmp_path, r"7 of 8 files .* End that program, or choose another --out")


# Names


def pack(archive, names, encoding):
    """Write entries whose names are the bytes of an encoding that the archive does not state."""
    with zipfile.ZipFile(archive, "w") as file:
        for i, name in enumerate(names):
            file.writestr(f"{i:0{len(name.encode(encoding))}d}", str(i))
    data = archive.read_bytes()
    for i, name in enumerate(names):
        raw = name.encode(encoding)
        data = data.replace(f"{i:0{len(raw)}d}".encode(), raw)
    archive.write_bytes(data)
    return archive


def unpacked(archive, tmp_path):
    folder = unpack(archive, tmp_path / "out")
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_backslashes_are_separators(tmp_path):
    names = ["one\\a.png", "one\\two\\b.png", "one\\two\\.\\c.png", "d.png"]
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as file:
        file.writestr("empty\\", "")
        for name in names:
            file.writestr(name, name)
    expected = ["d.png", "one/a.png", "one/two/b.png", "one/two/c.png"]
    assert unpacked(tmp_path / "w.zip", tmp_path) == expected


@pytest.mark.parametrize("name", ["\\x", "\\\\host\\x", "..\\x", "one\\..\\..\\x", "c:x"])
def test_backslashes_that_lead_out(archive, tmp_path, name):
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, "not here")
    assert_refused(archive, tmp_path, r"points outside the folder; nothing was unpacked")


@pytest.mark.parametrize(
    ("names", "encoding", "read_as"),
    [
        (["红色的猫.png", "红色的猫.txt"], "gbk", "GB18030"),
        (["一\\誠實.png"], "gbk", "GB18030"),  # the second byte of 誠 is a backslash
        (["红色的猫.png", "été.png"], "utf-8", "UTF-8"),  # a Mac
        (["café é.png"], "cp437", "CP437"),
    ],
)
def test_names_of_an_encoding_that_is_not_stated(tmp_path, names, encoding, read_as):
    archive = pack(tmp_path / "w.zip", names, encoding)
    with pytest.warns(UserWarning) as said:
        found = unpacked(archive, tmp_path)
    assert found == sorted(name.replace("\\", "/") for name in names)
    (message,) = (str(w.message) for w in said)
    assert (
        f"the encoding of {len(names)} names is not stated; they are read as {read_as}" in message
    )
    assert str(archive) in message and "\n" not in message
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with zipfile.ZipFile(tmp_path / "said.zip", "w") as file:
            file.writestr("红.png", "a name that states its encoding")
        unpack(tmp_path / "said.zip", tmp_path / "other")


def test_a_name_in_gbk_that_leads_out(tmp_path):
    archive = pack(tmp_path / "w.zip", ["红\\..\\..\\x"], "gbk")
    with pytest.warns(UserWarning, match="GB18030"):
        assert_refused(archive, tmp_path, "points outside the folder")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Cat.png", "cat.png"),
        ("more/CAT.txt", "more/cat.txt"),
        (unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.png")),
        ("CAFÉ.png", unicodedata.normalize("NFD", "café.png")),
    ],
)
def test_two_names_that_are_one_file(tmp_path, monkeypatch, one, other):
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as file:
        for name in (one, other):
            file.writestr(name, name)
    assert len(unpacked(tmp_path / "w.zip", tmp_path)) == 2  # here they are two
    shutil.rmtree(tmp_path / "out")
    monkeypatch.setattr(archives, "_exists", lambda path: True)  # a Mac
    with pytest.raises(MinidalleError) as caught:
        unpack(tmp_path / "w.zip", tmp_path / "out")
    assert repr(one) in str(caught.value) and repr(other) in str(caught.value)
    assert "are one file on this file system; nothing was unpacked" in str(caught.value)
    assert in_out(tmp_path) == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_was_packed_again_has_its_last_content(archive, tmp_path):
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("a.txt", "newer")
    assert (unpack(archive, tmp_path / "out") / "a.txt").read_text() == "newer"


@pytest.mark.parametrize("suffix", [".parquet", ".PARQUET", ".arrow", ".tar"])
def test_a_container_of_another_kind(tmp_path, suffix):
    path = tmp_path / f"train{suffix}"
    path.write_bytes(b"PAR1")
    assert_refused(path, tmp_path, "is not read; (convert|save|unpack) it")
