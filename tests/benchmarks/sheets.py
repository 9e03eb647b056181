"""Sheets to look at: `python -m tests.benchmarks.sheets OUT [--bundle DIR | --dvae CHECKPOINT]`.

    world.png        every kind in every colour
    dvae.png         the same pictures, each beside its reconstruction
    drawings.png     the first drawing of a caption for each of them; pairs never shown are framed
    held-out.png     24 captions of held-out pairs, four different drawings each
    nearest.png      24 drawings, each beside the nearest of 20,000 training pictures

With a checkpoint of a dVAE only the first two are made.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from tqdm import tqdm

from minidalle import MiniDALLE, Storybook
from minidalle.contact_sheet import PAPER, TEXT, enlarge, write
from minidalle.dvae import DVAE, DVAEConfig
from minidalle.tensors import to_tensor, to_uint8
from minidalle.training import checkpoint
from minidalle.world.facts import COLOURS, KINDS, PLACES, SIZES, Facts, Thing
from minidalle.world.scenes import HELD_OUT, lay_out, render

SIDE, GAP, LEFT, TOP = 96, 6, 84, 22
CPU = torch.device("cpu")
NUM_TRAINING = 20_000


def table(rows: Sequence[Sequence[np.ndarray]], names: Sequence[str], heads: Sequence[str],
          framed: set[tuple[int, int]] = frozenset()) -> Image.Image:  # fmt: skip
    """Pictures in rows, each row with a name and each column with a head; some have a frame."""
    width = LEFT + max(map(len, rows)) * (SIDE + GAP)
    page = Image.new("RGB", (width, TOP + len(rows) * (SIDE + GAP)), PAPER)
    draw = ImageDraw.Draw(page)
    for column, head in enumerate(heads):
        write(draw, (LEFT + column * (SIDE + GAP), 4), head, 12, TEXT, SIDE)
    for r, (row, name) in enumerate(zip(rows, names, strict=True)):
        y = TOP + r * (SIDE + GAP)
        write(draw, (4, y + SIDE // 2 - 8), name, 12, TEXT, LEFT - 8)
        for c, image in enumerate(row):
            x = LEFT + c * (SIDE + GAP)
            page.paste(enlarge(image, SIDE), (x, y))
            if (r, c) in framed:
                draw.rectangle(
                    (x - 2, y - 2, x + SIDE + 1, y + SIDE + 1), outline="#D55E00", width=2
                )
    return page


def scenes() -> list[list[np.ndarray]]:
    """A picture of each kind, a row, in each colour; sizes and places by chance."""
    rng = random.Random(0)

    def picture(kind: str, colour: str) -> np.ndarray:
        thing = Thing(kind, colour, rng.choice(SIZES))
        return render(lay_out(Facts((thing,), None, rng.choice(PLACES)), rng))

    return [[picture(kind, colour) for colour in COLOURS] for kind in KINDS]


@torch.no_grad()
def reconstructed(dvae: DVAE, rows: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """Each picture, and what the dVAE makes of it, side by side."""
    out = []
    for row in rows:
        again = to_uint8(dvae.decode(dvae.encode(to_tensor(row, CPU))))
        out.append([image for pair in zip(row, again, strict=True) for image in pair])
    return out


def drawings(model: MiniDALLE) -> list[list[np.ndarray]]:
    """The first drawing of "a COLOUR KIND on the grass"."""
    return [
        [
            to_uint8(model.candidates(f"a {colour} {kind} on the grass", 1, 0)[1])[0]
            for colour in COLOURS
        ]
        for kind in tqdm(KINDS, "drawings")
    ]


def held_out(model: MiniDALLE, n: int = 24) -> Image.Image:
    """Captions of the split `compositions`, with four different drawings each, best first."""
    captions = [Storybook().caption("compositions", i, ("en", "zh")[i % 2]) for i in range(n)]
    rows = [list(model.generate(caption, 32, 4).images) for caption in tqdm(captions, "held out")]
    half = n // 2
    pages = [
        table(rows[i : i + half], [str(k + 1) for k in range(i, i + half)], []) for i in (0, half)
    ]
    page = Image.new("RGB", (sum(p.width for p in pages), pages[0].height + 18 * n), PAPER)
    page.paste(pages[0], (0, 0))
    page.paste(pages[1], (pages[0].width, 0))
    draw = ImageDraw.Draw(page)
    for i, caption in enumerate(captions):
        write(draw, (8, pages[0].height + 18 * i), f"{i + 1}. {caption}", 13, TEXT)
    return page


@torch.no_grad()
def nearest(model: MiniDALLE, n: int = 24) -> Image.Image:
    """First drawings of validation captions, each with the training picture nearest to CLIP."""
    book = Storybook()
    drawn = torch.cat([
        model.candidates(book.caption("validation", i), 1, i)[1] for i in range(n)
    ])  # fmt: skip
    wanted = model.clip.encode_image(drawn)
    best, found = torch.full((n,), -2.0), [np.zeros(0)] * n
    for start in tqdm(range(0, NUM_TRAINING, 200), "training pictures"):
        images = [book.image("train", i) for i in range(start, start + 200)]
        near, which = (wanted @ model.clip.encode_image(to_tensor(images, CPU)).T).max(1)
        for i in (near > best).nonzero()[:, 0].tolist():
            best[i], found[i] = near[i], images[which[i]]
    pairs = [image for pair in zip(to_uint8(drawn), found, strict=True) for image in pair]
    rows = [pairs[i : i + 12] for i in range(0, 2 * n, 12)]
    return table(rows, [""] * len(rows), ["drawn", "nearest"] * 6)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sheets")
    parser.add_argument("out", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--dvae", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model = None
    if args.dvae:
        tensors, metadata = checkpoint.load(args.dvae)
        config = metadata["model_config"]
        dvae = DVAE(DVAEConfig(**{**config, "widths": tuple(config["widths"])})).eval()
        dvae.load_state_dict(tensors["ema"])
    else:
        model = MiniDALLE.load(args.bundle, device="cpu")
        dvae = model.dvae
    rows, heads = scenes(), list(COLOURS)
    table(rows, KINDS, heads).save(args.out / "world.png")
    doubled = [head for name in heads for head in (name, "")]
    table(reconstructed(dvae, rows), KINDS, doubled).save(args.out / "dvae.png")
    if model:
        unseen = {(KINDS.index(k), heads.index(c)) for k, c in HELD_OUT}
        table(drawings(model), KINDS, heads, unseen).save(args.out / "drawings.png")
        held_out(model).save(args.out / "held-out.png")
        nearest(model).save(args.out / "nearest.png")


if __name__ == "__main__":
    main()
