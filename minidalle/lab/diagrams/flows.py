"""Flow matching and unCLIP: paths and their mean velocity, guidance, the parts, the denoiser.

The flows are followed by the package's own functions, through fields known in closed form.
"""

from itertools import combinations, pairwise

import numpy as np
import torch
from torch import Tensor

from minidalle.baselines.flow import euler, guided, velocity
from minidalle.baselines.unclip import slerp
from minidalle.lab.diagrams.canvas import (
    ACCENT,
    CAPTION,
    FAINT,
    IMAGE,
    QUIET,
    SMALL,
    TEXT,
    Box,
    Canvas,
    Point,
    heat,
    tint,
)
from minidalle.lab.diagrams.examples import picture_of
from minidalle.lab.figures import Picture
from minidalle.training.presets import FULL

EXAMPLE = "a big red car on the grass"
ENDS = torch.tensor([-1.0, 1.0])  # the data of `flow_paths`
NUM_PATHS, STEPS = 14, 50
CENTRES = torch.tensor([[-1.6, 0.9], [1.5, 1.3], [0.9, -1.5]])  # of the data of `guided_flows`
SPREAD = 0.35  # of each cloud there
SCALES = (0.0, 1.0, 3.0)  # of the guidance there


def _two_ends(x_t: Tensor, t: Tensor) -> Tensor:
    """E[x | x_t] where x is −1 or 1, equally often."""
    return torch.tanh(t * x_t / (1 - t) ** 2)


def _followed(noise: Tensor) -> Tensor:
    """The way of each number through the field of `_two_ends`: STEPS + 1 n."""
    way = [noise]
    for i in range(STEPS):
        t = torch.full_like(noise, i / STEPS)
        way.append(way[-1] + velocity(_two_ends(way[-1], t), way[-1], t) / STEPS)
    return torch.stack(way)


def _crossings(way: Tensor) -> int:
    """How many pairs of ways change their order."""
    pairs = combinations(range(way.shape[1]), 2)
    order = [(way[:, i] > way[:, j]) for i, j in pairs]
    return sum(bool(above.any() and not above.all()) for above in order)


def flow_paths() -> Picture:
    """Straight paths that cross, the mean of their velocities, and the ways that follow it."""
    noise = torch.special.ndtri((torch.arange(NUM_PATHS) + 0.5) / NUM_PATHS)
    ends = ENDS[torch.from_numpy(np.random.default_rng(5).permutation(NUM_PATHS) % 2)]
    times = torch.linspace(0, 1, STEPS + 1)[:, None]
    straight = (1 - times) * noise + times * ends
    ways = _followed(noise)
    crossed = _crossings(straight[1:-1]), _crossings(ways[1:-1])
    sheet, top, side, unit = Canvas(880, 330), 62.0, 226.0, 46.0
    notes = ("each noise with a number of the data", "the mean over all paths that pass there",
             "small steps along the mean velocity")  # fmt: skip
    for i, (title, note) in enumerate(zip(("paths", "velocities", "flow"), notes, strict=True)):
        left, middle = 30.0 + 288 * i, top + side / 2

        def at(t: float, x: float, left=left, middle=middle) -> Point:
            return left + side * float(t), middle - unit * float(x)

        sheet.text(left + side / 2, 20, title, bold=True)
        sheet.note(left + side / 2, 42, note)
        sheet.axis.plot((left, left), (top, top + side), color=FAINT, linewidth=1)
        if i == 1:
            _field(sheet, at, side)
        else:
            for way in (straight, ways)[i // 2].T:
                colour = ACCENT if way[-1] > 0 else CAPTION
                points = [at(t, x) for t, x in zip(times[:, 0], way, strict=True)]
                sheet.axis.plot(*zip(*points, strict=True), color=colour, linewidth=1.3, zorder=4)
        for end, colour in zip(ENDS.tolist(), (CAPTION, ACCENT), strict=True):
            sheet.axis.plot(*([v] for v in at(1, end)), "o", color=colour, markersize=8, zorder=6)
            sheet.note(left + side + 10, at(1, end)[1], f"{end:+.0f}".replace("-", "−"), "left")
        sheet.note(left - 8, top + side + 16, "noise, t = 0", "left")
        sheet.note(left + side + 8, top + side + 16, "data, t = 1", "right")
    return sheet.picture(
        "Flow matching in one dimension; the data are −1 and +1. On the left straight paths lead"
        f" from noise to data, and {crossed[0]} pairs of them cross. In the middle an arrow at each"
        " point and time is the mean of the velocities of all paths that pass there. On the right"
        f" the same noise follows the mean velocity: {crossed[1]} pairs cross, and every way ends"
        " at −1 or at +1."
    )


def _field(sheet: Canvas, at, side: float) -> None:
    """Arrows along the mean velocity."""
    for t in np.linspace(0.05, 0.85, 7):
        for x in np.linspace(-2.2, 2.2, 11):
            here = torch.tensor([x]), torch.tensor([t])
            slope = float(velocity(_two_ends(*here), *here))
            (x0, y0), (_, y1) = at(t, x), at(t, x + slope)
            rise = (y1 - y0) / side
            length = 22 / np.hypot(1, rise)
            tip = (x0 + length, y0 + length * rise)
            sheet.arrow((x0, y0), tip, tint(TEXT, 0.6), 1.0, "->", gap=0)


def _clouds(x_t: Tensor, t: Tensor, log_shares: Tensor) -> Tensor:
    """E[x | x_t] where x lies in one of three Gaussian clouds, with these shares: n 2."""
    t = t[:, None]
    variance = t**2 * SPREAD**2 + (1 - t) ** 2
    off = x_t[:, None] - t[..., None] * CENTRES  # n 3 2
    weights = (log_shares - off.square().sum(-1) / (2 * variance)).softmax(1)  # n 3
    means = CENTRES + (t * SPREAD**2 / variance)[..., None] * off
    return (weights[..., None] * means).sum(1)


def guided_flows() -> Picture:
    """The same noise led to an asked cloud with guidance 0, 1 and 3."""
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal((90, 2))).float()
    asked = torch.tensor([0.0, -torch.inf, -torch.inf])
    sheet, unit, reach = Canvas(880, 322), 40.0, []
    notes = ("the caption is ignored", "as trained", "too much: it overshoots")
    for i, (scale, note) in enumerate(zip(SCALES, notes, strict=True)):
        x = euler(guided(_clouds, asked, torch.zeros(3), scale), noise, STEPS)
        middle, y = 152.0 + 288 * i, 178.0
        points = [(middle + unit * a, y - unit * b) for a, b in x.tolist()]
        sheet.axis.plot(*zip(*points, strict=True), "o", color=CAPTION, markersize=4, alpha=0.6,
                        zorder=5)  # fmt: skip
        angles = np.linspace(0, 2 * np.pi, 60)
        for k, (a, b) in enumerate(CENTRES.tolist()):
            ring = 2 * SPREAD * unit
            sheet.axis.plot(
                middle + unit * a + ring * np.cos(angles), y - unit * b + ring * np.sin(angles),
                color=ACCENT if k == 0 else FAINT, linewidth=2.2 if k == 0 else 1.2, zorder=4,
            )  # fmt: skip
        sheet.text(middle, 20, f"guidance {scale:g}", bold=True)
        sheet.note(middle, 42, note)
        inside = (x - CENTRES[0]).norm(dim=1) < 2 * SPREAD
        reach.append(float(inside.float().mean()))
        sheet.note(middle, 306, f"{reach[-1]:.0%} in the ring that was asked for")
    return sheet.picture(
        "Guidance of velocities in two dimensions. The data are three clouds, drawn as rings; the"
        " caption asks for the red one. Ninety points of noise are followed to their ends. With"
        f" guidance 0 {reach[0]:.0%} of them end in the asked ring, with guidance 1 {reach[1]:.0%},"
        f" and with guidance 3 {reach[2]:.0%}: they overshoot, away from the other clouds."
    )


def great_circle() -> Picture:
    """Five vectors from one to another: along the chord, and along the arc."""
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([-0.5, 3**0.5 / 2])  # 120° apart
    arc, shares = slerp(a, b, 5), torch.linspace(0, 1, 5)[:, None]
    chord = (1 - shares) * a + shares * b
    sheet, origin, unit = Canvas(880, 262), (250.0, 218.0), 180.0
    angles = np.linspace(-0.08, 2.3, 80)
    sheet.axis.plot(origin[0] + unit * np.cos(angles), origin[1] - unit * np.sin(angles),
                    color=FAINT, linewidth=1.2)  # fmt: skip
    for points, colour in ((chord, QUIET), (arc, ACCENT)):
        for x, y in points.tolist():
            tip = (origin[0] + unit * x, origin[1] - unit * y)
            sheet.axis.plot(*zip(origin, tip, strict=True), color=tint(colour, 0.5), linewidth=1.2)
            sheet.axis.plot([tip[0]], [tip[1]], "o", color=colour, markersize=8, zorder=5)
    sheet.text(origin[0] + unit + 22, origin[1], "a", bold=True)
    sheet.text(origin[0] - unit / 2 - 18, origin[1] - unit * 0.9, "b", bold=True)
    steps = [float(torch.rad2deg(torch.acos((p @ q / p.norm() / q.norm()).clamp(max=1))))
             for way in (chord, arc) for p, q in pairwise(way)]  # fmt: skip
    lines = (
        ("along the chord (grey)", QUIET, f"shortest length {float(chord.norm(dim=1).min()):.2f},"
         f" angles {', '.join(f'{s:.0f}°' for s in steps[:4])}"),
        ("along the arc (red): slerp", ACCENT, f"every length {float(arc[2].norm()):.2f}, angles"
         f" {', '.join(f'{s:.0f}°' for s in steps[4:])}"),
    )  # fmt: skip
    for i, (name, colour, note) in enumerate(lines):
        sheet.text(500, 92 + 64.0 * i, name, colour=colour, ha="left", bold=True)
        sheet.note(500, 114 + 64.0 * i, note, "left")
    return sheet.picture(
        "Two unit vectors a and b, 120 degrees apart, and five vectors from one to the other. On"
        f" the chord they become as short as {float(chord.norm(dim=1).min()):.2f} and turn by"
        f" angles of {steps[0]:.0f} and {steps[1]:.0f} degrees. On the arc, by slerp, each has the"
        f" length 1 and the angles are equal: {steps[4]:.0f} degrees."
    )


def _strip(sheet: Canvas, x: float, y: float, name: str) -> Box:
    """A vector as a strip of twelve cells, and its name below."""
    values = np.random.default_rng(3).standard_normal((12, 1))
    at = sheet.grid(x, y - 54, 9, heat(values), edge="#d5d8e2")
    sheet.note(at.x, at.bottom + 14, name)
    return at


def unclip_parts() -> Picture:
    """From a picture to its CLIP vector; from a caption to a vector to pictures."""
    config, E = FULL.models["unclip"], FULL.models["clip"].embedding
    image = picture_of(EXAMPLE, 0, config.image_size)
    sheet, y = Canvas(880, 348), 238.0
    given = sheet.image(24, 26, 96, image)
    tower = sheet.box(230, given.y, 104, 46, "CLIP's\nimage tower", tint(IMAGE, 0.18))
    vector = _strip(sheet, 430, given.y + 4, f"{E} numbers")
    sheet.arrow(given, tower)
    sheet.arrow(tower, (vector.left - 4, tower.y))
    sheet.note(456, given.y, "what a picture shows, in short", "left")
    caption = sheet.box(72, y, 100, 56, "“a big red car\non the grass”", tint(CAPTION, 0.15),
                        tint(CAPTION, 0.5), SMALL)  # fmt: skip
    prior = sheet.box(272, y, 104, 52, "prior:\na flow", tint(ACCENT, 0.14))
    z = _strip(sheet, 430, y, "CLIP vector")
    decoder = sheet.box(572, y, 112, 52, "decoder:\na flow", tint(ACCENT, 0.14))
    drawn = [sheet.image(724 + 22.0 * k, y - 62 + 20 * k, 96, picture_of(EXAMPLE, k + 1, 48))
             for k in range(3)]  # fmt: skip
    sheet.arrow(caption, prior)
    sheet.arrow(prior, (z.left - 4, prior.y))
    sheet.arrow((z.right + 4, decoder.y), decoder)
    sheet.arrow(decoder, (drawn[0].left - 4, decoder.y))
    sheet.path([(vector.right + 6, vector.bottom - 4), (decoder.x, vector.bottom - 4),
                (decoder.x, decoder.top - 4)], IMAGE, 1.6, head=True)  # fmt: skip
    sheet.text(decoder.x + 10, 186, "variations", SMALL, IMAGE, "left")
    sheet.path([(caption.x, caption.bottom + 4), (caption.x, 324), (decoder.x - 20, 324),
                (decoder.x - 20, decoder.bottom + 4)], CAPTION, 1.6, head=True)  # fmt: skip
    sheet.text(236, 312, "with the caption, or without", SMALL, CAPTION)
    for part in (prior, decoder):
        sheet.note(part.x + 24, part.bottom + 14, "noise")
    return sheet.picture(
        f"unCLIP. Above: CLIP's image tower makes a vector of {E} numbers from a picture. Below: a"
        " caption goes to the prior, a flow that makes a CLIP vector from noise; the vector goes to"
        " the decoder, a flow that makes pictures from noise, with the caption or without. A vector"
        " of a given picture may enter the decoder as well: its drawings are variations."
    )


def picture_denoiser() -> Picture:
    """The decoder's network: folded into patches, a transformer with a condition, unfolded."""
    c = FULL.models["unclip"]
    n, clean = c.image_size // c.patch, picture_of(EXAMPLE, 0, c.image_size) / 255
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    x_t = np.clip(0.5 + 0.5 * (0.5 * (2 * clean - 1) + 0.5 * noise), 0, 1)
    sheet, y = Canvas(880, 330), 196.0
    noisy = sheet.image(20, y - 72, 144, x_t)
    for k in range(1, n):
        step = 144 / n * k
        for xs, ys in (((20 + step,) * 2, (noisy.top, noisy.bottom)),
                       ((20, 164), (noisy.top + step,) * 2)):  # fmt: skip
            sheet.axis.plot(xs, ys, color="white", linewidth=0.9, zorder=4)
    sheet.text(noisy.x, noisy.top - 16, "x_t, and the time t", SMALL)
    sheet.note(noisy.x, noisy.bottom + 16, f"{n} × {n} patches of {c.patch}² pixels")
    stem = sheet.box(228, y, 60, 60, "stem", tint(IMAGE, 0.18))
    block = sheet.box(402, y, 196, 84, f"transformer,\n{c.layers} blocks, width {c.width}")
    add = sheet.box(560, y, 26, 26, "+", radius=13)
    tail = sheet.box(634, y, 78, 60, "residual\nblocks", tint(IMAGE, 0.18))
    out = sheet.image(716, y - 72, 144, clean)
    for a, b in ((noisy, stem), (stem, block), (block, add), (add, tail), (tail, out)):
        sheet.arrow(a, b)
    sheet.text(out.x, out.top - 16, "prediction of x", SMALL)
    sheet.note(out.x, out.bottom + 16, "here: the true picture")
    sheet.path([(stem.x, stem.bottom + 2), (stem.x, 300), (add.x, 300), (add.x, add.bottom + 4)],
               IMAGE, 1.6, head=True)  # fmt: skip
    sheet.text(394, 314, f"cells of {c.patch // 2} × {c.patch // 2} pixels,"
               f" {c.channels} channels: details pass by", SMALL, IMAGE)  # fmt: skip
    tokens = sheet.grid(318, 106, 14, [[tint(CAPTION, 0.4)] * c.context + [tint(ACCENT, 0.3)]
                                       * c.context], line=0.8)  # fmt: skip
    sheet.arrow((tokens.x, tokens.bottom + 2), (tokens.x, block.top - 2), gap=0)
    sheet.note(tokens.x, 92, f"{2 * c.context} context tokens")
    condition = sheet.box(372, 40, 132, 34, "condition", tint(ACCENT, 0.14))
    sheet.note(294, 40, "time t + context", "right")
    sheet.path([(condition.right + 4, 40), (476, 40), (476, block.top - 3)], ACCENT, 1.6, head=True)
    sheet.text(488, 62, "shift, scale, gate\nof every layer", SMALL, ACCENT, "left")
    return sheet.picture(
        f"The decoder's network. A noisy picture is cut into {n} by {n} patches of {c.patch} by"
        f" {c.patch} pixels. A stem of convolutions makes cells; patches of them and"
        f" {2 * c.context} context tokens go through a transformer of {c.layers} blocks. The time"
        " and the context form a condition, which sets shift, scale and gate of every layer. The"
        " cells also pass by the transformer and are added to what comes out; residual blocks make"
        " the prediction of x."
    )
