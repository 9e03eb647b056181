"""`minidalle data`: make a set of captioned pictures, or look at one before training on it."""

import argparse
import io
import json
import os
import random
import re
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from minidalle.bundle import default_bundle, load_bundle
from minidalle.cli.arguments import check_writable, path
from minidalle.cli.errors import CONTROL, print_note, printable
from minidalle.cli.progress import progress_bar
from minidalle.cli.reading import add_reading_options, read_pictures
from minidalle.contact_sheet import gallery
from minidalle.datasets.emoji import Emoji, write_emoji
from minidalle.datasets.image_folder import CaptionedImageFolder
from minidalle.datasets.problems import count
from minidalle.datasets.survey import Survey, survey_folder
from minidalle.errors import MinidalleError
from minidalle.files import resolve, write_file
from minidalle.normalise import normalise_caption, shorten

SAMPLE, COLUMNS, SIDE = 30, 6, 144  # pictures of a sheet, and their size on it
SHOWN = 20  # problems that are printed
EXAMPLES = 3  # groups of duplicates that are printed
MADE_BY = "minidalle data check"  # in the PNGs of sheets: only those are overwritten unasked


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The command with its two tasks, and their options."""
    p = commands.add_parser("data", help="make or check a set of captioned pictures")
    tasks = p.add_subparsers(dest="task", required=True)
    e = tasks.add_parser("emoji", help="write captioned emoji, English and Chinese, to train on")
    e.set_defaults(run=emoji)
    e.add_argument("out", type=path, metavar="OUT", help="a new or an empty folder")
    e.add_argument("--size", type=int, default=96, help="pixels across a picture (96)")
    c = tasks.add_parser("check", help="count what a folder of pictures holds; draw a sheet of it")
    c.set_defaults(run=check)
    c.add_argument("data", type=path, metavar="FOLDER", help="whatever train --data reads")
    add_reading_options(c)
    c.add_argument("--sheet", type=path, metavar="FILE",
                   help="picture file for a sample (FOLDER's name and .png)")  # fmt: skip
    c.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def emoji(args: argparse.Namespace) -> None:
    """Write the emoji, and print where."""

    def bar(items: list[Emoji]) -> Iterable[Emoji]:
        return progress_bar(items, total=len(items), desc="drawing emoji", unit="picture")

    pictures = write_emoji(args.out, args.size, bar)
    print(
        f"{printable(args.out)}: {pictures} pictures with {2 * pictures} captions, English and"
        " Chinese\ndrawings by OpenMoji, CC BY-SA 4.0: keep ATTRIBUTION.md and LICENSE with them"
    )


# --- Check ----------------------------------------------------------------------------------------


def check(args: argparse.Namespace) -> None:
    """Read the pictures as a training would, count, draw the sheet, and print."""
    sheet = _sheet_file(args.data, args.sheet)
    bundle = load_bundle(default_bundle())
    max_tokens = min(bundle.prior.config.text_length, bundle.clip.config.text_length)
    with tempfile.TemporaryDirectory(prefix="minidalle-", ignore_cleanup_errors=True) as scratch:
        try:
            folder = read_pictures(args, Path(scratch), bundle.dvae.config.image_size)
        except MinidalleError as error:
            raise MinidalleError(_without_scratch(str(error), scratch, args.data)) from error

        def num_tokens(caption: str) -> int:
            return len(bundle.tokenizer.encode(normalise_caption(caption)))

        survey = survey_folder(folder, num_tokens, max_tokens)
        if sheet:
            write_file(sheet, _draw_sheet(folder, sheet.suffix))
    problems = [_without_scratch(line, scratch, args.data) for line in survey.problems]
    survey = survey._replace(problems=problems)
    if args.json:
        text = json.dumps(_document(survey, args.data, sheet), indent=2, ensure_ascii=False)
        print(CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text))
    else:
        lines = (f"{name:11} {text}" for name, text in _lines(survey, folder, max_tokens, sheet))
        print(printable("\n".join([printable(args.data), *lines])))


def _sheet_file(data: Path, asked: Path | None) -> Path | None:
    """Where the sheet goes; None where its usual place is taken, or is among the pictures.

    Raises MinidalleError if the place that was asked for cannot be written, or is among the
    pictures.
    """
    real = resolve(data)
    sheet = asked or Path(f"{(real.stem if real.is_file() else real.name) or 'pictures'}.png")
    if real in (resolve(sheet.parent), *resolve(sheet.parent).parents):
        problem = f"the sheet would be among the pictures of {data}"
    elif asked is None and sheet.exists() and not _is_ours(sheet):
        problem = f"{sheet} exists already, and no earlier check made it"
    else:
        check_writable(sheet, is_picture=True)
        return sheet
    if asked:
        raise MinidalleError(f"{problem}; name a file elsewhere with --sheet")
    print_note(f"no sheet is drawn: {problem}; name a file with --sheet")
    return None


def _is_ours(file: Path) -> bool:
    """Whether an earlier check made this sheet."""
    try:
        with Image.open(file, formats=["PNG"]) as image:
            return image.info.get("Software") == MADE_BY
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _draw_sheet(folder: CaptionedImageFolder, suffix: str) -> bytes:
    """A picture file with a sample of the pairs, the same for the same data."""
    chosen = random.Random(0).sample(range(len(folder)), min(SAMPLE, len(folder)))
    with warnings.catch_warnings(record=True) as caught:  # one note, and not one per caption
        warnings.simplefilter("always")
        sheet = gallery(
            [folder.image(i) for i in sorted(chosen)],
            [folder.caption(i) for i in sorted(chosen)],
            COLUMNS, SIDE,
        )  # fmt: skip
    if caught:
        print_note(caught[0].message)
    kind = Image.registered_extensions()[suffix.lower()]
    mark = PngImagePlugin.PngInfo()
    mark.add_text("Software", MADE_BY)
    data = io.BytesIO()
    try:
        sheet.save(data, kind, **({"pnginfo": mark} if kind == "PNG" else {}))
    except (OSError, ValueError, KeyError) as error:
        raise MinidalleError(f"a sheet cannot be a {suffix} file: {error}; use .png") from error
    return data.getvalue()


def _without_scratch(line: str, scratch: str, data: Path) -> str:
    """A problem of an unpacked file under the archive's name: the scratch folder is gone."""
    folder = re.escape(str(Path(scratch) / Path(os.path.abspath(data)).stem)) + "-[0-9a-f]{8}"
    return re.sub(folder, lambda _: str(data), line)


# --- Print ----------------------------------------------------------------------------------------


def _document(survey: Survey, data: Path, sheet: Path | None) -> dict[str, Any]:
    parts = {
        name: part._asdict() if hasattr(part, "_asdict") else part
        for name, part in survey._asdict().items()
    }
    return {"data": str(data), **parts, "sheet": str(sheet) if sheet else None}


def _lines(
    survey: Survey, folder: CaptionedImageFolder, max_tokens: int, sheet: Path | None
) -> Iterable[tuple[str, str]]:
    """The result in lines: what, and how much."""
    sizes, crop, twice = survey.sizes, survey.crop, survey.duplicates
    if sizes.different == 1:
        yield "pictures", f"{survey.pictures:,}, {_pixels(sizes.usual)}"
    else:
        yield (
            "pictures",
            (
                f"{survey.pictures:,}, {_pixels(sizes.smallest)} to {_pixels(sizes.largest)};"
                f" {sizes.different:,} sizes, {sizes.num_usual:,} are {_pixels(sizes.usual)}"
            ),
        )
    if folder.crop == "pad":
        yield "crop", "none: each is padded with white"
    elif crop.share == 0:
        yield "crop", "none: all are square"
    else:
        yield (
            "crop",
            (
                f"the centre square cuts more than a fifth of {count(crop.cut_much, 'picture')}; at"
                f" most {crop.share:.0%}, of {crop.name}"
            ),
        )
    yield "captions", f"{survey.captions:,}, {survey.captions / survey.pictures:.1f} per picture"
    yield "languages", "; ".join(f"{name} {n:,}" for name, n in survey.languages.items())
    yield "words", f"{_range(survey.words)} per caption; a Chinese character counts as one"
    yield (
        "tokens",
        (
            f"{_range(survey.tokens)} per caption, with the bundle that ships; it cuts"
            f" {count(survey.too_long, 'caption')} at {max_tokens} tokens"
        ),
    )
    most = [f"“{shorten(text, 40)}” {n:,} times" for text, n in survey.repeated.items()]
    yield "repeated", _some(len(most), "caption", most[:EXAMPLES])
    exact, near = (
        [f"{group[0]} = {', '.join(group[1:3])}{' …' if len(group) > 3 else ''}" for group in some]
        for some in (twice.exact, twice.near)
    )
    yield "duplicates", _some(len(exact), "group", exact[:EXAMPLES])
    yield "near ones", _some(len(near), "group", [x.replace(" = ", " ≈ ") for x in near[:EXAMPLES]])
    if twice.compared < survey.pictures - sum(len(group) - 1 for group in twice.exact):
        yield "", f"(among the first {twice.compared:,} pictures)"
    yield "problems", str(len(survey.problems) or "none")
    for line in survey.problems[:SHOWN]:
        yield "", line
    if len(survey.problems) > SHOWN:
        yield "", f"… and {len(survey.problems) - SHOWN:,} more; --json lists all"
    yield "sheet", str(sheet or "none")


def _pixels(size: Sequence[int]) -> str:
    return f"{size[0]} × {size[1]}"


def _range(spread: Any) -> str:
    return f"{spread.least} to {spread.most}, median {spread.median:g}"


def _some(number: int, thing: str, examples: list[str]) -> str:
    """`2 groups: a = b; c = d`."""
    if not number:
        return "none"
    dots = "; …" if number > len(examples) else ""
    return f"{count(number, thing)}: {'; '.join(examples)}{dots}"
