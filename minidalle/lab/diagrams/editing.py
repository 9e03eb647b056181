"""Editing: what is known of a cell, a hole among known cells, and repair as a noisy channel."""

import itertools
from dataclasses import replace
from random import Random

import numpy as np
import torch

from minidalle.lab.diagrams.canvas import (
    ACCENT,
    CAPTION,
    CODE,
    FAINT,
    IMAGE,
    SMALL,
    TEXT,
    Box,
    Canvas,
    tint,
)
from minidalle.lab.diagrams.examples import (
    code_colours,
    picture_of,
    prototype_dvae,
    prototypes,
)
from minidalle.lab.figures import Picture
from minidalle.training.presets import FULL
from minidalle.world.captions import parse
from minidalle.world.scenes import Scene, lay_out, render

EXAMPLE = "a big red car on the grass"
RABBIT = "a big yellow rabbit in the snow"
SIGMA = 0.3  # of the noise in the examples


def evidence() -> Picture:
    """One cell and five codes: prior plus evidence, for a cell kept, free, and seen in noise."""
    squares, looks = _squares(), prototypes(prototype_dvae(FULL.models["dvae"]))
    row, column = _telling(squares, looks)
    square = squares[row, column]
    order = np.argsort(_distances(square, looks))
    ground = int(_distances(squares[-1, 0], looks).argmin())
    own = looks[order[0]]
    rival = next(k for k in order if _distances(own, looks[[k]])[0] > 0.4)  # not its twin
    codes = [ground, *map(int, (rival, order[0], order[60], order[400]))]
    kept = 2  # the place of the cell's own code among the five
    prior = torch.tensor([0.4, 0.25, 0.2, 0.1, 0.05])  # an example
    noisy = square + SIGMA * np.random.default_rng(0).standard_normal(square.shape)
    apart = torch.tensor([float(_distances(noisy, looks[[code]])[0]) for code in codes])
    nothing = torch.zeros(5)
    alone = torch.full((5,), -torch.inf)
    alone[kept] = 0
    rows = {
        "kept": ("its code is known", alone, square),
        "free": ("nothing is known", nothing, np.ones_like(square)),
        "seen in noise": ("its pixels, nearly", -apart / (2 * SIGMA**2), noisy),
    }

    sheet, step, unit = Canvas(880, 420), 40.0, 62.0
    left = {"prior": 226.0, "evidence": 446.0, "posterior": 666.0}
    notes = ("p(code | past, caption)", "ln p(known | code)", "p(code | past, caption, known)")
    for (name, x), note, colour in zip(left.items(), notes, (CAPTION, IMAGE, ACCENT), strict=True):
        sheet.text(x + step * 2.5, 20, name, colour=colour, bold=True)
        sheet.note(x + step * 2.5, 42, note)
    for i, (name, (note, known, pixels)) in enumerate(rows.items()):
        base = 138.0 + 104 * i
        shown = sheet.grid(18, base - 56, 56 / len(pixels), pixels.clip(0, 1), line=0)
        sheet.frame(shown, FAINT, 0.8)
        if known is nothing:
            sheet.text(shown.x, shown.y, "?", 12, bold=True)
        sheet.text(84, base - 38, name, ha="left", bold=True)
        sheet.note(84, base - 18, note, ha="left")
        posterior = (prior.log() + known).softmax(0)
        for at, values, colour in (("prior", prior, CAPTION), ("posterior", posterior, ACCENT)):
            sheet.bars(left[at], base, step, unit, values, tint(colour, 0.75))
            for k, value in enumerate(values.tolist()):
                label = f"{value:.2f}"[1:] if value < 0.995 else "1"
                sheet.note(left[at] + step * (k + 0.5), base - unit * value - 9, label)
        for k, value in enumerate(known.tolist()):
            text = "−∞" if value == -torch.inf else f"{value:.0f}".replace("-", "−")
            x = left["evidence"] + step * (k + 0.5)
            sheet.text(x, base - 28, text, SMALL, IMAGE, bold=value > -torch.inf)
        sheet.text(left["evidence"] - 10, base - 28, "+", 12, bold=True)
        sheet.text(left["posterior"] - 10, base - 28, "→", 12, bold=True)
    for x in left.values():
        for k, code in enumerate(codes):
            box = sheet.grid(x + step * (k + 0.5) - 12, 372, 24 / len(square), looks[code], line=0)
            sheet.frame(box, TEXT if k == kept else FAINT, 2.2 if k == kept else 0.8)
    sheet.note(208, 384, "five of the codes", ha="right")
    sheet.note(208, 404, "framed: its own", ha="right")
    return sheet.picture(
        "Evidence for one cell and five codes. The prior's bars are the same in three rows. A kept"
        " cell has evidence 0 for its code and −∞ for the others, so the posterior is 1 for its"
        " code. A free cell has evidence 0 for every code: the posterior is the prior. A cell seen"
        " in noise has minus the squared distance of its pixels from each code's look, over 2σ²,"
        f" with σ = {SIGMA:g}: the posterior prefers codes that look like it."
    )


def _distances(square: np.ndarray, looks: np.ndarray) -> np.ndarray:
    """|square − look|² of each code."""
    return ((looks - square) ** 2).sum((1, 2, 3))


def _telling(squares: np.ndarray, looks: np.ndarray) -> tuple[int, int]:
    """Row and column of a square with much to see, which some code shows nearly as it is."""
    n = len(squares)
    lost = np.array([[_distances(square, looks).min() for square in row] for row in squares])
    row, column = divmod(int((squares.std((2, 3)).sum(-1) - lost).argmax()), n)
    return row, column


def _squares() -> np.ndarray:
    """The squares of the example picture: n n f f 3 in [0, 1]."""
    config = FULL.models["dvae"]
    n, f = config.grid, config.factor
    image = picture_of(EXAMPLE, 0, config.image_size)
    return image.reshape(n, f, n, f, 3).swapaxes(1, 2) / 255


def _rabbits() -> tuple[list[np.ndarray], tuple[int, int, int, int]]:
    """A rabbit, another drawing of it, and no rabbit, whose lower halves are the first one's; and
    the cells of the upper half: left, top, right, bottom."""
    scene = lay_out(parse(RABBIT), Random(1))
    figure = scene.figures[0]
    (x, y), other = figure.corner, replace(figure, drawing=1 - figure.drawing)
    cell = 4
    left, top, right, bottom = x, y, x + 8, y + 4
    whole = render(scene)
    beside = render(Scene(scene.facts, (other,), scene.backdrop))
    empty = render(Scene(replace(scene.facts, things=()), (), scene.backdrop))
    here = np.s_[cell * top : cell * bottom, cell * left : cell * right]
    pictures = [whole]
    for source in (beside, empty):
        mixed = whole.copy()
        mixed[here] = source[here]
        pictures.append(mixed)
    return pictures, (left, top, right, bottom)


def hole_in_raster_order() -> Picture:
    """A hole above known cells: drawn without a look at them, and weighed by them afterwards."""
    images, (left, top, right, bottom) = _rabbits()
    n, side = 12, 256.0
    cell, now = side / n, (top + 2, left + 3)  # row and column of the code being drawn
    sheet = Canvas(880, 356)
    at = sheet.image(40, 62, side, images[0])
    sheet.text(at.x, 22, "drawing the hole", bold=True)
    sheet.note(at.x, 44, "row by row, from left to right")

    def colour(r: int, c: int) -> str | None:
        inside = top <= r < bottom and left <= c < right
        if (r, c) == now:
            return ACCENT
        if (r, c) < now:
            return tint(CODE, 0.75) if inside else None
        return "white" if inside else None

    for r in range(n):
        for c in range(n):
            if fill := colour(r, c):
                sheet.grid(at.left + cell * c, at.top + cell * r, cell, [[fill]], line=0.6)
    hole = Box(at.left + cell * left, at.top + cell * top, at.left + cell * right,
               at.top + cell * bottom)  # fmt: skip
    sheet.frame(hole)
    stop = at.top + cell * (now[0] + 1)
    sheet.path([(at.right + 10, at.top), (at.right + 10, stop - 4)], CODE, 3)
    sheet.path([(at.right + 10, stop + 4), (at.right + 10, at.bottom)], FAINT, 3)
    sheet.text(at.right + 20, (at.top + stop) / 2, "past: seen", SMALL, ha="left")
    sheet.text(at.right + 20, (stop + at.bottom) / 2, "known, and\nnot yet seen", SMALL, ha="left")
    sheet.note(at.x, at.bottom + 16, "yellow: drawn · orange: now · white: next")

    sheet.text(652, 22, "weighing the candidates", bold=True)
    sheet.note(652, 44, "how likely is what comes later? (an example)")
    weights = (0.97, 0.02, 0.01)
    for i, (image, weight) in enumerate(zip(images, weights, strict=True)):
        y = 62.0 + 92 * i
        shown = sheet.image(452, y, 80, image)
        sheet.arrow((shown.right + 4, shown.y), (shown.right + 30, shown.y))
        sheet.grid(shown.right + 38, shown.y - 11, 200 * weight, [[ACCENT]], height=22, line=0)
        x = shown.right + 48 + 200 * weight
        sheet.text(x, shown.y, f"weight {weight:g}", SMALL, ha="left", bold=i == 0)
    return sheet.picture(
        "A hole in raster order. The upper half of a rabbit is free and is drawn row by row; the"
        " code being drawn sees the past, above and to the left, and not the known cells below."
        " Three candidates, an example: one that fits the lower half has nearly all of the weight,"
        " another drawing of a rabbit and an empty hole have hardly any."
    )


def noisy_channel() -> Picture:
    """Caption, codes, picture, noise; and the way back by Bayes' rule."""
    config = FULL.models["dvae"]
    image = picture_of(EXAMPLE, 0, config.image_size)
    noise = SIGMA * np.random.default_rng(1).standard_normal(image.shape)
    noisy = np.clip(image / 255 + noise, 0, 1)
    sheet, middle = Canvas(880, 292), 106.0
    caption = sheet.box(62, middle, 84, 60, "“a big red\ncar on the\ngrass”", tint(CAPTION, 0.15),
                        tint(CAPTION, 0.5), SMALL, radius=3)  # fmt: skip
    prior = sheet.box(162, middle, 62, 48, "prior")
    colours = code_colours(image, config)
    codes = sheet.grid(232, middle - 48, 96 / config.grid, colours, line=0.4)
    decoder = sheet.box(398, middle, 76, 48, "decoder")
    clean = sheet.image(476, middle - 48, 96, image)
    channel = sheet.box(654, middle, 84, 48, "channel:\nnoise, σ", tint(ACCENT, 0.18))
    damaged = sheet.image(736, middle - 48, 96, noisy)
    chain = (caption, prior, codes, decoder, clean, channel, damaged)
    for a, b in itertools.pairwise(chain):
        sheet.arrow(a, b)
    for at, name in ((codes, "codes"), (clean, "what was meant"), (damaged, "what was received")):
        sheet.text(at.x, middle - 66, name, bold=True)
    sheet.note(20, 16, "how we suppose that the picture came about", "left")
    sheet.path([(damaged.x, damaged.bottom + 6), (damaged.x, 216), (codes.x, 216),
                (codes.x, codes.bottom + 6)], ACCENT, 2, head=True)  # fmt: skip
    sheet.text(532, 234, "repair: which codes were meant?", colour=ACCENT, bold=True)
    sheet.text(532, 258, "p(code | noisy, past, caption)  ∝  p(noisy | code) · p(code | past,"
               " caption)")  # fmt: skip
    sheet.note(532, 278, "the channel                              the prior")
    return sheet.picture(
        "Repair as a noisy channel. Forwards: the caption goes to the prior, which chooses codes;"
        " the decoder makes the picture that was meant; the channel adds noise with standard"
        " deviation σ; the noisy picture is received. Backwards: Bayes' rule gives the codes that"
        " were meant, p(noisy | code) times p(code | past, caption)."
    )
