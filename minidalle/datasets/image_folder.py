"""Folders of real pictures with captions, prepared for training.

The storybook world has no bad pictures. A real folder has rotated photos, CMYK, transparency,
incomplete downloads, and captions in other encodings than UTF-8. Each file is either converted or
listed with the reason why not:

    picture ─ size check ─ decoding ─ upright RGB, over white ─ centre square ─ uint8 S × S × 3
    caption ─ UTF-8, or an error: a model would learn wrongly decoded text as if it were language

A caption is in a text file with the name of its picture (`cat.png`, `cat.txt`), or in a table:
`metadata.jsonl` or `metadata.csv` with `file_name` and `text`, the layout of Hugging Face's
imagefolder. `CaptionedImageFolder.report()` lists the files that were left out.
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
from minidalle.datasets.problems import Unusable, describe_error, format_problem
from minidalle.errors import MinidalleError

KEEP_BYTES = 1_000_000_000  # squares stay in memory if their total size is at most this
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"}
FOREIGN = {".heic", ".heif", ".avif", ".svg", ".psd"}  # not decoded, but listed


class CaptionedImageFolder:
    """An indexed set of (image, caption) pairs, sorted by file name.

    Indexing decodes every picture once, so that a bad one is found before training begins. A
    picture on several lines of a table gives several pairs. A table takes precedence over a `.txt`
    file. Hidden files are ignored.

        pairs = CaptionedImageFolder("holiday", image_size=32, progress=tqdm)
        pairs.image(0), pairs.caption(0)  # uint8 32 32 3, "a red boat"
        training, validation = pairs.split(0.1)

    Args:
        folder: the folder; its subfolders are included.
        image_size: side of the square images, ≥ 1 pixel.
        strict: raise an error instead of leaving a file out.
        progress: wraps the list of names during decoding, as `tqdm` does.

    Raises:
        MinidalleError: there is no folder, no picture or no caption; a table is malformed; a name
            or a link points outside the folder. With `strict`, also: a file cannot be used.
    """

    skipped: list[tuple[Path, str]]  # the files that were left out, and the reasons

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
            raise MinidalleError(f"image_size must be ≥ 1 pixel, got {image_size}; try 48")
        if not self.folder.is_dir():
            raise MinidalleError(
                format_problem(self.folder, "no such folder; name one that holds pictures")
            )
        captions = self._read_captions(list(self._walk()))
        keep = len(captions) * 3 * image_size**2 <= KEEP_BYTES
        self._images: dict[str, np.ndarray] = {}
        self._pairs: list[tuple[str, str]] = []
        for name in progress(sorted(captions)):
            try:
                image = decode(self.folder / name, image_size)
            except Unusable as error:
                self._skip(name, error)
                continue
            self._pairs += [(name, caption) for caption in captions[name]]
            if keep:
                self._images[name] = image
        if not self._pairs:
            problem = f"no picture with a caption is left; {len(self.skipped)} left out"
            if self.skipped:
                problem += f", the first {format_problem(*self.skipped[0])}"
            raise MinidalleError(format_problem(self.folder, problem))

    def __len__(self) -> int:
        return len(self._pairs)

    def image(self, i: int) -> np.ndarray:
        """Image i as a new array: uint8, H W 3 with H = W = image_size, values 0 … 255."""
        name, _ = self._pairs[i]
        if name in self._images:
            return self._images[name].copy()
        return load_image(self.folder / name, self.image_size)

    def caption(self, i: int) -> str:
        """Caption i: one line, never empty."""
        return self._pairs[i][1]

    def split(self, validation: float = 0.1) -> tuple[Sequence[int], Sequence[int]]:
        """Indices for training and for validation.

        A hash of the picture's name decides. Adding pictures does not move the others, and all
        captions of a picture are in one split. With few pictures, validation may be empty.

        Args:
            validation: expected share of validation pictures, 0 ≤ validation < 1.

        Raises:
            MinidalleError: no picture is left for training.
        """
        if not 0 <= validation < 1:
            raise MinidalleError(f"validation must be in [0, 1), got {validation}; try 0.1")
        sides: tuple[list[int], list[int]] = ([], [])
        for i, (name, _) in enumerate(self._pairs):
            name = unicodedata.normalize(
                "NFC", name
            )  # macOS may write é as e and a combining accent
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
            sides[int.from_bytes(digest[:8], "big") < validation * 2**64].append(i)
        if not sides[0]:
            problem = "all pictures are in validation; add some, or set validation to 0"
            raise MinidalleError(format_problem(self.folder, problem))
        return sides

    def report(self) -> str:
        """A line per file left out, then a line with the counts."""
        lines = [format_problem(path, reason) for path, reason in self.skipped]
        pictures = len({name for name, _ in self._pairs})
        count = f"{pictures} pictures with {len(self)} captions; {len(lines)} files left out"
        return "\n".join([*lines, count])

    # --- Indexing ---

    def _skip(self, name: str, reason: object) -> None:
        self.skipped.append((self.folder / name, str(reason)))
        if self.strict:
            raise MinidalleError(format_problem(*self.skipped[-1]))

    def _check_inside(self, name: str, source: str) -> None:
        """Raise an error if a name points outside the folder: other files are not training data."""
        try:
            real = Path(os.path.realpath(self.folder / name))
            inside = real.is_relative_to(os.path.realpath(self.folder))
        except ValueError:  # a NUL in the name
            inside = False
        if not inside or re.search("(^|/)[A-Za-z]:", name):  # C:x, a path on a Windows drive
            problem = f"“{name}” is not within {self.folder}; copy the picture there"
            raise MinidalleError(format_problem(source, problem))

    def _walk(self) -> Iterator[str]:
        """File names relative to the folder (`sub/cat.png`), in the same order on any machine."""

        def skip_unreadable(error: OSError) -> None:
            name = Path(error.filename).relative_to(self.folder).as_posix()
            self._skip(name, f"{error.strerror}; make it readable")

        for top, folders, files in os.walk(self.folder, onerror=skip_unreadable):
            folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
            for entry in folders + sorted(f for f in files if not f.startswith(".")):
                path = Path(top, entry)
                name = path.relative_to(self.folder).as_posix()
                if path.is_symlink():
                    self._check_inside(name, str(path))
                if path.is_file():
                    yield name
                elif entry in files:  # opening a pipe would block
                    self._skip(name, "a dead link or not a regular file; replace or remove it")

    def _read_captions(self, files: list[str]) -> dict[str, list[str]]:
        """The captions of each picture; a picture without one is skipped."""
        pictures = [f for f in files if Path(f).suffix.lower() in PICTURES | FOREIGN]
        texts = {f[:-4]: f for f in files if f.lower().endswith(".txt")}
        tables = [f for f in files if posixpath.basename(f) in TABLES]
        if not pictures and not tables:
            problem = f"no pictures; put some there ({' '.join(sorted(PICTURES))})"
            raise MinidalleError(format_problem(self.folder, problem))
        if not texts and not tables:
            problem = (
                "no captions; put cat.txt next to cat.png, or write metadata.csv: file_name,text"
            )
            raise MinidalleError(format_problem(self.folder, problem))
        if len({posixpath.dirname(table) for table in tables}) < len(tables):
            problem = "metadata.jsonl and metadata.csv in one folder; keep one"
            raise MinidalleError(format_problem(self.folder, problem))
        captions: dict[str, list[str]] = {}
        in_table: set[str] = set()
        used: set[str] = set()
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
                self._skip(name, f"no caption; write {posixpath.basename(stem)}.txt next to it")
                continue
            try:
                text = read_text((self.folder / texts[stem]).read_bytes())
                captions[name] = [clean_caption(text, line=1)]
            except (OSError, Unusable) as error:
                self._skip(name, f"{posixpath.basename(texts[stem])}, {describe_error(error)}")
        for stem in sorted(texts.keys() - used):
            self._skip(texts[stem], "no picture of this name next to it; add one or remove this")
        return captions

    def _read_table(self, table: str) -> Iterator[tuple[str, str | None]]:
        """(picture, caption) of each row; the caption is None if the row cannot be used."""
        path = self.folder / table
        try:
            for line, row in TABLES[path.name](read_text(path.read_bytes())):
                given = row.get("file_name")
                if not isinstance(given, str) or not given:
                    raise Unusable(f"line {line}: no file_name; name the picture")
                given = given.replace("\\", "/")  # written on Windows
                name = posixpath.normpath(posixpath.join(posixpath.dirname(table), given))
                self._check_inside(name, f"{path}, line {line}")
                try:
                    caption: str | None = clean_caption(row.get("text", row.get("caption")), line)
                    if not os.path.isfile(self.folder / name):
                        raise Unusable(f"line {line}: no such picture; add it or drop the line")
                except Unusable as error:
                    caption = None
                    self._skip(name, f"{table}, {error}")
                yield name, caption
        except (OSError, Unusable) as error:
            raise MinidalleError(format_problem(path, describe_error(error))) from error
