"""Pictures as cameras and programs write them: large, with long metadata, of unusual suffixes."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from minidalle.datasets import images
from minidalle.datasets.image_folder import CaptionedImageFolder
from minidalle.datasets.images import load_image
from minidalle.errors import MinidalleError
from tests.datasets.test_image_folder import RED, assert_fault, png, put

# Metadata


def text_of(size):
    return zlib.compress(b"x" * size, 9)


LONG = {
    "zTXt of 3 MB": [(b"zTXt", b"parameters\0\0" + text_of(3_000_000))],
    "zTXt of 300 MB": [(b"zTXt", b"parameters\0\0" + text_of(300_000_000))],
    "iTXt of 3 MB": [(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + text_of(3_000_000))],
    "profile of 3 MB": [(b"iCCP", b"printer\0\0" + text_of(3_000_000))],
    "68 MB in many": [(b"tEXt", b"k%d\0" % i + b"x" * 1_000_000) for i in range(68)],
}


@pytest.mark.parametrize("chunks", LONG.values(), ids=LONG)
def test_long_metadata_is_no_reason_to_refuse_a_png(tmp_path, chunks):
    rows = 8 * (b"\0" + bytes(RED) * 8)
    (tmp_path / "a.png").write_bytes(png(8, 8, 8, 2, rows, *chunks))
    with (
        pytest.raises(ValueError, match=r"too large|Too much memory"),
        Image.open(tmp_path / "a.png"),
    ):
        pass  # why we read it otherwise
    tracemalloc.start()
    try:
        assert (load_image(tmp_path / "a.png", 8) == RED).all()
        assert tracemalloc.get_traced_memory()[1] < 250_000_000
    finally:
        tracemalloc.stop()


def test_long_metadata_after_the_pixels_and_beside_a_rotation(tmp_path):
    stored = Image.new("RGB", (16, 8), "black")
    stored.paste(RED, (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the left is the top
    path = put(tmp_path, "a.png", image=stored, exif=exif)
    kind, content = LONG["zTXt of 3 MB"][0]
    chunk = struct.pack(">I", len(content)) + kind + content
    chunk += struct.pack(">I", zlib.crc32(kind + content))
    data = path.read_bytes()
    path.write_bytes(data[:-12] + chunk + data[-12:])
    square = load_image(path, 8, crop="pad")
    assert np.abs(square[:3, 4].astype(int) - RED).max() < 20 and square[5:, 4].max() < 20
    assert (square[:, 0] == 255).all()
    path.write_bytes(data[:-40] + chunk)  # truncated as well: still an error
    with pytest.raises(MinidalleError, match=r"a\.png: damaged or unreadable .*; replace"):
        load_image(path, 8)


def test_the_limits_of_pillow_are_as_they_were():
    assert PngImagePlugin.MAX_TEXT_CHUNK == 2**20 and Image.MAX_IMAGE_PIXELS == 89_478_485


# Large JPEGs


def large(width, height, **options):
    """A JPEG that is red on the left and blue on the right."""
    image = Image.new("RGB", (width, height), "red")
    image.paste((0, 0, 255), (width // 2, 0, width, height))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def test_a_phones_picture_of_48_megapixels(tmp_path):
    put(tmp_path, "a.jpg").write_bytes(large(8000, 6000))
    square = CaptionedImageFolder(tmp_path, 16, strict=True).image(0).astype(int)
    assert np.abs(square[:, :7] - RED).max() < 6
    assert np.abs(square[:, 9:] - (0, 0, 255)).max() < 6


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_a_large_jpeg_is_decoded_smaller_and_no_smaller_than_needed(tmp_path, monkeypatch, scale):
    monkeypatch.setattr(images, "MAX_PIXELS", 10_000)
    sizes = []
    convert = images.to_rgb
    monkeypatch.setattr(images, "to_rgb", lambda i: sizes.append(i.size) or convert(i))
    put(tmp_path, "a.jpg").write_bytes(large(100 * scale, 100 * scale))
    assert load_image(tmp_path / "a.jpg", 8).shape == (8, 8, 3)
    assert sizes == [(100, 100)]


@pytest.mark.parametrize("mode", ["CMYK", "L", "rotated", "MPO"])
def test_a_large_jpeg_of_another_kind(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(images, "MAX_PIXELS", 10_000)
    options = {}
    image = Image.new("RGB", (300, 150), RED)
    image.paste((0, 0, 255), (150, 0, 300, 150))
    if mode in ("CMYK", "L"):
        image = Image.new(mode, (300, 150), (0, 255, 255, 0) if mode == "CMYK" else 128)
    if mode == "rotated":
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 6
    if mode == "MPO":
        options = {"format": "MPO", "save_all": True, "append_images": [Image.new("RGB", (9, 9))]}
    square = load_image(put(tmp_path, "a.jpg", image=image, **options), 16, "pad").astype(int)
    if mode == "rotated":  # a quarter to the right: red on top
        assert np.abs(square[:7, 8] - RED).max() < 9 and np.abs(square[9:, 8, 2] - 255).max() < 9
        assert (square[:, :3] == 255).all()
    elif mode == "MPO":
        assert np.abs(square[8, :7] - RED).max() < 9 and np.abs(square[8, 9:, 2] - 255).max() < 9
    else:
        assert np.abs(square[8] - (RED if mode == "CMYK" else (128, 128, 128))).max() < 9


@pytest.mark.parametrize(
    ("side", "progressive", "most"), [(21_000, False, "400"), (10_100, True, "100")]
)
def test_a_jpeg_that_is_too_large_is_refused_before_decoding(tmp_path, side, progressive, most):
    """A progressive one is decoded whole, whatever size is asked for."""
    put(tmp_path, "good.png")
    data = large(64, 64, progressive=progressive)
    size = struct.pack(">HH", 64, 64)
    assert data.count(size) == 1
    path = put(tmp_path, "a.jpg")
    path.write_bytes(data.replace(size, struct.pack(">HH", side, side)))
    line = f"refused before decoding, more than {most} megapixels ({side} × {side} pixels); scale"
    assert_fault(path, line, folder=tmp_path, strict=True)


# Suffixes


@pytest.mark.parametrize(
    ("suffix", "format"),
    [(".jfif", "JPEG"), (".jpe", "JPEG"), (".JFIF", "JPEG"), (".apng", "PNG"), (".dib", "DIB"),
     (".mpo", "MPO")],
)  # fmt: skip
def test_other_suffixes_of_formats_that_are_decoded(tmp_path, suffix, format):
    put(tmp_path, f"a{suffix}", image=Image.new("RGB", (16, 16), RED), format=format)
    square = CaptionedImageFolder(tmp_path, 8, strict=True).image(0)
    assert np.abs(square.astype(int) - RED).max() < 3


# Crop or pad


def test_pad_keeps_all_on_white(tmp_path):
    put(tmp_path, "wide.png", image=Image.new("RGB", (40, 20), RED))
    put(tmp_path, "tall.png", image=Image.new("RGB", (20, 40), RED))
    put(tmp_path, "line.png", image=Image.new("RGB", (2000, 1), RED))
    put(tmp_path, "square.png", image=Image.new("RGB", (20, 20), RED))
    pairs = CaptionedImageFolder(tmp_path, 8, crop="pad")
    expected = np.full((4, 8, 8, 3), 255, np.uint8)
    expected[0, 3:4] = expected[1] = expected[2, :, 2:6] = expected[3, 2:6] = RED
    assert [pairs.image(i).tolist() for i in range(4)] == expected.tolist()
    assert pairs.report() == "4 pictures with 4 captions; 0 files left out"


def test_the_report_counts_what_a_crop_cuts(tmp_path):
    for name, size in {"a": (100, 80), "b": (79, 100), "c": (30, 10), "d": (10, 10)}.items():
        put(tmp_path, f"{name}.png", image=Image.new("RGB", size))
    assert CaptionedImageFolder(tmp_path, 8).report().splitlines() == [
        'a centre crop cuts more than a fifth of 2 pictures; crop="pad" (--crop pad) keeps all',
        "4 pictures with 4 captions; 0 files left out",
    ]


def test_what_is_cut_is_measured_upright_and_in_every_picture_once(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    put(tmp_path, "a.jpg", "one\ntwo", image=Image.new("RGB", (20, 10)), exif=exif)
    assert "a fifth of 1 picture;" in CaptionedImageFolder(tmp_path, 8).report()


@pytest.mark.parametrize("crop", ["center", "", None])
def test_a_crop_that_there_is_not(tmp_path, crop):
    put(tmp_path, "a.png")
    assert_fault(f'crop must be "centre" or "pad", got {crop!r}', folder=tmp_path, crop=crop)


def test_padding_on_demand_is_the_same(tmp_path, monkeypatch):
    put(tmp_path, "a.png", image=Image.new("RGB", (40, 20), RED))
    kept = CaptionedImageFolder(tmp_path, 8, crop="pad")
    monkeypatch.setattr("minidalle.datasets.image_folder.KEEP_BYTES", 0)
    read = CaptionedImageFolder(tmp_path, 8, crop="pad")
    assert np.array_equal(kept.image(0), read.image(0))
