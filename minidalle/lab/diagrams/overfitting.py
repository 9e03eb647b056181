"""Over-fitting and what is done about it: the gap, dropout, pruning, the sign step, two searches.

The curves, the pruned weights and the steps are computed, so no diagram invents a result.
"""

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune

from minidalle.lab.diagrams.canvas import (
    ACCENT,
    CAPTION,
    FAINT,
    IMAGE,
    LARGE,
    QUIET,
    SMALL,
    TEXT,
    Box,
    Canvas,
    Point,
    heat,
    tint,
)
from minidalle.lab.figures import Picture

RATE = 0.4  # of the dropout that is drawn
SHARE = 0.5  # of the weights that are pruned


def _losses() -> tuple[np.ndarray, np.ndarray]:
    """Squared errors of a linear model with as many inputs as examples, by gradient descent: on
    its 30 training examples, and on 2,000 others."""
    rng = np.random.default_rng(3)
    true = np.concatenate([rng.standard_normal(4), np.zeros(24)])
    x, fresh = rng.standard_normal((30, 28)), rng.standard_normal((2000, 28))
    y = x @ true + 2.5 * rng.standard_normal(30)
    target = fresh @ true + 2.5 * rng.standard_normal(2000)
    w, losses = np.zeros(28), []
    for _ in range(300):
        losses.append((((x @ w - y) ** 2).mean(), ((fresh @ w - target) ** 2).mean()))
        w -= 0.03 * x.T @ (x @ w - y) / 30
    train, held_out = np.array(losses).T
    return train, held_out


def generalisation_gap() -> Picture:
    """Training and validation loss of one training, their gap, and where it should have ended."""
    train, held_out = _losses()
    best = int(held_out.argmin())
    sheet = Canvas(880, 300)
    left, right, bottom, top = 96.0, 640.0, 250.0, 34.0
    unit = (bottom - top) / max(train.max(), held_out.max())

    def at(step: int, loss: float) -> Point:
        return left + (right - left) * step / (len(train) - 1), bottom - unit * loss

    sheet.axis.plot((left, left, right), (top - 8, bottom, bottom), color=FAINT, linewidth=1)
    sheet.note(left - 10, top, "loss", ha="right")
    sheet.note((left + right) / 2, bottom + 30, "updates")
    for losses, colour in ((train, CAPTION), (held_out, ACCENT)):
        points = [at(step, loss) for step, loss in enumerate(losses)]
        sheet.axis.plot(*zip(*points, strict=True), color=colour, linewidth=2.2, zorder=4)
    stop, end = at(best, held_out[best]), at(len(train) - 1, held_out[-1])
    sheet.path([(stop[0], bottom), (stop[0], stop[1] + 4)], IMAGE, dashed=True)
    sheet.axis.plot(*([value] for value in stop), "o", color=IMAGE, markersize=8, zorder=5)
    sheet.text(stop[0] - 12, stop[1] - 22, "the lowest: stop here", SMALL, IMAGE, ha="left")
    low = at(len(train) - 1, train[-1])[1]
    sheet.path([(right + 8, end[1]), (right + 16, end[1]), (right + 16, low), (right + 8, low)],
               TEXT)  # fmt: skip
    sheet.text(right + 26, (end[1] + low) / 2, "the gap: over-fitting", colour=TEXT, ha="left",
               bold=True)  # fmt: skip
    sheet.text(right + 26, end[1] - 4, "validation loss", SMALL, ACCENT, ha="left")
    sheet.text(right + 26, low + 4, "training loss", SMALL, CAPTION, ha="left")
    sheet.note(stop[0] / 2 + left / 2, bottom + 12, "under-fitted")
    sheet.note((stop[0] + right) / 2, bottom + 12, "over-fitted")
    return sheet.picture(
        "Two losses over the updates of one training. The training loss falls all the way. The"
        " validation loss falls first, is lowest"
        f" after {best} of {len(train)} updates, where one should stop, and rises again. The gap"
        " between the two at the end is over-fitting."
    )


def dropout_masks() -> Picture:
    """A small network in two steps of its training, with other units left out each, and in use."""
    rng = np.random.default_rng(4)
    sheet = Canvas(880, 288)
    titles = ("training, one step", "training, the next step", "in use")
    kept_counts = []
    for i, title in enumerate(titles):
        kept = np.ones(5, bool) if i == 2 else rng.random(5) >= RATE
        kept_counts.append(int(kept.sum()))
        _network(sheet, 40.0 + 288 * i, kept, training=i < 2)
        sheet.text(152.0 + 288 * i, 24, title, bold=True)
    scale = f"1 / (1 − {RATE:g}) = {1 / (1 - RATE):.2f}"
    sheet.note(296, 274, f"each unit stays with probability {1 - RATE:g},"
               f" and then counts {scale} times")  # fmt: skip
    sheet.note(728, 274, "all units: the same sum on average")
    return sheet.picture(
        "Dropout. A network of inputs, five hidden units and an output, three times. In two steps"
        f" of the training {5 - kept_counts[0]} and {5 - kept_counts[1]} of the units are left out,"
        f" at random, and the others are multiplied by {1 / (1 - RATE):.2f}. In use all units are"
        " there, and none is multiplied."
    )


def _network(sheet: Canvas, x: float, kept: np.ndarray, training: bool) -> None:
    """Three inputs, five hidden units of which some are left out, and one output."""
    inputs = [(x, 84.0 + 56 * k) for k in range(3)]
    hidden = [(x + 112, 56.0 + 42 * k) for k in range(len(kept))]
    output = (x + 224, 140.0)
    for unit, is_kept in zip(hidden, kept, strict=True):
        for other in (*inputs, output):
            style = {"color": tint(QUIET, 0.6) if is_kept else tint(FAINT, 0.25)}
            sheet.axis.plot((unit[0], other[0]), (unit[1], other[1]), linewidth=1, **style)
    for point in (*inputs, output):
        sheet.box(*point, 22, 22, fill=tint(CAPTION, 0.3), radius=11)
    for point, is_kept in zip(hidden, kept, strict=True):
        fill = tint(ACCENT, 0.35) if is_kept else "white"
        sheet.box(*point, 26, 26, "" if is_kept else "×", fill, FAINT, radius=13, size=LARGE)
    factor = f"× {1 / (1 - RATE):.2f}" if training else "× 1"
    sheet.note(x + 112, 246, factor)


def pruned_matrix() -> Picture:
    """Weights before and after pruning by magnitude, by the pruning of PyTorch itself."""
    layer = nn.utils.skip_init(nn.Linear, 10, 6, bias=False)  # a diagram draws no random numbers
    with torch.no_grad():
        layer.weight.copy_(torch.randn(6, 10, generator=torch.Generator().manual_seed(1)))
    before = layer.weight.detach().clone()
    prune.l1_unstructured(layer, "weight", SHARE)
    mask = layer.weight_mask.bool()
    threshold = float(before.abs()[mask].min())
    sheet = Canvas(880, 250)
    left = sheet.grid(24, 60, 26, heat(before), edge="#d5d8e2")
    after = sheet.grid(596, 60, 26, heat(before * mask), edge="#d5d8e2")
    sheet.text(left.x, 32, "weights", bold=True)
    sheet.text(after.x, 32, "pruned", bold=True)
    sizes, base, step = before.abs().flatten().sort().values, 190.0, 3.4
    x, unit = 338.0, 100 / float(sizes[-1])
    colours = [ACCENT if size >= threshold else tint(FAINT, 0.5) for size in sizes.tolist()]
    sheet.bars(x, base, step, unit, sizes, colours)
    cut = x + step * int((~mask).sum())
    sheet.path([(cut, base + 8), (cut, base - 112)], TEXT, dashed=True)
    sheet.text(x + 30 * step, 32, "sorted by size |w|", bold=True)
    sheet.note((x + cut) / 2, base + 18, "set to 0")
    sheet.note((cut + x + 60 * step) / 2, base + 18, "kept")
    sheet.arrow((left.right + 8, left.y), (x - 8, left.y))
    sheet.arrow((x + 60 * step + 8, left.y), (after.left - 8, left.y))
    sheet.note(440, 232, "blue: positive, red: negative, white: zero")
    return sheet.picture(
        f"Pruning by magnitude: the {before.numel()} weights of a matrix are sorted by their size."
        f" The smaller half, {int((~mask).sum())} of them, is set to zero; the others are kept as"
        " they are."
    )


def sign_step() -> Picture:
    """The fast gradient sign method in two pixels: to the corner of a box, not along the
    gradient."""
    slope = np.array([1.0, 0.25])  # of the loss, by the two pixels
    sheet = Canvas(880, 300)
    origin, half = (210.0, 160.0), 84.0
    for k in range(-5, 6):
        ends = _level(slope, 30.0 * k, 128.0)
        points = [(origin[0] + x, origin[1] - y) for x, y in ends]
        colour = tint(ACCENT, 0.2 + 0.06 * (k + 5))
        sheet.axis.plot(*zip(*points, strict=True), color=colour, linewidth=2)
    box = Box(origin[0] - half, origin[1] - half, origin[0] + half, origin[1] + half)
    sheet.frame(box, TEXT, 1.6)
    along = slope / np.linalg.norm(slope) * half
    tip = (origin[0] + along[0], origin[1] - along[1])
    corner = (origin[0] + half, origin[1] - half)
    sheet.arrow(origin, tip, QUIET, 2, gap=0)
    sheet.arrow(origin, corner, CAPTION, 2.6, gap=0)
    sheet.axis.plot([origin[0]], [origin[1]], "o", color=TEXT, markersize=8, zorder=6)
    gained, usual = slope @ np.sign(slope), slope @ slope / np.linalg.norm(slope)
    lines = (
        ("the picture x", TEXT, "each axis is one pixel"),
        ("the box |δ| ≤ ε", TEXT, "no pixel changes by more than ε"),
        ("level lines of the loss", ACCENT, "the darker, the higher"),
        ("along the gradient", QUIET, f"raises the loss by {usual:.2f} ε"),
        ("ε · sign(gradient)", CAPTION, f"goes to the corner of the box: {gained:.2f} ε"),
    )
    for i, (name, colour, note) in enumerate(lines):
        y = 52.0 + 50 * i
        sheet.text(448, y, name, colour=colour, ha="left", bold=True)
        sheet.note(448, y + 20, note, ha="left")
    return sheet.picture(
        "The fast gradient sign method, for a picture of two pixels. Around the picture lies a box"
        " of all changes of at most ε per pixel. The gradient points nearly to the right and raises"
        f" the loss by {usual:.2f} ε. The sign of the gradient points to the corner of the box and"
        f" raises it by {gained:.2f} ε."
    )


def _level(slope: np.ndarray, height: float, reach: float) -> tuple[Point, Point]:
    """The ends of a level line inside a square of ±`reach`; `height`: its distance from 0."""
    unit = slope / np.linalg.norm(slope)
    along = np.array([-unit[1], unit[0]])
    middle = height * unit
    limits = np.sort([(-reach - middle) / along, (reach - middle) / along], axis=0)
    ends = middle + along * limits[0].max(), middle + along * limits[1].min()
    return tuple(ends[0]), tuple(ends[1])


def grid_and_random() -> Picture:
    """Nine trials on a grid and nine at random, of which one hyper-parameter matters and the other
    hardly (Bergstra and Bengio 2012, figure 1)."""
    rng = np.random.default_rng(7)
    grid = np.array([(i, j) for i in (1, 3, 5) for j in (1, 3, 5)]) / 6
    chance = np.stack([(rng.permutation(9) + 0.5) / 9, rng.random(9) * 0.8 + 0.1], axis=1)
    sheet = Canvas(880, 330)
    found = []
    for i, (name, points) in enumerate({"grid": grid, "random": chance}.items()):
        left, top, side = 100.0 + 416 * i, 104.0, 180.0
        score = _score(points[:, 0])
        xs = np.linspace(0, 1, 80)
        curve = [(left + side * x, top - 8 - 52 * s) for x, s in zip(xs, _score(xs), strict=True)]
        sheet.axis.plot(*zip(*curve, strict=True), color=IMAGE, linewidth=2, zorder=4)
        sheet.box(left + side / 2, top + side / 2, side, side, fill="white", radius=2)
        for (x, y), s in zip(points, score, strict=True):
            spot = (left + side * x, top + side * y)
            sheet.path([spot, (spot[0], top - 8 - 52 * s)], tint(FAINT, 0.7), 0.8)
            colour = ACCENT if s == score.max() else TEXT
            sheet.axis.plot([spot[0]], [spot[1]], "o", color=colour, markersize=7, zorder=5)
        values = len(np.unique(points[:, 0].round(6)))
        found.append((name, values, float(score.max())))
        sheet.text(left + side + 18, top + 24, name, ha="left", bold=True)
        sheet.note(
            left + side + 18, top + 60, f"9 trials,\n{values} values of what\nmatters", "left"
        )
        sheet.text(left + side + 18, top + 112, f"best: {score.max():.2f}", SMALL, ACCENT, "left")
        sheet.note(left + side / 2, top + side + 16, "a hyper-parameter that matters")
        sheet.note(left - 14, top + side / 2, "one that\ndoes not", ha="right")
        sheet.note(left - 14, top - 34, "score", ha="right")
    (_, few, low), (_, many, high) = found
    return sheet.picture(
        "Nine trials of two hyper-parameters, of which only one changes the score. On a grid they"
        f" try {few} values of it, and the best scores {low:.2f}. At random they try {many} values,"
        f" and the best scores {high:.2f}. The score is a curve with one narrow peak."
    )


def _score(x: np.ndarray) -> np.ndarray:
    """How good a value of the hyper-parameter that matters is: one narrow peak."""
    return np.exp(-(((x - 0.36) / 0.13) ** 2))
