"""Any picture file as an RGB square: bounded, decoded, upright, over white, cropped, resampled."""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from minidalle.datasets.problems import Unusable, one_line, why
from minidalle.errors import MinidalleError

MAX_PIXELS = 25_000_000  # an 18 KB PNG can hold 12000 × 12000 pixels: 432 MB once decoded
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")  # no other decoder of Pillow is reached


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture as a person sees it on white paper: mode RGB, 8 bits a channel.

    EXIF rotation is applied, every kind of transparency is laid over white, CMYK and greyscale are
    converted, 16-bit, 32-bit and float greyscale is scaled. Of an animation, the current frame.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return _scale_deep(image)
    if image.mode == "La":  # premultiplied grey, which Pillow converts to nothing but LA
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")  # also from a palette, or one colour declared transparent
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _scale_deep(image: Image.Image) -> Image.Image:
    """Scale deep greyscale to 8 bits; `convert` clips it, and leaves a 16-bit ramp 99.6 % white.

    White is 65535 in 16 bits. 32 bits and floats do not say what white is: we take the first of
    the usual full scales that holds the brightest pixel.
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
    """A picture file as a uint8 square, H W 3; Unusable says why not and what to do."""
    try:
        with warnings.catch_warnings():  # Pillow only warns of a bomb; we refuse it
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:  # reads the header, no pixels yet
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise Image.DecompressionBombError(f"{width} × {height} pixels")
                image = to_rgb(image)
    except Image.DecompressionBombError as fault:
        most = f"more than {MAX_PIXELS / 1e6:g} megapixels"
        raise Unusable(f"refused before decoding, {most} ({fault}); scale it down") from fault
    except UnidentifiedImageError as fault:
        raise Unusable("not a picture we can read; save it as PNG or JPEG") from fault
    except Exception as fault:  # on damaged bytes Pillow's decoders raise a dozen kinds
        raise Unusable(f"damaged or unreadable ({why(fault)}); replace or remove it") from fault
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    # reducing_gap: average blocks of pixels first, then filter; on photos several times faster.
    return np.array(square.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0))


def load_image(path: Path, size: int) -> np.ndarray:
    """One picture as uint8 (H W 3, H = W = size, values 0 … 255): its centre square, resampled.

    Raises MinidalleError if it is no picture, is damaged, or holds more than 25 megapixels.
    """
    try:
        return decode(Path(path), size)
    except Unusable as fault:
        raise MinidalleError(one_line(path, fault)) from fault
