"""Is the judge fair on what the bundle draws? `python -m tests.benchmarks.verdicts [OUT.png]`

A sheet of 48 first drawings of validation captions, the first 24 that the judge calls right and the
first 24 that it calls wrong, each with its caption and its reason, to be looked at one by one.
"""

import sys
from pathlib import Path
from textwrap import wrap

from PIL import Image, ImageDraw
from tqdm import tqdm

from minidalle import MiniDALLE, Storybook, judge
from minidalle.contact_sheet import FAINT, PAPER, TEXT, enlarge, write
from minidalle.tensors import to_uint8

EACH, COLUMNS, SIDE, GAP, FOOT, LETTERS = 24, 8, 168, 14, 88, 27


def collect() -> list[tuple]:
    """(picture, caption, verdict), the right ones first."""
    model, book = MiniDALLE.load(device="cpu"), Storybook()
    found: dict[bool, list] = {True: [], False: []}
    with tqdm(total=2 * EACH, unit="picture") as bar:
        i = 0
        while any(len(kept) < EACH for kept in found.values()):
            caption = book.caption("validation", i)
            _, images = model.candidates(caption, 1, i)
            verdict = judge.score(to_uint8(images)[0], caption)
            if len(found[verdict.right]) < EACH:
                found[verdict.right].append((to_uint8(images)[0], caption, verdict))
                bar.update()
            i += 1
    return found[True] + found[False]


def sheet(entries: list[tuple]) -> Image.Image:
    """The pictures in rows; under each its number, its caption, and what the judge says."""
    rows = -(-len(entries) // COLUMNS)
    size = (GAP + COLUMNS * (SIDE + GAP), GAP + rows * (SIDE + FOOT + GAP))
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    for i, (image, caption, verdict) in enumerate(entries):
        x, y = GAP + i % COLUMNS * (SIDE + GAP), GAP + i // COLUMNS * (SIDE + FOOT + GAP)
        page.paste(enlarge(image, SIDE), (x, y))
        told = "right" if verdict.right else "; ".join(verdict.reasons)
        lines = [(line, TEXT) for line in wrap(f"{i + 1}. {caption}", LETTERS)]
        lines += [(line, FAINT) for line in wrap(told, LETTERS)]
        for n, (line, colour) in enumerate(lines[:6]):
            write(draw, (x, y + SIDE + 3 + 14 * n), line, 12, colour)
    return page


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "verdicts.png")
    sheet(collect()).save(out)  # all its colours: a palette lends one to its neighbour
    print(out)
