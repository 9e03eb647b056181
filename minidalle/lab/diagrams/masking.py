"""Masked codes: what a cell may see, how many are hidden, and how a picture is drawn in passes.

Masks, schedules, orders and angles are the package's own. The codes are a real dVAE's.
"""

import math
from dataclasses import replace
from random import Random

import numpy as np
import torch
from matplotlib.colors import to_rgb

from minidalle.attention import rotary_angles, rotate, stream_mask
from minidalle.baselines.masked import hidden_cells, window_mask
from minidalle.baselines.masked_sampling import even_order, schedule
from minidalle.lab.diagrams.canvas import (
    ACCENT,
    CAPTION,
    FAINT,
    IMAGE,
    SMALL,
    Box,
    Canvas,
    heat,
    tint,
)
from minidalle.lab.diagrams.examples import code_colours, picture_of
from minidalle.lab.figures import Picture
from minidalle.training.presets import FULL
from minidalle.world.captions import parse
from minidalle.world.scenes import lay_out, render

EXAMPLE = "a big red car on the grass"
RABBIT = "a big yellow rabbit in the snow"
MASKED = "#e4e6ee"  # a hidden code


def cells_in_view() -> Picture:
    """A hole in a picture: what the prior sees of it from inside, and what a masked model sees."""
    n, side = FULL.models["dvae"].grid, 22.0
    colours = code_colours(picture_of(EXAMPLE, 0), FULL.models["dvae"])
    hole = torch.zeros(n, n, dtype=torch.bool)
    hole[3:8, 2:10] = True
    now = 5 * n + 6  # the cell to be drawn
    past = stream_mask("causal", 0, n)[now].clone()
    past[now] = False
    views = {
        "the prior": (past, "past: above, and to the left"),
        "masked codes": (~hole.flatten(), "every visible code, on all sides"),
    }
    sheet, found = Canvas(880, 352), []
    for i, (name, (seen, note)) in enumerate(views.items()):
        x = 90.0 + 440 * i
        sheet.text(x + side * n / 2, 20, name, bold=True)
        sheet.note(x + side * n / 2, 42, note)
        shown = []
        for cell, colour in enumerate(c for row in colours for c in row):
            if cell == now:
                shown.append(ACCENT)
            elif i == 1 and hole.flatten()[cell]:
                shown.append(MASKED)
            else:
                shown.append(colour if seen[cell] else _faded(colour))
        sheet.grid(x, 62, side, [shown[r * n : (r + 1) * n] for r in range(n)])
        edge = Box(x + 2 * side, 62 + 3 * side, x + 10 * side, 62 + 8 * side)
        sheet.frame(edge)
        found.append(int(seen.sum()))
        sheet.note(x + side * n / 2, 340, f"{found[-1]} of {n * n - 1} other codes are seen")
    return sheet.picture(
        "A hole in a picture, twice, and one cell inside it that is to be drawn. The prior sees the"
        f" past, {found[0]} codes above and to the left, and not what lies below the hole. A model"
        f" of masked codes sees every visible code on all sides of the hole, {found[1]} of them;"
        " the hidden ones are one grey vector, MASK."
    )


def _faded(colour: str) -> str:
    """A colour that is there and not seen: nearly white."""
    return tint(colour, 0.18)


def hidden_shares() -> Picture:
    """The law of the hidden share, one u in each stratum, and four of the pictures it gives."""
    config, n = FULL.training["masked"], FULL.models["dvae"].grid
    batch, rng = config.batch_size, Random(4)
    us = [(k + rng.random()) / batch for k in range(batch)]
    sheet = Canvas(880, 322)
    left, top, width, height = 74.0, 44.0, 330.0, 218.0

    def at(u: float) -> tuple[float, float]:
        return left + width * u, top + height * (1 - math.cos(math.pi * u / 2))

    for k in range(batch + 1):
        x = left + width * k / batch
        sheet.axis.plot((x, x), (top, top + height), color=tint(FAINT, 0.45), linewidth=0.7)
    sheet.axis.plot((left, left, left + width), (top, top + height, top + height), color=FAINT)
    curve = [at(u) for u in np.linspace(0, 1, 60)]
    sheet.axis.plot(*zip(*curve, strict=True), color=CAPTION, linewidth=2.2, zorder=4)
    sheet.axis.plot(*zip(*map(at, us), strict=True), "o", color=ACCENT, markersize=5, zorder=5)
    for share in (0, 0.5, 1):
        sheet.note(left - 10, top + height * (1 - share), f"{share:.0%}", ha="right")
    sheet.text(left + width / 2, 20, "share hidden: cos(πu / 2)", bold=True)
    sheet.note(left + width / 2, top + height + 18, f"u from 0 to 1, in {batch} strata")
    sheet.note(left + width / 2, top + height + 40, "a batch has one u in each")

    colours = code_colours(picture_of(EXAMPLE, 0), FULL.models["dvae"])
    chosen, counts = (0, batch // 2, batch * 3 // 4, batch - 1), []
    sheet.text(662, 20, "four pictures of a batch", bold=True)
    for place, k in enumerate(chosen):
        hidden = hidden_cells(us[k], n * n, rng).view(n, n)
        counts.append(int(hidden.sum()))
        x, y = 540.0 + 132 * (place % 2), 40.0 + 138 * (place // 2)
        cell = 112 / n
        shown = [
            [MASKED if h else c for c, h in zip(*row, strict=True)]
            for row in zip(colours, hidden.tolist(), strict=True)
        ]
        box = sheet.grid(x, y, cell, shown, line=0.3)
        sheet.frame(box, FAINT, 0.8)
        sheet.note(box.x, box.bottom + 12, f"{counts[-1]} of {n * n} hidden")
    return sheet.picture(
        "The share of hidden codes, cos(πu / 2), falls from 1 at u = 0 to 0 at u = 1, slowly at"
        f" first. The axis of u is divided into {batch} strata, and a batch has one u in each, at"
        " random. Four pictures of such a batch have"
        f" {', '.join(map(str, counts[:-1]))} and {counts[-1]} of {n * n} codes hidden."
    )


def near_and_far() -> Picture:
    """What a code sees in a window layer and in a full one, and how rotary scores fall off."""
    n, config = FULL.models["dvae"].grid, FULL.models["masked"]
    now, side = 5 * n + 4, 15.0
    window = window_mask(0, n, config.window)[now].view(n, n)
    d = config.width // config.heads
    turned = rotate(torch.ones(n * n, d), rotary_angles(0, n, d))
    score = (turned @ turned[now] / d).view(n, n)  # of two equal vectors: the angles alone
    local, wide = (
        "layers " + ", ".join(str(i + 1) for i in range(odd, config.layers, 2)) for odd in (0, 1)
    )
    panels = {
        local: ("a window of codes, and the text", window.float()),
        wide: ("all codes, and the text", torch.ones(n, n)),
        "rotary, in both": ("the score of two equal vectors", score),
    }
    sheet = Canvas(880, 268)
    for i, (name, (note, values)) in enumerate(panels.items()):
        x = 70.0 + 280 * i
        sheet.text(x + side * n / 2, 18, name, bold=True)
        sheet.note(x + side * n / 2, 38, note)
        if i < 2:
            colours = [[tint(CAPTION, 0.45) if v else "#f4f5f8" for v in row] for row in values]
        else:
            colours = heat(values)
        colours[now // n][now % n] = ACCENT
        sheet.grid(x, 58, side, colours)
    near, far = (float(score[5, 4 + columns]) for columns in (1, 7))
    sheet.note(440, 250, "red: the code that looks · in the last panel, the darker the higher")
    return sheet.picture(
        f"What one code sees. In every other layer a window of {config.window} × {config.window}"
        " codes around it, and the text; in the layers between, all codes. With rotary positions"
        " the score of two equal vectors depends on their distance in rows and columns, before"
        f" anything is learned: {near:.2f} beside the code, {far:.2f} seven columns away."
    )


def independent_cells() -> Picture:
    """Two halves of a rabbit: their joint distribution, and the product of their marginals."""
    halves = _rabbits()
    joint = np.array([[0.5, 0.0], [0.0, 0.5]])  # the two drawings are equally frequent
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    sheet = Canvas(880, 348)
    for i, (name, note, table) in enumerate((
        ("what the world shows", "p(upper, lower)", joint),
        ("both halves in one pass", "p(upper) · p(lower)", product),
    )):  # fmt: skip
        x0 = 150.0 + 420 * i
        sheet.text(x0 + 116, 20, name, bold=True)
        sheet.note(x0 + 116, 42, note)
        for upper in range(2):
            for lower in range(2):
                x, y = x0 + 124 * lower, 62.0 + 144 * upper
                p = float(table[upper, lower])
                image = halves[upper][lower] if p else np.full((32, 32, 3), 255)
                at = sheet.image(x, y, 108, image)
                wrong = p > 0 and not joint[upper, lower]
                if not p:
                    sheet.text(at.x, at.y, "never", SMALL, FAINT)
                if wrong:
                    sheet.frame(at)
                sheet.text(at.x, at.bottom + 14, f"{p:g}", SMALL, ACCENT if wrong else IMAGE,
                           bold=p > 0)  # fmt: skip
            if not i:
                which = ("of drawing 1", "of drawing 2")[upper]
                sheet.note(138, 116 + 144 * upper, f"upper half\n{which}", ha="right")
    never = float(product[joint == 0].sum())
    return sheet.picture(
        "Two halves of a rabbit, each from one of two drawings. The world shows only halves of one"
        " drawing: joint probability 0.5 on the diagonal, 0 elsewhere. The product of the marginals"
        f" gives every pair 0.25, so {never:.0%} of what is drawn are monsters, framed in red, with"
        " the upper half of one drawing on the lower half of the other."
    )


def _rabbits() -> list[list[np.ndarray]]:
    """The upper half of one drawing of a rabbit above the lower half of another: [upper][lower]."""
    scene = lay_out(parse(RABBIT), Random(1))
    figure, (x, y) = scene.figures[0], scene.corners[0]
    drawn = [
        render(replace(scene, figures=(replace(figure, drawing=k, mirrored=False),)))[
            4 * y : 4 * y + 32, 4 * x : 4 * x + 32
        ]
        for k in range(2)
    ]
    return [[np.concatenate([a[:16], b[16:]]) for b in drawn] for a in drawn]


def passes_over_a_picture() -> Picture:
    """The same number of passes: one code each in raster order, or many, far apart."""
    n, passes = FULL.models["dvae"].grid, 8
    colours = np.array([to_rgb(c) for row in code_colours(
        picture_of(EXAMPLE, 0), FULL.models["dvae"]) for c in row])  # fmt: skip
    drawn = [n * n - left for left in schedule(n * n, passes)]
    rows = {
        "the prior: one code a pass": (torch.arange(n * n), list(range(1, passes + 1))),
        "masked codes: many a pass, far apart": (even_order(n), drawn),
    }
    sheet, cell = Canvas(880, 336), 92.0 / n
    for i, (name, (order, counts)) in enumerate(rows.items()):
        top = 36.0 + 160 * i
        sheet.text(26, top - 16, name, ha="left", bold=True)
        for t, count in enumerate(counts):
            shown = np.tile(to_rgb(MASKED), (n * n, 1))
            visible = order[:count].numpy()
            shown[visible] = colours[visible]
            at = sheet.grid(26 + 105 * t, top, cell, shown.reshape(n, n, 3), line=0.25)
            sheet.frame(at, FAINT, 0.8)
            sheet.note(at.x, at.bottom + 13, f"{count} of {n * n}" if t else f"pass 1: {count}")
    return sheet.picture(
        f"{passes} passes of two models over one picture. The prior draws one code a pass in raster"
        f" order: after {passes} passes {passes} of {n * n} codes. Masked codes are drawn many a"
        f" pass, far apart, and more in each: {', '.join(map(str, drawn))}."
    )
