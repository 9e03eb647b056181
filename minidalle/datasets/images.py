"""Picture files to RGB squares: size check, decoding, rotation, white background, crop, resize."""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from minidalle.datasets.problems import Unusable, describe_error, format_problem
from minidalle.errors import MinidalleError

MAX_PIXELS = 25_000_000  # an 18 KB PNG can hold 12000 × 12000 pixels, 432 MB once decoded
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")  # the only decoders of Pillow in use


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


def decode(file: Path | BinaryIO, size: int) -> np.ndarray:
    """A picture file as a uint8 square, H W 3. Raises Unusable with the cause and the remedy."""
    try:
        with warnings.catch_warnings():  # Pillow only warns of a bomb; here it is an error
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as opened:  # reads the header, no pixels yet
                width, height = opened.size
                if width * height > MAX_PIXELS:
                    raise Image.DecompressionBombError(f"{width} × {height} pixels")
                image = to_rgb(opened)
    except Image.DecompressionBombError as error:
        most = f"more than {MAX_PIXELS / 1e6:g} megapixels"
        raise Unusable(f"refused before decoding, {most} ({error}); scale it down") from error
    except UnidentifiedImageError as error:
        raise Unusable("not a picture in a known format; save it as PNG or JPEG") from error
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged bytes
        raise Unusable(
            f"damaged or unreadable ({describe_error(error)}); replace or remove it"
        ) from error
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    # reducing_gap averages blocks of pixels before it filters: several times faster on photos.
    return np.array(square.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0))


def load_image(path: Path, size: int) -> np.ndarray:
    """The centre square of a picture, resized: uint8, H W 3 with H = W = size, values 0 … 255.

    Raises MinidalleError if the file is not a picture, is damaged, or has over 25 megapixels.
    """
    try:
        return decode(Path(path), size)
    except Unusable as error:
        raise MinidalleError(format_problem(path, error)) from error
