"""Other people's images: a folder of pictures with captions beside them.

The storybook world never draws a bad image. A real folder holds photos that lie on their side,
print-ready CMYK, stickers on a transparent ground, half a download, and captions from a program
that had not heard of Unicode. This module brings such a folder to what a model eats, or says of
each file why it could not:

    picture ─ bounded ─ decoded ─ upright RGB, over white ─ centre square ─ uint8 S × S × 3
    caption ─ UTF-8, or refused: a wrong guess would be learnt as if it were language

A caption stands beside its picture (`cat.png`, `cat.txt`) or in a table (`metadata.jsonl` or
`metadata.csv` with `file_name` and `text`, Hugging Face's imagefolder layout). Nothing vanishes
in silence: `CaptionedImageFolder.report()` lists what was left out.
"""

import hashlib
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from minidalle.datasets.caption_files import TABLES, clean_caption, read_text
from minidalle.datasets.images import decode, load_image
from minidalle.datasets.problems import Unusable, one_line, why
from minidalle.errors import MinidalleError

KEEP_BYTES = 1_000_000_000  # the squares stay in memory when all of them together take no more
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"}
FOREIGN = {".heic", ".heif", ".avif", ".svg", ".psd"}  # pictures too: listed, not passed over


class CaptionedImageFolder:
    """An indexed set of (image, caption) pairs, sorted by file name.

    Every picture is decoded once while the folder is indexed: a bad one is found now, not in the
    third hour of training. A picture named on several lines of a table gives several pairs; a table
    wins over a `.txt`; hidden files are passed over.

        pairs = CaptionedImageFolder("holiday", image_size=32, progress=tqdm)
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
            raise MinidalleError(
                one_line(self.folder, "no such folder; name one that holds pictures")
            )
        captions = self._captions(list(self._walk()))
        keep = len(captions) * 3 * image_size**2 <= KEEP_BYTES
        self._images: dict[str, np.ndarray] = {}
        self._pairs: list[tuple[str, str]] = []
        for name in progress(sorted(captions)):
            try:
                image = decode(self.folder / name, image_size)
            except Unusable as fault:
                self._skip(name, fault)
                continue
            self._pairs += [(name, caption) for caption in captions[name]]
            if keep:
                self._images[name] = image
        if not self._pairs:
            why = f"no picture with a caption is left; {len(self.skipped)} left out"
            first = f", the first {one_line(*self.skipped[0])}" if self.skipped else ""
            raise MinidalleError(one_line(self.folder, why + first))

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
            raise MinidalleError(one_line(self.folder, why))
        return sides

    def report(self) -> str:
        """A line for each file left out, then a line that counts."""
        lines = [one_line(path, reason) for path, reason in self.skipped]
        pictures = len({name for name, _ in self._pairs})
        count = f"{pictures} pictures with {len(self)} captions; {len(lines)} files left out"
        return "\n".join([*lines, count])

    # --- How the index is made ---

    def _skip(self, name: str, reason: object) -> None:
        self.skipped.append((self.folder / name, str(reason)))
        if self.strict:
            raise MinidalleError(one_line(*self.skipped[-1]))

    def _refuse_outside(self, name: str, source: str) -> None:
        """Nothing may lead out of the folder: the user's other files are not training data."""
        try:
            real = Path(os.path.realpath(self.folder / name))
            inside = real.is_relative_to(os.path.realpath(self.folder))
        except ValueError:  # a NUL in the name
            inside = False
        if not inside or re.search("(^|/)[A-Za-z]:", name):  # C:x, a path on a Windows drive
            why = f"“{name}” is not within {self.folder}; copy the picture there"
            raise MinidalleError(one_line(source, why))

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
            raise MinidalleError(one_line(self.folder, why))
        if not texts and not tables:
            why = "no captions; put cat.txt beside cat.png, or write metadata.csv: file_name,text"
            raise MinidalleError(one_line(self.folder, why))
        if len({posixpath.dirname(table) for table in tables}) < len(tables):
            why = "metadata.jsonl and metadata.csv side by side; keep one"
            raise MinidalleError(one_line(self.folder, why))
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
                text = read_text((self.folder / texts[stem]).read_bytes())
                captions[name] = [clean_caption(text, line=1)]
            except (OSError, Unusable) as fault:
                self._skip(name, f"{posixpath.basename(texts[stem])}, {why(fault)}")
        for stem in sorted(texts.keys() - used):
            self._skip(texts[stem], "no picture of this name beside it; add one or remove this")
        return captions

    def _read_table(self, table: str) -> Iterator[tuple[str, str | None]]:
        """(picture, caption) for each row; one that cannot be used is skipped, its caption None."""
        path = self.folder / table
        try:
            for line, row in TABLES[path.name](read_text(path.read_bytes())):
                given = row.get("file_name")
                if not isinstance(given, str) or not given:
                    raise Unusable(f"line {line}: no file_name; name the picture")
                given = given.replace("\\", "/")  # written on Windows
                name = posixpath.normpath(posixpath.join(posixpath.dirname(table), given))
                self._refuse_outside(name, f"{path}, line {line}")
                try:
                    caption = clean_caption(row.get("text", row.get("caption")), line)
                    if not os.path.isfile(self.folder / name):
                        raise Unusable(f"line {line}: no such picture; add it or drop the line")
                except Unusable as fault:
                    caption = None
                    self._skip(name, f"{table}, {fault}")
                yield name, caption
        except (OSError, Unusable) as fault:
            raise MinidalleError(one_line(path, why(fault))) from fault
