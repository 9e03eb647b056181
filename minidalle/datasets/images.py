"""Picture files to RGB squares: size check, decoding, rotation, white background, crop, resize."""

import contextlib
import io
import warnings
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin, UnidentifiedImageError

from minidalle.datasets.problems import Unusable, describe_error, format_problem
from minidalle.errors import MinidalleError

MAX_PIXELS = 25_000_000  # an 18 KB PNG can hold 12000 × 12000 pixels, 432 MB once decoded
# A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, so these hold for its header alone. A
# progressive one needs 6 bytes per pixel of the header nevertheless.
MAX_JPEG_PIXELS = 400_000_000
MAX_PROGRESSIVE_PIXELS = 100_000_000
# The only decoders of Pillow in use.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "DIB", "TIFF")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_METADATA = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # chunks that do not change the pixels here
CROPS = ("centre", "pad")


class Square(NamedTuple):
    """A decoded picture."""

    pixels: np.ndarray  # uint8, S S 3
    cut: float  # the share of the picture that a centre crop cuts, 0 ≤ cut < 1
    size: tuple[int, int]  # width and height of the file's picture, upright


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any picture to mode RGB, 8 bits per channel.

    EXIF rotation is applied, and transparency of every kind is composited over white. CMYK and
    greyscale are converted; 16-bit, 32-bit and float greyscale is scaled. Of an animation, the
    result is the current frame.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return _scale_deep(image)
    if image.mode == "La":  # premultiplied grey, which Pillow converts to LA only
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")  # also from a palette, or one colour declared transparent
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _scale_deep(image: Image.Image) -> Image.Image:
    """Scale deep greyscale to 8 bits. `convert` would clip it: 99.6 % of a 16-bit ramp turn white.

    White is 65535 in 16 bits. The value of white in 32 bits and floats is unknown: we take the
    first of the usual maxima that is not below the brightest pixel.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0)  # H W
    usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,)
    white = next((w for w in usual if values.max() <= w), 2.0**31 - 1)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        values[values == transparent] = white
    grey = np.rint(values.clip(0, white) * (255 / white)).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def decode(file: Path | BinaryIO, size: int, crop: str = "centre") -> Square:
    """A picture file as a square. Raises Unusable with the cause and the remedy."""
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # Pillow only warns of a bomb; here it is an error
            opened = stack.enter_context(file.open("rb")) if isinstance(file, Path) else file
            try:
                image, full_size = _read(opened)
            except ValueError:  # Pillow refuses long texts and profiles, for which we have no use
                opened.seek(0)
                if opened.read(8) != PNG_SIGNATURE:
                    raise
                image, full_size = _read(_without_metadata(opened))
    except Image.DecompressionBombError as error:
        raise Unusable(f"refused before decoding, {error}; scale it down") from error
    except UnidentifiedImageError as error:
        raise Unusable("not a picture in a known format; save it as PNG or JPEG") from error
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged bytes
        raise Unusable(
            f"damaged or unreadable ({describe_error(error)}); replace or remove it"
        ) from error
    cut = 1 - min(image.size) / max(image.size)
    square = _pad(image, size) if crop == "pad" else _centre(image, size)
    return Square(np.array(square), cut, full_size)


def _read(file: BinaryIO) -> tuple[Image.Image, tuple[int, int]]:
    """The picture as RGB, a huge JPEG smaller than it is, and its full size. Raises an error of
    Pillow."""
    with _open(file) as opened:  # reads the header, no pixels yet
        width, height = opened.size
        pixels = width * height
        limit = MAX_PIXELS
        if isinstance(opened, JpegImagePlugin.JpegImageFile):
            is_progressive = "progressive" in opened.info
            limit = max(limit, MAX_PROGRESSIVE_PIXELS if is_progressive else MAX_JPEG_PIXELS)
        if pixels > limit:
            most = f"more than {limit / 1e6:g} megapixels"
            raise Image.DecompressionBombError(f"{most} ({width} × {height} pixels)")
        if pixels > MAX_PIXELS:
            scale = next(s for s in (2, 4, 8) if s == 8 or pixels <= MAX_PIXELS * s**2)
            opened.draft(None, (width // scale, height // scale))
        is_turned = opened.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        return to_rgb(opened), (height, width) if is_turned else (width, height)


def _open(file: BinaryIO) -> Image.Image:
    """As Image.open, which refuses a JPEG of 179 megapixels: here the limits are ours."""
    is_jpeg = file.read(3) == b"\xff\xd8\xff"
    file.seek(0)
    if not is_jpeg:
        try:
            return Image.open(file, formats=FORMATS)
        except Image.DecompressionBombError as error:
            most = f"more than {MAX_PIXELS / 1e6:g} megapixels"
            raise Image.DecompressionBombError(f"{most} ({error})") from error
    try:
        return JpegImagePlugin.jpeg_factory(file)
    except SyntaxError as error:
        raise UnidentifiedImageError from error


def _without_metadata(file: BinaryIO) -> BinaryIO:
    """The rest of a PNG, after its signature, without text and without its colour profile."""
    kept = [PNG_SIGNATURE]
    while len(head := file.read(8)) == 8:  # length and kind, before content and CRC
        length = int.from_bytes(head[:4], "big") + 4
        if head[4:] in PNG_METADATA:
            file.seek(length, io.SEEK_CUR)
        else:
            kept += [head, file.read(length)]
    return io.BytesIO(b"".join(kept))


def _centre(image: Image.Image, size: int) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return _resize(image.crop((left, top, left + side, top + side)), size, size)


def _pad(image: Image.Image, size: int) -> Image.Image:
    """The whole picture, on white."""
    side = max(image.size)
    width, height = (max(1, round(length * size / side)) for length in image.size)
    square = Image.new("RGB", (size, size), "white")
    square.paste(_resize(image, width, height), ((size - width) // 2, (size - height) // 2))
    return square


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    # reducing_gap averages blocks of pixels before it filters: several times faster on photos.
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def load_image(path: Path, size: int, crop: str = "centre") -> np.ndarray:
    """A picture as a square: uint8, H W 3 with H = W = size, values 0 … 255.

    Args:
        path: the file.
        size: side of the square in pixels.
        crop: "centre" for the centre square, "pad" for the whole picture on white.

    Raises:
        MinidalleError: it is not a picture, is damaged, or has over 25 megapixels (JPEG: 400).
    """
    try:
        return decode(Path(path), size, crop).pixels
    except Unusable as error:
        raise MinidalleError(format_problem(path, error)) from error
