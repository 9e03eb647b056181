"""Other people's images: a folder of pictures with captions beside them.

The storybook world never draws a bad image. A real folder holds photos that lie on their side,
print-ready CMYK, stickers on a transparent ground, half a download, and captions from a program
that had not heard of Unicode. This module brings such a folder to what a model eats, or says of
each file why it could not:

    picture ─ bounded ─ decoded ─ upright RGB, over white ─ centre square ─ uint8 S × S × 3
    caption ─ UTF-8, or refused: a wrong guess would be learnt as if it were language

A caption stands beside its picture (`cat.png`, `cat.txt`) or in a table (`metadata.jsonl` or
`metadata.csv` with `file_name` and `text`, Hugging Face's imagefolder layout). Nothing vanishes
in silence: `ImageFolder.report()` lists what was left out.
"""

import codecs
import csv
import hashlib
import io
import json
import os
import posixpath
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from minidalle.errors import MinidalleError

MAX_PIXELS = 25_000_000  # an 18 KB PNG can hold 12000 × 12000 pixels: 432 MB once decoded
KEEP_BYTES = 1_000_000_000  # the squares stay in memory when all of them together take no more
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")  # no other decoder of Pillow is reached
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"}
FOREIGN = {".heic", ".heif", ".avif", ".svg", ".psd"}  # pictures too: listed, not passed over


class _Unusable(ValueError):
    """Why a file or a row cannot be used, and the remedy; the caller adds which file it is."""


# From any picture to an RGB square


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


def _decode(file: Path | BinaryIO, size: int) -> np.ndarray:
    """A picture file as a uint8 square, H W 3; _Unusable says why not and what to do."""
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
        raise _Unusable(f"refused before decoding, {most} ({fault}); scale it down") from fault
    except UnidentifiedImageError as fault:
        raise _Unusable("not a picture we can read; save it as PNG or JPEG") from fault
    except Exception as fault:  # on damaged bytes Pillow's decoders raise a dozen kinds
        raise _Unusable(f"damaged or unreadable ({_why(fault)}); replace or remove it") from fault
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
        return _decode(Path(path), size)
    except _Unusable as fault:
        raise MinidalleError(_line(path, fault)) from fault


def _why(fault: Exception) -> str:
    return getattr(fault, "strerror", None) or str(fault) or type(fault).__name__


def _line(where: Path | str, reason: object) -> str:
    """`where: reason` on one line that prints anywhere, even if a file name is not Unicode."""
    line = " ".join(f"{where}: {reason}".splitlines())
    return line.encode("utf-8", "backslashreplace").decode()


# Captions


def _text(data: bytes) -> str:
    """Decode UTF-8, byte order mark or none; _Unusable names the line, and guesses, but aloud.

    The guess is never used: what is 猫 in one encoding is è in another, and only the author knows.
    """
    marked = data.startswith(codecs.BOM_UTF8)
    for number, line in enumerate(data.split(b"\n"), 1):
        if b"\0" in line:
            raise _Unusable(f"line {number}: not UTF-8 (UTF-16, perhaps); save it as UTF-8")
        try:
            line.decode("utf-8")
            if marked or not _reads_better_as_gbk(line):
                continue
            remedy = "save it as UTF-8, if it is that already with a byte order mark"
        except UnicodeDecodeError:
            remedy = "save it as UTF-8"
        try:
            guess = line.decode("gb18030").strip()[:24]
            remedy += f"; as GBK it reads “{guess}”: if that is right, iconv -f GB18030 -t UTF-8"
        except UnicodeDecodeError:
            pass
        raise _Unusable(f"line {number}: not UTF-8; {remedy}")
    return data.decode("utf-8-sig")


def _reads_better_as_gbk(line: bytes) -> bool:
    """Whether valid UTF-8 is GBK by the look of it: 一只猫, saved as GBK, is also good UTF-8, “һֻè”.

    The signs: it is common Chinese in GBK, and in UTF-8 its letters mix scripts, as Cyrillic with
    Latin here, or are accented ones alone.
    """
    try:
        text, _ = line.decode("utf-8"), line.decode("gb2312")
    except UnicodeDecodeError:
        return False
    names = [unicodedata.name(letter, "") for letter in text if letter.isalpha()]
    foreign = [unicodedata.name(letter, "") for letter in text if letter > "\x7f"]
    scripts = {name.split()[0] for name in foreign if " LETTER " in name} - {"MODIFIER"}
    return len(scripts) > 1 or (scripts == {"LATIN"} and all(" WITH " in name for name in names))


def _caption(raw: object, line: int) -> str:
    """A caption as one line, lines joined by spaces; _Unusable if there is nothing to learn."""
    if raw is None:
        raise _Unusable(f"line {line}: no caption; write one under “text”")
    if not isinstance(raw, str):
        raise _Unusable(f"line {line}: the caption is no string; put it in quotes")
    caption = " ".join(part.strip() for part in raw.splitlines() if part.strip())
    if not caption:
        raise _Unusable(f"line {line}: the caption is empty; write one")
    if re.search("[\ud800-\udfff]", caption):
        raise _Unusable(f"line {line}: half a surrogate pair; write the character itself")
    return caption


def _jsonl(text: str) -> Iterator[tuple[int, dict]]:
    """(line number, row); _Unusable names the line."""
    for line, source in enumerate(text.split("\n"), 1):  # splitlines() would cut inside strings
        if not source.strip():
            continue
        try:
            row = json.loads(source)
        except (ValueError, RecursionError) as fault:
            raise _Unusable(f"line {line}: not JSON ({fault}); write one object a line") from fault
        if not isinstance(row, dict):
            raise _Unusable(f'line {line}: no object; write {{"file_name": "…", "text": "…"}}')
        yield line, row


def _csv(text: str) -> Iterator[tuple[int, dict]]:
    """(line number, row); _Unusable names the line at which the guilty row begins."""
    # strict: without it a forgotten quote swallows the rest of the file as one long caption
    rows = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    columns: list[str] = []
    line = 1
    try:
        for row in rows:
            if not columns:
                columns = [column.strip() for column in row]
                if "file_name" not in columns or not {"text", "caption"} & set(columns):
                    raise _Unusable(f"line {line}: the columns must be file_name,text, not {row}")
            elif len(row) > len(columns):
                raise _Unusable(
                    f"line {line}: {len(row)} fields for {len(columns)} columns; "
                    "put quotes around a caption that holds a comma"
                )
            elif row:
                yield line, dict(zip(columns, row, strict=False))
            line = rows.line_num + 1
    except csv.Error as fault:
        raise _Unusable(f"line {line}: not CSV ({fault}); check its quotes") from fault


TABLES = {"metadata.jsonl": _jsonl, "metadata.csv": _csv}


# The folder


class ImageFolder:
    """An indexed set of (image, caption) pairs, sorted by file name.

    Every picture is decoded once while the folder is indexed: a bad one is found now, not in the
    third hour of training. A picture named on several lines of a table gives several pairs; a table
    wins over a `.txt`; hidden files are passed over.

        pairs = ImageFolder("holiday", image_size=32, progress=tqdm)
        pairs.image(0), pairs.caption(0)  # uint8 32 32 3, "a red boat"
        training, validation = pairs.split(0.1)

    Args:
        folder: where the pictures are; its subfolders belong to it.
        image_size: side of the square images, in pixels.
        strict: raise at the first file that would be left out.
        progress: wraps the list of names while they are decoded, as `tqdm` does.

    Raises:
        MinidalleError: there is no folder, no picture, no caption; a table is malformed; a name or
            a link leads out of the folder. With `strict`, also: a file cannot be used.
    """

    skipped: list[tuple[Path, str]]  # what was left out, and why

    def __init__(
        self,
        folder: Path,
        image_size: int,
        *,
        strict: bool = False,
        progress: Callable[[Iterable[str]], Iterable[str]] = iter,
    ) -> None:
        self.folder = Path(folder).expanduser()
        self.image_size = image_size
        self.strict = strict
        self.skipped = []
        if image_size < 1:
            raise MinidalleError(f"image_size is {image_size}; it must be 1 pixel or more")
        if not self.folder.is_dir():
            raise MinidalleError(_line(self.folder, "no such folder; name one that holds pictures"))
        captions = self._captions(list(self._walk()))
        keep = len(captions) * 3 * image_size**2 <= KEEP_BYTES
        self._images: dict[str, np.ndarray] = {}
        self._pairs: list[tuple[str, str]] = []
        for name in progress(sorted(captions)):
            try:
                image = _decode(self.folder / name, image_size)
            except _Unusable as fault:
                self._skip(name, fault)
                continue
            self._pairs += [(name, caption) for caption in captions[name]]
            if keep:
                self._images[name] = image
        if not self._pairs:
            why = f"no picture with a caption is left; {len(self.skipped)} left out"
            first = f", the first {_line(*self.skipped[0])}" if self.skipped else ""
            raise MinidalleError(_line(self.folder, why + first))

    def __len__(self) -> int:
        return len(self._pairs)

    def image(self, i: int) -> np.ndarray:
        """Image i: uint8 (H W 3, H = W = image_size, values 0 … 255); yours to change."""
        name, _ = self._pairs[i]
        if name in self._images:
            return self._images[name].copy()
        return load_image(self.folder / name, self.image_size)

    def caption(self, i: int) -> str:
        """Caption i: one line, never empty."""
        return self._pairs[i][1]

    def split(self, validation: float = 0.1) -> tuple[Sequence[int], Sequence[int]]:
        """Indices for training, and for validation: a share of about `validation`, 0 … 1.

        The side follows from a hash of the picture's name: it stays when pictures are added, and is
        one for all captions of a picture. Of a few pictures none may fall to validation;
        MinidalleError if none is left for training.
        """
        if not 0 <= validation < 1:
            raise MinidalleError(f"validation is {validation}; it must be 0 or more, less than 1")
        sides: tuple[list[int], list[int]] = ([], [])
        for i, (name, _) in enumerate(self._pairs):
            name = unicodedata.normalize("NFC", name)  # macOS may write é as e and an accent
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
            sides[int.from_bytes(digest[:8], "big") < validation * 2**64].append(i)
        if not sides[0]:
            why = "all pictures fall to validation; add some, or set validation to 0"
            raise MinidalleError(_line(self.folder, why))
        return sides

    def report(self) -> str:
        """A line for each file left out, then a line that counts."""
        lines = [_line(path, reason) for path, reason in self.skipped]
        pictures = len({name for name, _ in self._pairs})
        count = f"{pictures} pictures with {len(self)} captions; {len(lines)} files left out"
        return "\n".join([*lines, count])

    # How the index is made

    def _skip(self, name: str, reason: object) -> None:
        self.skipped.append((self.folder / name, str(reason)))
        if self.strict:
            raise MinidalleError(_line(*self.skipped[-1]))

    def _refuse_outside(self, name: str, source: str) -> None:
        """Nothing may lead out of the folder: the user's other files are not training data."""
        try:
            real = Path(os.path.realpath(self.folder / name))
            inside = real.is_relative_to(os.path.realpath(self.folder))
        except ValueError:  # a NUL in the name
            inside = False
        if not inside or re.search("(^|/)[A-Za-z]:", name):  # C:x, a path on a Windows drive
            why = f"“{name}” is not within {self.folder}; copy the picture there"
            raise MinidalleError(_line(source, why))

    def _walk(self) -> Iterator[str]:
        """File names relative to the folder (`sub/cat.png`), in the same order on any machine."""

        def unreadable(fault: OSError) -> None:
            name = Path(fault.filename).relative_to(self.folder).as_posix()
            self._skip(name, f"{fault.strerror}; make it readable")

        for top, folders, files in os.walk(self.folder, onerror=unreadable):
            folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
            for entry in folders + sorted(f for f in files if not f.startswith(".")):
                path = Path(top, entry)
                name = path.relative_to(self.folder).as_posix()
                if path.is_symlink():
                    self._refuse_outside(name, str(path))
                if path.is_file():
                    yield name
                elif entry in files:  # to open a pipe would be to wait for ever
                    self._skip(name, "a dead link, or no ordinary file; replace or remove it")

    def _captions(self, files: list[str]) -> dict[str, list[str]]:
        """The captions of each picture; a picture without one is skipped."""
        pictures = [f for f in files if Path(f).suffix.lower() in PICTURES | FOREIGN]
        texts = {f[:-4]: f for f in files if f.lower().endswith(".txt")}
        tables = [f for f in files if posixpath.basename(f) in TABLES]
        if not pictures and not tables:
            why = f"no pictures; put some there ({' '.join(sorted(PICTURES))})"
            raise MinidalleError(_line(self.folder, why))
        if not texts and not tables:
            why = "no captions; put cat.txt beside cat.png, or write metadata.csv: file_name,text"
            raise MinidalleError(_line(self.folder, why))
        if len({posixpath.dirname(table) for table in tables}) < len(tables):
            why = "metadata.jsonl and metadata.csv side by side; keep one"
            raise MinidalleError(_line(self.folder, why))
        captions: dict[str, list[str]] = {}
        in_table, used = set(), set()
        for table in tables:
            for name, caption in self._read_table(table):
                in_table.add(name)
                if caption:
                    captions.setdefault(name, []).append(caption)
        for name in pictures:
            stem = posixpath.splitext(name)[0]
            used.add(stem)
            if name in in_table:
                continue
            if stem not in texts:
                self._skip(name, f"no caption; write {posixpath.basename(stem)}.txt beside it")
                continue
            try:
                text = _text((self.folder / texts[stem]).read_bytes())
                captions[name] = [_caption(text, line=1)]
            except (OSError, _Unusable) as fault:
                self._skip(name, f"{posixpath.basename(texts[stem])}, {_why(fault)}")
        for stem in sorted(texts.keys() - used):
            self._skip(texts[stem], "no picture of this name beside it; add one or remove this")
        return captions

    def _read_table(self, table: str) -> Iterator[tuple[str, str | None]]:
        """(picture, caption) for each row; one that cannot be used is skipped, its caption None."""
        path = self.folder / table
        try:
            for line, row in TABLES[path.name](_text(path.read_bytes())):
                given = row.get("file_name")
                if not isinstance(given, str) or not given:
                    raise _Unusable(f"line {line}: no file_name; name the picture")
                given = given.replace("\\", "/")  # written on Windows
                name = posixpath.normpath(posixpath.join(posixpath.dirname(table), given))
                self._refuse_outside(name, f"{path}, line {line}")
                try:
                    caption = _caption(row.get("text", row.get("caption")), line)
                    if not os.path.isfile(self.folder / name):
                        raise _Unusable(f"line {line}: no such picture; add it or drop the line")
                except _Unusable as fault:
                    caption = None
                    self._skip(name, f"{table}, {fault}")
                yield name, caption
        except (OSError, _Unusable) as fault:
            raise MinidalleError(_line(path, _why(fault))) from fault
