"""Folders as they are found: each test makes one with real files, most of them with a fault."""

import csv
import hashlib
import json
import math
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from minidalle.datasets import image_folder, images
from minidalle.datasets.caption_files import read_text
from minidalle.datasets.image_folder import CaptionedImageFolder
from minidalle.datasets.images import load_image, to_rgb
from minidalle.errors import MinidalleError

RED, WHITE = (255, 0, 0), (255, 255, 255)


@pytest.fixture(autouse=True)
def no_warnings():
    """Pillow's warnings name neither file nor remedy: none may reach the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def put(folder, name, caption="a red square", image=None, **options):
    """Write a picture and its caption; give the picture's path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or Image.new("RGB", (8, 8), RED)).save(path, **options)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def png(width, height, depth, colour, rows, *chunks):
    """A PNG written by hand, so that its header can say what we like."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def assert_fault(*words, folder, **options):
    """The one line of the MinidalleError that the folder must raise; it holds all the words."""
    with pytest.raises(MinidalleError) as caught:
        CaptionedImageFolder(folder, 8, **options)
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert str(word) in line, line
    return line


# Any picture to an RGB square


def test_pairs_from_text_files_in_subfolders(tmp_path):
    put(tmp_path, "b.png", "blue", Image.new("RGB", (30, 20), "blue"))
    put(tmp_path, "a/RED.JPG", "two\nlines \n", quality=95)
    pairs = CaptionedImageFolder(tmp_path, 16)
    assert [pairs.caption(i) for i in range(len(pairs))] == ["two", "lines", "blue"]
    for i in range(len(pairs)):
        assert pairs.image(i).shape == (16, 16, 3) and pairs.image(i).dtype == np.uint8
    assert (pairs.image(2) == (0, 0, 255)).all()
    assert pairs.skipped == []
    assert pairs.report().splitlines()[-1] == "2 pictures with 3 captions; 0 files left out"
    pairs.image(2)[:] = 0  # the caller's copy
    assert (pairs.image(2) == (0, 0, 255)).all()


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (41, 20), (20, 20), (3, 3)])
def test_the_square_is_the_centre(tmp_path, size):
    image = Image.new("RGB", size, "black")
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    image.paste(RED, (left, top, left + side, top + side))
    assert (load_image(put(tmp_path, "a.png", image=image), 10) == RED).all()


def test_reduction_is_near_the_mean_of_what_each_pixel_covers(tmp_path):
    y, x = np.mgrid[0:256, 0:256]
    smooth = np.stack([x, y, 127 + 100 * np.sin(x / 40) * np.cos(y / 40)], 2).astype(np.uint8)
    path = put(tmp_path, "a.png", image=Image.fromarray(smooth))
    slow = np.zeros((16, 16, 3))
    for i in range(16):
        for j in range(16):
            slow[i, j] = smooth[16 * i : 16 * i + 16, 16 * j : 16 * j + 16].mean((0, 1))
    assert np.abs(load_image(path, 16) - slow)[1:-1, 1:-1].max() < 2
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255  # picking pixels instead of averaging them would leave stripes, or black
    grey = load_image(put(tmp_path, "b.png", image=Image.fromarray(stripes)), 16)
    assert np.abs(grey.astype(int) - 128)[:, 1:-1].max() <= 3


def over_white(rgba):
    """The slow, obvious reference for transparency."""
    out = np.zeros((*rgba.shape[:2], 3))
    for i, j in np.ndindex(rgba.shape[:2]):
        *colour, alpha = (float(v) for v in rgba[i, j])
        out[i, j] = [c * alpha / 255 + 255 * (1 - alpha / 255) for c in colour]
    return out


@pytest.mark.parametrize("mode", ["RGBA", "LA", "La", "RGBa", "PA"])
def test_alpha_is_laid_over_white(mode):
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (6, 5, 4), dtype=np.uint8))
    if mode == "PA":
        image = Image.new("PA", (6, 5), (1, 128))
    elif mode in ("LA", "La"):
        image = image.convert("LA").convert(mode)
    else:
        image = image.convert(mode)
    straight = image.convert("LA") if mode == "La" else image
    expected = over_white(np.asarray(straight.convert("RGBA")))
    rgb = to_rgb(image)
    assert rgb.mode == "RGB" and rgb.size == image.size
    assert np.abs(np.asarray(rgb) - expected).max() <= 1


def test_transparency_by_palette_and_by_colour_key(tmp_path):
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.paste(1, (2, 0, 4, 4))
    for name, options in {
        "key.png": {"transparency": 0},
        "table.png": {"transparency": b"\x00\xff"},
        "key.gif": {"transparency": 0},
    }.items():
        image = load_image(put(tmp_path, name, image=palette, **options), 4)
        assert (image[:, :2] == WHITE).all() and (image[:, 2:] == RED).all(), name
    path = put(tmp_path, "rgb.png", image=palette.convert("RGB"), transparency=(0, 0, 0))
    assert (load_image(path, 4)[:, :2] == WHITE).all()
    deep = struct.pack(">B2H", 0, 0, 32768) + struct.pack(">B2H", 0, 32768, 0)
    path.write_bytes(png(2, 2, 16, 0, deep, (b"tRNS", struct.pack(">H", 0))))
    assert load_image(path, 2)[..., 0].tolist() == [[255, 128], [128, 255]]


def test_cmyk_and_greyscale(tmp_path):
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, full magenta and yellow: red
    for name in ("a.jpg", "a.tif"):
        image = load_image(put(tmp_path, name, image=cmyk), 8)
        assert np.abs(image.astype(int) - RED).max() < 6, name
    for mode, value in (("L", 77), ("1", 1)):
        image = load_image(put(tmp_path, f"{mode}.png", image=Image.new(mode, (5, 5), value)), 8)
        assert (image == (77 if mode == "L" else 255)).all()


# As the EXIF standard words it: on which sides of the upright picture the stored 0th row and 0th
# column are. 6 is a phone held upright.
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


@pytest.mark.parametrize("orientation", SIDES)
@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_exif_rotation_is_applied(tmp_path, kind, orientation):
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :16] = 255  # white where the 0th row meets the 0th column
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = put(tmp_path, f"a.{kind}", image=Image.fromarray(stored), exif=exif)
    with Image.open(path) as image:
        upright = np.asarray(to_rgb(image))
    assert upright.shape == ((16, 32, 3) if orientation < 5 else (32, 16, 3))
    rows, columns = np.nonzero(upright.mean(2) > 127)
    height, width = upright.shape[:2]
    assert ("top" in SIDES[orientation]) == (rows.mean() < height / 2)
    assert ("left" in SIDES[orientation]) == (columns.mean() < width / 2)


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_a_16_bit_ramp_stays_a_ramp(tmp_path, kind):
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16)
    image = Image.fromarray(np.tile(ramp, (256, 1)))
    path = put(tmp_path, f"a.{kind}", image=image)
    with Image.open(path) as naive:
        assert (np.asarray(naive.convert("RGB")) == 255).mean() > 0.99  # why we do it ourselves
    assert np.abs(load_image(path, 256)[:, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_other_deep_greyscale_is_scaled():
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    for values in (ramp, ramp * 255, ramp * 65535, (ramp * 65535).astype(np.int32)):
        grey = np.asarray(to_rgb(Image.fromarray(values)))[0, :, 0]
        assert np.abs(grey.astype(int) - np.arange(256)).max() <= 1, values.dtype
    wide = np.linspace(0, 2**31 - 1, 256).astype(np.int32)[None]
    assert np.abs(np.asarray(to_rgb(Image.fromarray(wide)))[0, :, 0] - np.arange(256.0)).max() <= 1
    holes = np.array([[np.nan, np.inf, -np.inf, -3, 1]], np.float32)
    assert np.asarray(to_rgb(Image.fromarray(holes)))[0, :, 0].tolist() == [0, 0, 0, 0, 255]
    big_endian = Image.frombytes("I;16B", (2, 1), struct.pack(">2H", 65535, 32768))
    assert np.asarray(to_rgb(big_endian))[0, :, 0].tolist() == [255, 128]


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame(tmp_path, kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    options = {"save_all": True, "append_images": frames[1:]} | (
        {"lossless": True} if kind == "webp" else {}
    )
    path = put(tmp_path, f"a.{kind}", image=frames[0], **options)
    assert (load_image(path, 8) == RED).all()


# Bad pictures


def bomb():
    """12000 × 12000 black pixels in under 20 KB: rows of one bit a pixel."""
    return png(12000, 12000, 1, 0, bytes(12000 * 1501))


@pytest.mark.parametrize("side", [12000, 20000])
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch, side):
    put(tmp_path, "good.png")
    path = put(tmp_path, "bomb.png")
    path.write_bytes(bomb() if side == 12000 else png(side, side, 1, 0, b""))
    assert path.stat().st_size <= 20_000
    decode = ImageFile.ImageFile.load

    def guarded(image, *args):
        assert image.width < 100, "decoded"
        return decode(image, *args)

    monkeypatch.setattr(ImageFile.ImageFile, "load", guarded)
    with pytest.raises(MinidalleError, match=r"bomb\.png: refused before .*25 megapixels.*down"):
        load_image(path, 8)
    pairs = CaptionedImageFolder(tmp_path, 8)
    assert len(pairs) == 1
    assert [p.name for p, _ in pairs.skipped] == ["bomb.png"]
    assert_fault("bomb.png", "25 megapixels", folder=tmp_path, strict=True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # other code may lift Pillow's limit
    assert len(CaptionedImageFolder(tmp_path, 8)) == 1


def test_the_limit_itself_is_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    assert load_image(put(tmp_path, "a.png", image=Image.new("RGB", (4, 25))), 4).shape == (4, 4, 3)
    with pytest.raises(MinidalleError, match=r"101 . 1 pixels"):
        load_image(put(tmp_path, "b.png", image=Image.new("RGB", (101, 1))), 4)


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "bmp", "webp", "tif"])
def test_truncated_pictures_and_no_pictures_are_skipped_and_listed(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    put(tmp_path, "a good one.png")
    whole = put(tmp_path, f"whole.{kind}", image=Image.fromarray(noise)).read_bytes()
    for cut in (0, 8, len(whole) // 2, len(whole) - 200):
        path = put(tmp_path, f"cut at {cut}.{kind}", image=Image.fromarray(noise))
        path.write_bytes(whole[:cut])
    (tmp_path / f"prose.{kind}").write_text("not a picture")
    (tmp_path / "prose.txt").write_text("a caption")
    pairs = CaptionedImageFolder(tmp_path, 8)
    assert len(pairs) == 2
    assert len(pairs.skipped) == 5
    lines = pairs.report().splitlines()
    assert len(lines) == 6 and lines[-1] == "2 pictures with 2 captions; 5 files left out"
    for (path, reason), line in zip(pairs.skipped, lines, strict=False):
        assert line == f"{path}: {reason}"
        assert "damaged" in reason or "not a picture" in reason
        assert "remove it" in reason or "save it as PNG" in reason
        with pytest.raises(MinidalleError, match=path.name):
            load_image(path, 8)
    assert_fault(pairs.skipped[0][0], folder=tmp_path, strict=True)


def test_every_picture_is_bad(tmp_path):
    put(tmp_path, "a.png").write_bytes(b"")
    assert_fault(
        tmp_path, "no picture with a caption is left; 1 left out", "a.png", folder=tmp_path
    )


def test_pictures_that_are_missing_pipes_or_of_another_kind(tmp_path):
    put(tmp_path, "good.png")
    put(tmp_path, "phone.png").rename(tmp_path / "phone.heic")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dead.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "notes.pdf").write_text("no business of ours")
    for hidden in (".ipynb_checkpoints/good.png", "__MACOSX/good.png", "._good.png"):
        put(tmp_path, hidden)
    pairs = CaptionedImageFolder(tmp_path, 8)
    assert len(pairs) == 1
    assert {p.name for p, _ in pairs.skipped} == {"phone.heic", "pipe.png", "dead.png"}
    with pytest.raises(MinidalleError, match=r"absent\.png: .*No such file"):
        load_image(tmp_path / "absent.png", 8)


# Captions


def test_nothing_to_learn_from(tmp_path):
    assert_fault("nowhere", "no such folder", folder=tmp_path / "nowhere")
    assert_fault(tmp_path, "no pictures", ".png", folder=tmp_path)
    path = put(tmp_path, "sub/a.png", None)
    assert_fault(tmp_path, "no captions", "cat.txt", "metadata.csv", folder=tmp_path)
    assert_fault("no such folder", folder=path)
    with pytest.raises(MinidalleError, match="image_size must be ≥ 1 pixel, got 0"):
        CaptionedImageFolder(tmp_path, 0)


def test_captions_missing_empty_or_orphaned(tmp_path):
    put(tmp_path, "good.png")
    put(tmp_path, "missing.png", None)
    put(tmp_path, "empty.png", "")
    put(tmp_path, "blank.png", " \n\t\n")
    (tmp_path / "orphan.txt").write_text("of no picture")
    pairs = CaptionedImageFolder(tmp_path, 8)
    reasons = {path.name: reason for path, reason in pairs.skipped}
    assert reasons == {
        "missing.png": "no caption; write missing.txt next to it",
        "empty.png": "empty.txt, line 1: the caption is empty; write one",
        "blank.png": "blank.txt, line 1: the caption is empty; write one",
        "orphan.txt": "no picture of this name next to it; add one or remove this",
    }
    assert_fault("blank.txt, line 1", folder=tmp_path, strict=True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("一只猫\n红色的".encode("gb18030"), ["line 2", "GBK", "“红色的”", "iconv -f GB18030"]),
        ("红猫".encode("gbk"), ["line 1", "GBK", "“红猫”"]),
        (b"a red\nboat " + "红色".encode("gbk"), ["line 2", "GBK", "boat 红色"]),
        (b"\xef\xbb\xbfa\n\xff", ["line 2", "save it as UTF-8"]),
        ("café".encode("latin-1"), ["line 1: not UTF-8", "save it as UTF-8"]),
        ("a cat".encode("utf-16"), ["line 1", "UTF-16", "save it as UTF-8"]),
        ("a cat".encode("utf-16-le"), ["line 1", "UTF-16", "save it as UTF-8"]),
    ],
)
def test_a_caption_in_another_encoding_is_never_mojibake(tmp_path, data, words):
    put(tmp_path, "good.png", "一只猫")
    put(tmp_path, "猫.png").with_suffix(".txt").write_bytes(data)
    pairs = CaptionedImageFolder(tmp_path, 8)
    assert [pairs.caption(i) for i in range(len(pairs))] == ["一只猫"]
    ((path, reason),) = pairs.skipped
    assert path.name == "猫.png" and "猫.txt" in reason
    assert all(word in reason for word in words), reason
    assert ("GBK" in reason) == ("GBK" in words)
    assert_fault("猫.txt", *words, folder=tmp_path, strict=True)
    table = tmp_path / "metadata.csv"
    table.write_bytes(b"file_name,text\n" + data.removeprefix(b"\xef\xbb\xbf"))
    assert_fault(table, "not UTF-8", "save it as UTF-8", folder=tmp_path)  # a whole table: an error


def test_a_byte_order_mark_is_no_part_of_the_caption(tmp_path):
    put(tmp_path, "a.png", "\ufeff猫")
    assert CaptionedImageFolder(tmp_path, 8).caption(0) == "猫"
    for name, text in {
        "metadata.csv": "\ufefffile_name,text\r\na.png,狗\r\n",
        "metadata.jsonl": '\ufeff{"file_name": "a.png", "text": "狗"}\r\n',
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        assert CaptionedImageFolder(tmp_path, 8).caption(0) == "狗"
        (tmp_path / name).unlink()


def test_valid_utf8_is_never_doubted():
    """Catches a guess at other encodings that refuses somebody's language."""
    languages = """Größe; été à la plage; 3º año: 5 µm; дом IKEA; кот на доме; βαθιά θάλασσα;
    ζωή café;
    çok güzel ağaç; כלב; قطة; con chó đỏ; żółw; 一只猫; 🐱 20° ×2 ©; ひとつの猫; ʻōlelo; nɑ̈; һֻè"""
    for text in languages.split(";"):
        assert read_text(text.encode()) == text
    assert read_text("\ufeffè".encode()) == "è"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_text_is_exact_or_refused(data):
    try:
        text = read_text(data)
    except ValueError as refusal:
        assert "save it as UTF-8" in str(refusal)
    else:
        assert text.encode() == data.removeprefix(b"\xef\xbb\xbf")


# Tables


def write_table(folder, name, rows, key="text"):
    """Write rows of (file name, caption) as metadata.jsonl or metadata.csv."""
    path = folder / name
    if name.endswith("jsonl"):
        lines = [json.dumps({"file_name": f, key: c}, ensure_ascii=False) for f, c in rows]
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("file_name", key), *rows])
    return path


both = pytest.mark.parametrize("table", ["metadata.jsonl", "metadata.csv"])


@both
@pytest.mark.parametrize("key", ["text", "caption"])
def test_pairs_from_a_table(tmp_path, table, key):
    for name in ("b.png", "sub/a.png", "sub/c.png", "beside.png"):
        put(tmp_path, name, "the table wins")
    rows = [("b.png", 'a "b", of\nsorts'), ("b.png", "乙\u2028丙"), ("./sub\\a.png", "甲")]
    write_table(tmp_path, table, rows, key)
    write_table(tmp_path / "sub", table, [("c.png", "its own table")], key)
    pairs = CaptionedImageFolder(tmp_path, 8, strict=True)
    assert [pairs.caption(i) for i in range(len(pairs))] == [
        'a "b", of sorts',
        "乙 丙",
        "the table wins",
        "甲",
        "its own table",
    ]
    assert pairs.report() == "4 pictures with 5 captions; 0 files left out"


@both
def test_rows_without_picture_or_caption_are_listed(tmp_path, table):
    put(tmp_path, "a.png", None)
    put(tmp_path, "b.png", None)
    long = "x" * 300 + ".png"
    write_table(tmp_path, table, [("gone.png", "x"), ("a.png", ""), (long, "x"), ("b.png", "b")])
    pairs = CaptionedImageFolder(tmp_path, 8)
    start = 1 if table.endswith("jsonl") else 2
    assert [(p.name, r) for p, r in pairs.skipped] == [
        ("gone.png", f"{table}, line {start}: no such picture; add it or drop the line"),
        ("a.png", f"{table}, line {start + 1}: the caption is empty; write one"),
        (long, f"{table}, line {start + 2}: no such picture; add it or drop the line"),
    ]
    assert_fault("gone.png", table, f"line {start}", folder=tmp_path, strict=True)


@both
@pytest.mark.parametrize(
    "name",
    [
        "../x.png",
        "sub/../../x.png",
        "..\\x.png",
        "C:\\x.png",
        "C:x.png",
        "\\\\host\\x.png",
        "/x.png",
        "absolute",
        "link.png",
        "way/x.png",
        "bad\x00.png",
    ],
)
def test_a_name_that_leads_out_is_refused(tmp_path, table, name):
    put(tmp_path, "x.png")
    folder = tmp_path / "data"
    put(folder, "a.png")
    if name == "absolute":
        name = str(tmp_path / "x.png")
    if name == "link.png":
        (folder / ".link.png").symlink_to(tmp_path / "x.png")
        name = ".link.png"  # hidden: found by the table alone
    if name == "way/x.png":
        (folder / ".way").symlink_to(tmp_path)
        name = ".way/x.png"
    write_table(folder, table, [("a.png", "inside"), (name, "outside")])
    line = 2 if table.endswith("jsonl") else 3
    if "\0" in name and table == "metadata.csv":
        assert_fault(table, f"line {line}", folder=folder)
    else:
        assert_fault(f"{table}, line {line}", "is not within", "copy the picture", folder=folder)


@both
def test_the_table_of_a_subfolder_may_name_its_neighbours_but_nothing_outside(tmp_path, table):
    put(tmp_path, "a.png", None)
    (tmp_path / "sub").mkdir()
    write_table(tmp_path / "sub", table, [("../a.png", "a")])
    assert len(CaptionedImageFolder(tmp_path, 8, strict=True)) == 1
    for name in ("../../x.png", "C:\\x.png"):
        write_table(tmp_path / "sub", table, [(name, "x")])
        assert_fault(f"sub/{table}, line", "is not within", folder=tmp_path)


def test_links_that_lead_out_are_refused_and_links_within_are_followed(tmp_path):
    put(tmp_path, "x.png")
    folder = tmp_path / "data"
    put(folder, "a.png")
    (folder / "b.png").symlink_to("a.png")
    (folder / "b.txt").symlink_to("a.txt")
    os.symlink(folder, tmp_path / "shortcut")
    assert len(CaptionedImageFolder(tmp_path / "shortcut", 8, strict=True)) == 2
    for link, target in {"c.png": "x.png", "c.txt": "x.txt", "c": "."}.items():
        (folder / link).symlink_to(tmp_path / target)
        assert_fault(folder / link, "is not within", folder=folder)
        (folder / link).unlink()


@pytest.mark.parametrize(
    ("table", "text", "words"),
    [
        (
            "metadata.jsonl",
            '\n{"file_name": "a.png", "text": "x"',
            ["line 2", "not JSON", "object"],
        ),
        ("metadata.jsonl", '["a.png", "x"]', ["line 1", "not an object", "file_name"]),
        ("metadata.jsonl", "[" * 100_000, ["line 1", "not JSON"]),
        ("metadata.jsonl", '{"text": "x"}', ["line 1", "no file_name", "name the picture"]),
        ("metadata.jsonl", '{"file_name": 3, "text": "x"}', ["line 1", "no file_name"]),
        ("metadata.jsonl", '{"file_name": "\\ud83d.png", "text": "x"}', ["line 1", "not within"]),
        ("metadata.csv", "", ["no picture with a caption is left"]),
        ("metadata.csv", "file_name;text\na.png;x", ["line 1", "columns must be file_name,text"]),
        ("metadata.csv", "file_name,label\na.png,x", ["line 1", "file_name,text"]),
        (
            "metadata.csv",
            "file_name,text\n\na.png,red, big",
            ["line 3", "3 fields for 2", "quotes"],
        ),
        ("metadata.csv", 'file_name,text\na.png,"x\nb.png,y\n', ["line 2", "not CSV", "quotes"]),
        ("metadata.csv", 'file_name,text\n"a\nb.png","x" y', ["line 2", "not CSV", "quotes"]),
        ("metadata.csv", "file_name,text\n,x", ["line 2", "no file_name"]),
    ],
)
def test_a_malformed_table_names_file_and_line(tmp_path, table, text, words):
    put(tmp_path, "a.png", None)
    (tmp_path / table).write_text(text, encoding="utf-8")
    assert_fault(
        tmp_path if words[0].startswith("no p") else tmp_path / table, *words, folder=tmp_path
    )


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({}, "no caption"),
        ({"text": None}, "no caption"),
        ({"text": 3}, "not a string"),
        ({"text": ["a", "b"]}, "not a string"),
        ({"text": "\ud83d"}, "surrogate"),
    ],
)
def test_a_caption_that_is_no_text(tmp_path, row, word):
    put(tmp_path, "a.png", None)
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png"} | row))
    assert_fault("a.png", "metadata.jsonl, line 1", word, folder=tmp_path)


def test_two_tables_side_by_side(tmp_path):
    put(tmp_path, "a.png")
    for table in ("metadata.jsonl", "metadata.csv"):
        write_table(tmp_path, table, [("a.png", "x")])
    assert_fault(tmp_path, "keep one", folder=tmp_path)


# The index


def test_progress_sees_every_picture_and_a_total(tmp_path):
    for i in range(3):
        put(tmp_path, f"{i}.png")
    seen = []

    def progress(names):
        assert len(names) == 3
        for name in names:
            seen.append(name)
            yield name

    CaptionedImageFolder(tmp_path, 8, progress=progress)
    assert seen == ["0.png", "1.png", "2.png"]


def test_too_many_for_memory_are_decoded_on_demand(tmp_path, monkeypatch):
    paths = [put(tmp_path, f"{i}.png") for i in range(2)]
    monkeypatch.setattr(image_folder, "KEEP_BYTES", 2 * 8 * 8 * 3)
    kept = CaptionedImageFolder(tmp_path, 8)
    monkeypatch.setattr(image_folder, "KEEP_BYTES", 2 * 8 * 8 * 3 - 1)
    read = CaptionedImageFolder(tmp_path, 8)
    assert np.array_equal(kept.image(0), read.image(0))
    paths[0].unlink()
    assert (kept.image(0) == RED).all()
    with pytest.raises(MinidalleError, match=r"0\.png.*remove it"):
        read.image(0)


def noise(i):
    """A picture that is like no other."""
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8))


def test_the_split_is_stable_when_pictures_are_added(tmp_path):
    def sides():
        pairs = CaptionedImageFolder(tmp_path, 8)
        training, validation, test = pairs.split(0.3)
        assert sorted([*training, *validation]) == list(range(len(pairs))) and not test
        return [{pairs.caption(i) for i in side} for side in (training, validation)]

    for i in range(50):
        put(tmp_path, f"{i}.png", str(i), noise(i))
    before = sides()
    for i in range(50, 100):
        put(tmp_path, f"new/{i}.png", str(i), noise(i))
    after = sides()
    assert before[0] <= after[0] and before[1] <= after[1]
    assert 15 <= len(after[1]) <= 45
    pairs = CaptionedImageFolder(tmp_path, 8)
    assert len(pairs.split(0)[0]) == 100 and len(pairs.split(0)[1]) == 0
    assert set(pairs.split(0.1)[1]) <= set(pairs.split(0.3)[1])
    for shares in ((1, 0), (0.5, 0.5), (-0.1, 0), (math.nan, 0)):
        with pytest.raises(MinidalleError, match="validation and test must be ≥ 0 and less than 1"):
            pairs.split(*shares)
    with pytest.raises(MinidalleError, match="set validation to 0"):
        pairs.split(1 - 1e-9)


def test_the_split_is_one_on_every_machine_and_for_every_caption(tmp_path):
    for i in range(20):
        put(tmp_path, f"{i}.png", None, noise(i))
    rows = [(f"{i}.png", f"{i} {kind}") for kind in "ab" for i in range(20)]
    write_table(tmp_path, "metadata.csv", rows)
    pairs = CaptionedImageFolder(tmp_path, 8)
    validation = [pairs.caption(i) for i in pairs.split(0.2)[1]]
    expected = []
    for i in sorted(range(20), key=str):
        if int(hashlib.sha256(f"{i}.png".encode()).hexdigest(), 16) / 2**256 < 0.2:
            expected += [f"{i} a", f"{i} b"]
    assert validation == expected
    assert validation


def test_a_file_name_that_is_not_unicode_prints(tmp_path):
    put(tmp_path, "good.png")
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes only Unicode names")
    pairs = CaptionedImageFolder(tmp_path, 8)
    assert len(pairs.skipped) == 1
    assert "caf\\udce9.png" in pairs.report()
    pairs.report().encode()
