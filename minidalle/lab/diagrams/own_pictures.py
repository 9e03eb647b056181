"""Pictures of one's own: how a bundle grows for them, and how they are split."""

import numpy as np
import torch

from minidalle.datasets.concepts import group_concepts
from minidalle.datasets.duplicates import Duplicates
from minidalle.lab.diagrams.canvas import (
    ACCENT,
    CAPTION,
    CODE,
    FAINT,
    SMALL,
    Box,
    Canvas,
    heat,
    tint,
)
from minidalle.lab.diagrams.examples import prototype_dvae, prototypes, tokenizer
from minidalle.lab.figures import Picture
from minidalle.lab.icons import draw_icon
from minidalle.training.growing import grow_tokenizer
from minidalle.training.presets import FULL
from minidalle.world.facts import COLOURS

# Files of a folder: name → (kind, colour, style, caption). One is a copy of another, saved again
# under a new caption; two share a caption in different styles.
FILES = {
    "heart.png": ("heart", "red", "sticker", "red heart"),
    "boat.png": ("boat", "blue", "badge", "blue boat"),
    "star.png": ("star", "yellow", "sticker", "yellow star"),
    "car.png": ("car", "green", "sticker", "green car"),
    "heart_2.jpg": ("heart", "red", "sticker", "I like it"),
    "star_badge.png": ("star", "yellow", "badge", "yellow star"),
}
BY_FILE = {"train": ("heart.png", "boat.png", "star.png"), "validation": ("car.png",),
           "test": ("heart_2.jpg", "star_badge.png")}  # fmt: skip
BY_CONCEPT = {"train": ("heart.png", "heart_2.jpg", "boat.png"), "validation": ("car.png",),
              "test": ("star.png", "star_badge.png")}  # fmt: skip
WORD = "hedgehog"  # that no caption of the storybook has


def splits_by_concept() -> Picture:
    """Six files in three splits: chosen file by file, twins leak; chosen by concept, none does."""
    pairs = [(name, caption) for name, (*_, caption) in FILES.items()]
    copies = Duplicates([], [["heart.png", "heart_2.jpg"]], len(FILES))
    twins = [group for group in group_concepts(pairs, copies) if len(group) > 1]
    assert all(any({*group} <= {*names} for names in BY_CONCEPT.values()) for group in twins)
    sheet = Canvas(880, 366)
    left = {"train": 130.0, "validation": 470.0, "test": 610.0}
    width = {"train": 320.0, "validation": 120.0, "test": 220.0}
    for split, x in left.items():
        sheet.text(x + width[split] / 2, 20, split, bold=True)
    for row, (title, splits) in enumerate((("file by file", BY_FILE), ("by concept", BY_CONCEPT))):
        top = 44 + 184 * row
        sheet.text(16, top + 62, title, ha="left", bold=True)
        at: dict[str, Box] = {}
        for split, names in splits.items():
            sheet.box(left[split] + width[split] / 2, top + 62, width[split], 124)
            step = width[split] / len(names)
            for i, name in enumerate(names):
                x = left[split] + step * (i + 0.5)
                kind, colour, style, caption = FILES[name]
                icon = draw_icon(kind, COLOURS[colour], style)
                at[name] = sheet.image(x - 32, top + 12, 64, icon)
                sheet.text(x, top + 90, f"“{caption}”", SMALL, CAPTION)
                sheet.note(x, top + 108, name)
        for group in twins:
            a, b = (at[name] for name in group)
            is_together = any({*group} <= {*names} for names in splits.values())
            for box in (a, b):
                sheet.frame(box, CODE if is_together else ACCENT, 2.2)
            if not is_together:
                drop = 132 + 12 * twins.index(group)
                sheet.path([(a.x, top + 121), (a.x, top + drop), (b.x, top + drop),
                            (b.x, top + 121)], ACCENT, 1.6, dashed=True)  # fmt: skip
        if row == 0:
            sheet.text(530, top + 160, "two answers were seen in training", SMALL, ACCENT)
    return sheet.picture(
        "Six picture files in the splits train, validation and test. Chosen file by file, a copy of"
        " the training's heart and a badge of its yellow star are in the test, and two answers were"
        " seen in training. Chosen by concept, copies and pictures of one caption stay in the same"
        " split."
    )


def growing() -> Picture:
    """What is added to a trained bundle: merges, prototypes, and rows of embeddings."""
    old = tokenizer()
    new = grow_tokenizer(old, [WORD, WORD], 16)
    spelt, whole = old.tokens(WORD), new.tokens(WORD)
    sheet = Canvas(880, 330)
    sheet.text(140, 22, "tokenizer", bold=True)
    _tokens(sheet, 140, 84, spelt, tint(CAPTION, 0.15))
    _tokens(sheet, 140, 204, whole, tint(ACCENT, 0.25))
    sheet.note(140, 54, f"before: {len(spelt)} tokens")
    sheet.note(140, 236, f"after: {len(whole)} token{'s' * (len(whole) > 1)}")
    sheet.arrow((140, 102), (140, 186), gap=4)
    sheet.text(152, 144, f"+ {len(new.merges) - len(old.merges)} merges", SMALL, ACCENT, ha="left")
    sheet.note(140, 286, "old merges come first:\nold tokens keep their ids")

    sheet.text(420, 22, "dVAE", bold=True)
    kept, added = _codes()
    cell = 30.0
    for part, y in ((kept, 58.0), (added, 178.0)):
        for i, look in enumerate(part):
            x, line = 330 + (cell + 6) * (i % 5), y + (cell + 6) * (i // 5)
            at = sheet.grid(x, line, cell / len(look), look, line=0)
            sheet.frame(at, FAINT if part is kept else ACCENT, 0.8 if part is kept else 1.8)
    sheet.note(420, 142, "prototypes of the storybook")
    sheet.text(420, 262, "k-means of squares that these miss", SMALL, ACCENT)
    sheet.note(420, 296, "an old square keeps its code")

    sheet.text(730, 22, "prior and CLIP", bold=True)
    rows = np.random.default_rng(0).standard_normal((4, 6))
    merged = (rows[1] + rows[3]) / 2
    tokens = sheet.grid(676, 54, 22, heat(rows), edge="#d5d8e2")
    fresh = sheet.grid(676, 148, 22, heat(np.vstack([rows, merged]))[4:], edge="#d5d8e2")
    codes = sheet.grid(676, 202, 22, heat(rows[:2][:, ::-1], CODE), edge="#d5d8e2")
    zeros = sheet.grid(676, 252, 22, [["#ffffff"] * 6], edge="#d5d8e2")
    sheet.frame(fresh)
    sheet.frame(zeros)
    for text, box, colour in (("tokens", tokens, CAPTION), ("codes", codes, CODE)):
        sheet.text(666, box.y, text, SMALL, colour, ha="right")
    for text, box in (("new token", fresh), ("new code", zeros)):
        sheet.text(666, box.y, text, SMALL, ACCENT, ha="right")
    sheet.path([(tokens.right + 2, 54 + 33), (830, 54 + 33), (830, fresh.y), (fresh.right + 4,
                fresh.y)], ACCENT, head=True)  # fmt: skip
    sheet.path([(tokens.right + 2, 54 + 77), (830, 54 + 77)], ACCENT)
    sheet.note(856, 112, "mean")
    sheet.note(742, 296, "0: at first a code is\nwhat it looks like")
    return sheet.picture(
        f"How a trained bundle grows. The tokenizer learns more merges: “{WORD}” was {len(spelt)}"
        f" tokens and is {len(whole)}; old tokens keep their ids. The dVAE gets new prototypes, by"
        " k-means of the squares that the old ones miss. In the prior and CLIP a new token's row is"
        " the mean of the two that it merges, and a new code's row is zero: at first it is what it"
        " looks like."
    )


def _tokens(sheet: Canvas, x: float, y: float, tokens: list[str], fill: str) -> None:
    """Tokens as boxes in one line around (x, y)."""
    widths = [9.0 * len(token) + 14 for token in tokens]
    left = x - (sum(widths) + 3 * (len(widths) - 1)) / 2
    for token, width in zip(tokens, widths, strict=True):
        sheet.box(left + width / 2, y, width, 28, token, fill, CAPTION, SMALL)
        left += width + 3


def _codes() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Some prototypes of the storybook, and squares of icons that lie far from all of them."""
    looks = prototypes(prototype_dvae(FULL.models["dvae"]))
    f = looks.shape[1]
    icons = [draw_icon(kind, COLOURS[colour], "line") for kind, colour in (
        ("cat", "turquoise"), ("house", "purple"), ("rocket", "pink"))]  # fmt: skip
    squares = np.concatenate([
        icon.reshape(48 // f, f, 48 // f, f, 3).swapaxes(1, 2).reshape(-1, f, f, 3) / 255
        for icon in icons
    ])  # fmt: skip
    flat_squares, flat_looks = (
        torch.tensor(x.reshape(len(x), -1), dtype=torch.float32) for x in (squares, looks)
    )
    far = torch.cdist(flat_squares, flat_looks).amin(1).argsort(descending=True)[:40:4].tolist()
    even = range(0, len(looks), len(looks) // 10)
    return [looks[k] for k in list(even)[:10]], [squares[k] for k in far]
