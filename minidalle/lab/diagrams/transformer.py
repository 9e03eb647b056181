"""The transformer block: two corrections of a residual stream."""

import torch
from torch import nn

from minidalle.lab.diagrams.canvas import (
    CAPTION,
    CODE,
    FAINT,
    QUIET,
    SMALL,
    TEXT,
    Canvas,
    tint,
)
from minidalle.lab.figures import Picture
from minidalle.training.presets import FULL
from minidalle.transformer import Block


def transformer_block() -> Picture:
    """A block with norms before its parts: attention and an MLP each add to the residual stream."""
    config = FULL.models["prior"]
    with torch.device("meta"):  # its shapes are wanted, and no weights
        block = Block(config.width, config.heads)
    first = block.mlp[0]
    assert isinstance(first, nn.Linear)
    ratio = first.out_features // config.width
    sheet = Canvas(880, 274)
    y, low = 58.0, 168.0
    frame = sheet.box(444, 141, 700, 220, "", tint(FAINT, 0.06), tint(FAINT, 0.6), radius=10)
    sheet.text(frame.right - 12, frame.bottom - 13, f"one of {config.layers} blocks", SMALL, QUIET,
               ha="right")  # fmt: skip
    plus = [sheet.box(x, y, 28, 28, "+", "white", radius=14, size=12) for x in (424, 762)]
    sheet.text(24, y, "x", 12, bold=True)
    sheet.note(30, y + 24, "S × D")
    sheet.arrow((40, y), (plus[0].left - 3, y), TEXT, 3, gap=0)
    sheet.arrow((plus[0].right + 3, y), (plus[1].left - 3, y), TEXT, 3, gap=0)
    sheet.arrow((plus[1].right + 3, y), (858, y), TEXT, 3, gap=0)
    sheet.text(240, y - 16, "residual stream", SMALL)
    sheet.text(592, y - 16, "nothing is overwritten, only added", SMALL)
    parts = (
        (
            120,
            "attention",
            f"{config.heads} heads, masked",
            tint(CAPTION, 0.28),
            "mixes between positions",
        ),
        (464, "MLP", f"D → {ratio}D → D", tint(CODE, 0.4), "works within each position"),
    )
    for (x, name, label, fill, note), end in zip(parts, plus, strict=True):
        sheet.path([(x, y), (x, low), (x + 26, low)], head=True)
        norm = sheet.box(x + 60, low, 64, 36, "norm", "white")
        main = sheet.box(x + 194, low, 150, 56, label, fill)
        sheet.arrow(norm, main)
        sheet.path([(main.right + 4, low), (end.x, low), (end.x, end.bottom + 4)], head=True)
        sheet.text(main.x, low - 42, name, bold=True)
        sheet.note(main.x, low + 44, note)
    return sheet.picture(
        f"A transformer block, one of {config.layers}: the residual stream x, S by D, runs straight"
        f" through. Twice a branch leaves it and is added again: first a norm and attention with"
        f" {config.heads} heads, which mixes between positions; then a norm and an MLP, D to"
        f" {ratio}D to D, which works within each position."
    )
