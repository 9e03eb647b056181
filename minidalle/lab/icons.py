"""An icon set drawn here, for readers without pictures of their own: chapter 14 falls back to it.

The drawings are the storybook's, in three styles that it never shows, on plain backgrounds:

    badge     a silhouette in white on a disc of the colour
    line      outlines of the colour on white
    sticker   the thing itself with a broad white border on a pale tile
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from minidalle.world import brush, sprites
from minidalle.world.brush import CLEAR, is_bright, palette, shade
from minidalle.world.facts import COLOURS, KINDS, RGB
from minidalle.world.vocabulary import COLOUR_WORDS, NOUNS

STYLES = {"badge": "徽章", "line": "线条", "sticker": "贴纸"}  # names in English and Chinese
SIZE = 48  # pixels across an icon
PAPER, INK = (255, 255, 255), (38, 34, 48)


def write_icons(out: Path, size: int = SIZE) -> int:
    """Write every kind in every colour, each in one of the styles, with `metadata.jsonl` of English
    and Chinese captions, into a new folder; the number of pictures."""
    out.mkdir(parents=True)
    rows = []
    for i, kind in enumerate(KINDS):
        for j, colour in enumerate(COLOURS):
            style = list(STYLES)[(i + j) % len(STYLES)]
            name = f"{colour}_{kind}_{style}.png"
            Image.fromarray(draw_icon(kind, COLOURS[colour], style, size)).save(out / name)
            chinese = f"{COLOUR_WORDS['zh'][colour][0]}{NOUNS['zh'][kind][0]}{STYLES[style]}"
            for text in (f"{colour} {kind} {style}", chinese):
                rows.append({"file_name": name, "text": text})
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (out / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(KINDS) * len(COLOURS)


def draw_icon(kind: str, colour: RGB, style: str, size: int = SIZE) -> np.ndarray:
    """One icon: uint8, size × size × 3."""
    width = 5 * size // 8 if style == "badge" else 3 * size // 4
    gap = (size - width) // 2
    roles = np.pad(sprites.roles(kind, 0, False, width), gap)
    inside = roles != CLEAR
    ink = INK if is_bright(colour) else colour  # seen on white as well
    if style == "badge":
        y, x = np.mgrid[:size, :size] - (size - 1) / 2
        image = np.where((x**2 + y**2 < (size / 2 - 1) ** 2)[..., None], colour, PAPER)
        image[inside] = INK if is_bright(colour) else PAPER
        core = ~_grow(_grow(~inside))  # without the outline
        image[core & np.isin(roles, (brush.INK, brush.EYE, brush.STRIPE, brush.ROSE))] = colour
    elif style == "line":
        image = np.broadcast_to(PAPER, (size, size, 3)).copy()
        change = (roles != np.roll(roles, 1, 0)) | (roles != np.roll(roles, 1, 1))
        image[change | (roles == brush.INK)] = ink
    else:
        image = np.broadcast_to(shade(colour, 1.7), (size, size, 3)).copy()
        image[_grow(_grow(inside))] = PAPER
        image[inside] = palette(colour)[roles[inside]]
    return image.astype(np.uint8)


def _grow(mask: np.ndarray) -> np.ndarray:
    """A mask with a border of one pixel around it."""
    padded = np.pad(mask, 1)
    up, down = padded[:-2, 1:-1], padded[2:, 1:-1]
    left, right = padded[1:-1, :-2], padded[1:-1, 2:]
    return mask | up | down | left | right
