"""Folders of real pictures with captions, prepared for training.

The storybook world has no bad pictures. A real folder has rotated photos, CMYK, transparency,
incomplete downloads, and captions in other encodings than UTF-8. Each file is either converted or
listed with the reason why not:

    picture ─ size check ─ decoding ─ upright RGB, over white ─ square ─ uint8 S × S × 3
    caption ─ UTF-8, or an error: a model would learn wrongly decoded text as if it were language

Captions are in a text file with the name of their picture (`cat.png`, `cat.txt`), one per line, or
in a table: `metadata.jsonl` or `metadata.csv` with `file_name` and `text`, the layout of Hugging
Face's imagefolder. `CaptionedImageFolder.report()` lists the files that were left out.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from minidalle.datasets.captions import FolderCaptions
from minidalle.datasets.concepts import group_concepts
from minidalle.datasets.duplicates import DuplicateFinder, Duplicates
from minidalle.datasets.folder_files import walk
from minidalle.datasets.images import CROPS, decode, load_image
from minidalle.datasets.matching import nfc
from minidalle.datasets.problems import Unusable, count, format_problem
from minidalle.errors import MinidalleError

KEEP_BYTES = 1_000_000_000  # squares stay in memory if their total size is at most this
MUCH = 0.2  # the share of a picture that a crop may cut without a word


class CaptionedImageFolder:
    """An indexed set of (image, caption) pairs, sorted by file name.

    Indexing decodes every picture once, so that a bad one is found before training begins. A
    picture with several captions gives several pairs. A table takes precedence over a `.txt` file.
    Hidden files are ignored.

        pairs = CaptionedImageFolder("holiday", image_size=32, progress=tqdm)
        pairs.image(0), pairs.caption(0)  # uint8 32 32 3, "a red boat"
        training, validation, test = pairs.split(0.1, 0.1)

    Args:
        folder: the folder; its subfolders are included.
        image_size: side of the square images, ≥ 1 pixel.
        strict: raise an error instead of leaving a file out.
        progress: wraps the list of names during decoding, as `tqdm` does.
        caption_column: the tables' column of captions; None for `text` or `caption`.
        crop: "centre" for the centre square of a picture, "pad" for all of it, on white.

    Raises:
        MinidalleError: there is no folder, no picture or no caption; a table is malformed; a name
            or a link points outside the folder. With `strict`, also: a file cannot be used.
    """

    skipped: list[tuple[Path, str]]  # the files that were left out, and the reasons
    sizes: dict[str, tuple[int, int]]  # width and height of each picture's file, upright
    digest: str  # SHA-256 of all names, pixels and captions: the same for the same training data

    def __init__(
        self,
        folder: Path,
        image_size: int,
        *,
        strict: bool = False,
        progress: Callable[[Iterable[str]], Iterable[str]] = iter,
        caption_column: str | None = None,
        crop: str = "centre",
    ) -> None:
        self.folder = Path(folder).expanduser()
        self.image_size, self.strict, self.crop = image_size, strict, crop
        self.skipped = []
        if image_size < 1:
            raise MinidalleError(f"image_size must be ≥ 1 pixel, got {image_size}; try 48")
        if crop not in CROPS:
            raise MinidalleError(f'crop must be "centre" or "pad", got {crop!r}; try "pad"')
        if caption_column in ("", "file_name"):
            raise MinidalleError(
                "caption_column must name the column of the captions, got"
                f" {caption_column!r}; leave it out for “text” or “caption”"
            )
        if not self.folder.is_dir():
            raise MinidalleError(
                format_problem(self.folder, "no such folder; name one that holds pictures")
            )
        files = list(walk(self.folder, self._skip))
        captions = FolderCaptions(self.folder, files, self._skip, caption_column)
        self._others = captions.others
        self._index(captions.by_picture, progress)
        if not self._pairs:
            problem = f"no picture with a caption is left; {len(self.skipped)} left out"
            if self.skipped:
                problem += f", the first {format_problem(*self.skipped[0])}"
            raise MinidalleError(format_problem(self.folder, problem))

    def _index(
        self,
        captions: dict[str, list[str]],
        progress: Callable[[Iterable[str]], Iterable[str]],
    ) -> None:
        """Decode every picture once."""
        keep = len(captions) * 3 * self.image_size**2 <= KEEP_BYTES
        self._images: dict[str, np.ndarray] = {}
        self._pairs: list[tuple[str, str]] = []
        self.sizes = {}
        self._cut = 0  # pictures of which a crop cuts much
        self._finder = DuplicateFinder()
        digest = hashlib.sha256()
        # by their NFC form, since a Mac may spell a name otherwise
        for name in progress(sorted(captions, key=lambda name: (nfc(name), name))):
            try:
                image, cut, size = decode(self.folder / name, self.image_size, self.crop)
            except Unusable as error:
                self._skip(name, error)
                continue
            self._pairs += [(name, caption) for caption in captions[name]]
            self.sizes[name] = size
            self._cut += cut > MUCH
            self._finder.add(name, image)
            if keep:
                self._images[name] = image
            # a hash of hashes, so that no part can run into the next
            for part in (_encode(nfc(name)), image.tobytes(), *map(_encode, captions[name])):
                digest.update(hashlib.sha256(part).digest())
            digest.update(b"\n")
        self.digest = digest.hexdigest()

    def _skip(self, name: str, reason: object) -> None:
        self.skipped.append((self.folder / name, str(reason)))
        if self.strict:
            raise MinidalleError(format_problem(*self.skipped[-1]))

    def __len__(self) -> int:
        return len(self._pairs)

    def name(self, i: int) -> str:
        """The file of image i, relative to the folder."""
        return self._pairs[i][0]

    def image(self, i: int) -> np.ndarray:
        """Image i as a new array: uint8, H W 3 with H = W = image_size, values 0 … 255."""
        name, _ = self._pairs[i]
        if name in self._images:
            return self._images[name].copy()
        return load_image(self.folder / name, self.image_size, self.crop)

    def caption(self, i: int) -> str:
        """Caption i: one line, never empty."""
        return self._pairs[i][1]

    def split(
        self, validation: float = 0.1, test: float = 0.0
    ) -> tuple[list[int], list[int], list[int]]:
        """Indices for training, for validation and for a test.

        Pictures of one concept are in one split: duplicates, and pictures that share a caption
        (`concepts`). A hash of their names, relative to the folder, decides which. Moving the
        folder changes nothing, and adding pictures moves at most those that a new one is like. With
        few pictures, validation and test may be empty.

        Args:
            validation, test: expected shares of the pictures, each in [0, 1), less than 1 together.

        Raises:
            MinidalleError: no picture is left for training.
        """
        if not (validation >= 0 and test >= 0 and validation + test < 1):
            raise MinidalleError(
                f"validation and test must be ≥ 0 and less than 1 together, got {validation} and"
                f" {test}; try 0.1 and 0.1"
            )
        place: dict[str, float] = {}
        for names in group_concepts(self._pairs, self.duplicates()):
            digests = sorted(hashlib.sha256(_encode(nfc(name))).digest() for name in names)
            # Of several, the least is chosen, and hashed again: a least number is a small one.
            digest = digests[0] if len(names) == 1 else hashlib.sha256(digests[0]).digest()
            place |= dict.fromkeys(names, int.from_bytes(digest[:8], "big") / 2**64)
        sides: tuple[list[int], list[int], list[int]] = ([], [], [])
        for i, (name, _) in enumerate(self._pairs):
            at = place[name]
            sides[1 if at < validation else 2 if at < validation + test else 0].append(i)
        if not sides[0]:
            problem = "no picture is left for training; add some, or set validation to 0"
            raise MinidalleError(format_problem(self.folder, problem))
        return sides

    def duplicates(self) -> Duplicates:
        """Pictures that occur twice, exactly or nearly."""
        return self._finder.find()

    def report(self) -> str:
        """A line per file left out, lines on what else may surprise, and a line with the counts."""
        lines = [format_problem(path, reason) for path, reason in self.skipped]
        notes = [self._others] if self._others else []
        if self._cut and self.crop == "centre":
            notes.append(
                f"a centre crop cuts more than a fifth of {count(self._cut, 'picture')};"
                ' crop="pad" (--crop pad) keeps all'
            )
        pictures = count(len({name for name, _ in self._pairs}), "picture")
        captions = count(len(self), "caption")
        total = f"{pictures} with {captions}; {count(len(lines), 'file')} left out"
        return "\n".join(" ".join(line.splitlines()) for line in [*lines, *notes, total])


def _encode(text: str) -> bytes:
    """As UTF-8; the name of a file may contain bytes that are none."""
    return text.encode("utf-8", "surrogatepass")
