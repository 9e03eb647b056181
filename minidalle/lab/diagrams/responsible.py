"""Responsible pictures: where bias enters, what temperature does to shares, balanced sampling, the
exposure of a canary, and a map of the whole course.

Shares, weights, ranks and lines of code are computed, so no diagram invents a result.
"""

import random
from collections import Counter
from math import log, log2

import numpy as np
import torch
from matplotlib.colors import to_hex

from minidalle.datasets.planted import PlantedBias, balanced_weights
from minidalle.evaluation.audit import exposure, tempered
from minidalle.evaluation.systems import NAMES, lines_of_code
from minidalle.lab.diagrams.canvas import (
    ACCENT,
    CAPTION,
    CODE,
    FAINT,
    IMAGE,
    LARGE,
    NETWORK,
    NORMAL,
    QUIET,
    SMALL,
    TEXT,
    Canvas,
    tint,
)
from minidalle.lab.figures import Picture
from minidalle.world.facts import COLOURS
from minidalle.world.scenes import SEEN_COLOURS
from minidalle.world.storybook import Storybook

CARS = SEEN_COLOURS["car"]  # the colours in which training shows cars
LEAN = 0.25  # share of green in the example's collection; the other colours share the rest
TEMPERATURES = (1.0, 0.7, 0.4)


def _paint(colour: str) -> str:
    """A colour of the world that can be seen on white."""
    red, green, blue = (part / 255 for part in COLOURS[colour])
    return tint(FAINT, 0.35) if colour == "white" else to_hex((red, green, blue))


def _leaning(share: float) -> dict[str, float]:
    """The shares of the colours of cars, of which green has `share`."""
    rest = (1 - share) / (len(CARS) - 1)
    return {colour: share if colour == "green" else rest for colour in CARS}


def where_bias_enters() -> Picture:
    """Five stations from the world to the use of a picture, and the share of green at each."""
    drawn = tempered(_leaning(LEAN), 0.4)["green"]
    again = (LEAN + drawn) / 2
    stations = (
        ("world", 1 / len(CARS), "what there is", IMAGE),
        ("collection", LEAN, "who was seen,\nand who wrote", CAPTION),
        ("training", LEAN, "the rare is\nlearned last", NETWORK),
        ("drawing", drawn, "temperature,\nguidance, ranking", CODE),
        ("use", drawn, "what is published\nand believed", ACCENT),
    )
    sheet, boxes = Canvas(880, 262), []
    for i, (name, share, note, colour) in enumerate(stations):
        x = 98.0 + 171 * i
        fill = colour if colour == NETWORK else tint(colour, 0.25)
        boxes.append(sheet.box(x, 92, 112, 40, name, fill, bold=True))
        sheet.text(x, 44, f"{share:.0%} green", colour=TEXT)
        sheet.note(x, 142, note)
        if i:
            sheet.arrow(boxes[-2], boxes[-1])
    use, collection = boxes[-1], boxes[1]
    sheet.path([(use.x, 178), (use.x, 216), (collection.x, 216), (collection.x, 172)], ACCENT,
               head=True, dashed=True)  # fmt: skip
    sheet.text((use.x + collection.x) / 2, 238, "drawings return to the collection; where they are"
               f" half of it, it has {again:.0%} green", SMALL, ACCENT)  # fmt: skip
    return sheet.picture(
        "Where bias enters, from left to right: the world, the collection, training, drawing and"
        f" use. An example in numbers: {1 / len(CARS):.0%} of the world's cars are green,"
        f" {LEAN:.0%} of the collection's, and {drawn:.0%} of the drawings at temperature 0.4. A"
        f" dashed arrow leads from use back to the collection, which then has {again:.0%}."
    )


def tempered_shares() -> Picture:
    """The shares of colours at three temperatures, by the closed form."""
    weights = [1.0, 0.62, 0.5, 0.44, 0.4, 0.36, 0.3, 0.26, 0.2, 0.16]
    order = ["green", *(colour for colour in CARS if colour != "green")]
    total = sum(weights[: len(order)])
    p = {colour: weight / total for colour, weight in zip(order, weights, strict=False)}
    sheet, tops, entropies = Canvas(880, 262), [], []
    for i, temperature in enumerate(TEMPERATURES):
        shares = tempered(p, temperature)
        x, base, unit = 58.0 + 284 * i, 206.0, 250.0
        colours = [_paint(colour) for colour in shares]
        sheet.bars(x, base, 22, unit, shares.values(), colours)
        fair = base - unit / len(CARS)
        sheet.axis.plot((x, x + 220), (fair, fair), color=TEXT, linewidth=1, zorder=5,
                        linestyle=(0, (3, 2)))  # fmt: skip
        tops.append(shares["green"])
        entropies.append(-sum(s * log(s) for s in shares.values() if s))
        sheet.text(x + 110, 24, f"temperature {temperature:g}", bold=True)
        sheet.note(x + 110, 226, f"green {tops[-1]:.0%}, entropy {entropies[-1]:.2f} nats")
    sheet.note(440, 248, "dashed: the world's own share, the same for every colour")
    return sheet.picture(
        f"The shares of {len(CARS)} colours of cars at temperatures 1, 0.7 and 0.4: each bar is"
        f" p to the power of 1/τ, normalised. Green grows from {tops[0]:.0%} to {tops[-1]:.0%}, and"
        f" the entropy falls from {entropies[0]:.2f} to {entropies[-1]:.2f} nats. A dashed line is"
        " the world's own share."
    )


def balanced_sampling() -> Picture:
    """A small collection, its colours counted, and each picture's weight when it is balanced."""
    groups = PlantedBias(Storybook(), things=36, share=0.75, seed=3).colours()
    counts, weights = Counter(groups), balanced_weights(groups)
    order = [colour for colour, _ in counts.most_common()]
    sheet = Canvas(880, 282)
    cells = [groups[row * 6 : row * 6 + 6] for row in range(6)]
    at = sheet.grid(28, 56, 26, [[_paint(colour) for colour in row] for row in cells])
    sheet.text(at.x, 32, f"{len(groups)} pictures", bold=True)
    unit, step = 4.4, 24.0
    left, right, base = 250.0, 600.0, 212.0
    sheet.bars(left, base, step, unit, [counts[c] for c in order], [_paint(c) for c in order])
    totals = [sum(w for g, w in zip(groups, weights, strict=True) if g == c) for c in order]
    sheet.bars(right, base, step, unit * len(groups), totals, [_paint(c) for c in order])
    for i, colour in enumerate(order):
        sheet.note(left + step * (i + 0.5), base + 14, f"{counts[colour]}")
        times = weights[groups.index(colour)] * len(groups)
        sheet.note(right + step * (i + 0.5), base + 14, f"{times:.2g}")
    sheet.text(left + step * len(order) / 2, 32, "as they are: equal weights", bold=True)
    sheet.text(right + step * len(order) / 2, 32, "balanced: equal groups", bold=True)
    sheet.note(left + step * len(order) / 2, base + 38, "pictures of each colour")
    sheet.note(right + step * len(order) / 2, base + 38, "how often each of its pictures\nis seen,"
               " instead of once")  # fmt: skip
    sheet.arrow((at.right + 8, at.y), (left - 10, at.y))
    sheet.arrow((left + step * len(order) + 12, at.y), (right - 12, at.y))
    n = 1 / sum(w * w for w in weights)
    sheet.text(left + step * len(order) / 2, base + 60, f"effective sample size {n:.0f} of"
               f" {len(groups)}", SMALL, ACCENT)  # fmt: skip
    rare = order[-1]
    return sheet.picture(
        f"A collection of {len(groups)} pictures of cars, {counts['green']} of them green. With"
        " equal weights green comes most often. With balanced weights each of the"
        f" {len(order)} colours is equally frequent: a {rare} picture is then seen"
        f" {weights[groups.index(rare)] * len(groups):.2g} times instead of once, a green one"
        f" {weights[groups.index('green')] * len(groups):.2g} times. The effective sample size"
        f" falls to {n:.0f}."
    )


SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "mo", "ne", "pi", "ra")


def _toy_exposures(secret: tuple[int, int, int], times: tuple[int, ...]) -> list[float]:
    """The exposure of a name of three syllables in a bigram model of 200 other names, and of the
    secret as many times as is listed."""
    rng = random.Random(1)
    others = [tuple(rng.randrange(10) for _ in range(3)) for _ in range(200)]
    found = []
    for k in times:
        first, pairs = np.ones(10), np.ones((10, 10))
        for a, b, c in [*others, *[secret] * k]:
            first[a] += 1
            pairs[a, b] += 1
            pairs[b, c] += 1
        p, q = first / first.sum(), pairs / pairs.sum(1, keepdims=True)
        nats = -np.log(p[:, None, None] * q[:, :, None] * q[None]).reshape(-1)
        a, b, c = secret
        found.append(exposure(torch.from_numpy(nats), 100 * a + 10 * b + c))
    return found


def exposure_of_a_canary() -> Picture:
    """How many bits a small model of names gives away of one that it has seen k times."""
    times, secret = (0, 1, 4, 16), (6, 4, 8)
    name, most = "".join(SYLLABLES[s] for s in secret), log2(1000)
    found = _toy_exposures(secret, times)
    sheet, left, right = Canvas(880, 262), 190.0, 700.0

    def at(bits: float) -> float:
        return left + (right - left) * bits / most

    for i, (k, bits) in enumerate(zip(times, found, strict=True)):
        y = 66.0 + 40 * i
        sheet.axis.plot((left, right), (y, y), color=tint(FAINT, 0.5), linewidth=1, zorder=2)
        sheet.axis.plot((left, at(bits)), (y, y), color=ACCENT, linewidth=4, zorder=4,
                        solid_capstyle="butt")  # fmt: skip
        sheet.axis.plot([at(bits)], [y], "o", color=ACCENT, markersize=9, zorder=5)
        sheet.text(left - 16, y, f"seen {k} times", ha="right")
        rank = round(1000 / 2**bits)
        sheet.text(right + 16, y, f"rank {rank}: {bits:.1f} bits", SMALL, TEXT, "left")
    for bits in (0, 2, 4, 6, 8, most):
        sheet.note(at(bits), 214, f"{bits:.0f}" if bits < most else f"log₂ 1000 = {most:.2f}")
    sheet.text((left + right) / 2, 28, f"“{name}” among the 1,000 names of three syllables",
               LARGE, bold=True)  # fmt: skip
    sheet.note((left + right) / 2, 240, "exposure = log₂ 1000 − log₂ rank, in bits")
    return sheet.picture(
        f"The exposure of a canary, the made-up name {name}, among a thousand names of three"
        " syllables, in a model of pairs of syllables. Seen 0 times its exposure is"
        f" {found[0]:.1f} bits, seen 4 times {found[2]:.1f}, and seen 16 times {found[3]:.1f} of"
        f" {most:.2f} bits. Exposure is the logarithm of the number of names minus that of its"
        " rank."
    )


PARTS = (
    ("pictures", IMAGE, ("01 world and judge", "02 autoencoders", "03 codes", "04 the dVAE")),
    ("words", CAPTION, ("05 tokens", "06 attention", "07 the prior", "08 its training")),
    ("drawing", CODE, ("09 sampling", "10 CLIP", "11 reranking", "12 measuring")),
    ("use", ACCENT, ("13 editing", "14 real pictures", "15 over-fitting", "20 responsibility")),
)


def course_map() -> Picture:
    """All chapters in their parts, and the systems that they build, with their lines of code."""
    sheet = Canvas(880, 400)
    for i, (name, colour, chapters) in enumerate(PARTS):
        x = 116.0 + 216 * i
        head = sheet.box(x, 32, 184, 30, name, tint(colour, 0.35), bold=True, size=LARGE)
        for k, chapter in enumerate(chapters):
            sheet.box(x, 76.0 + 36 * k, 184, 28, chapter, tint(colour, 0.1), tint(FAINT, 0.5),
                      size=NORMAL)  # fmt: skip
        if i:
            sheet.arrow((head.left - 30, 32), (head.left - 2, 32))
    sheet.text(440, 232, "16–19 the other roads: the same pictures, the same judge", bold=True)
    systems = [(name, lines_of_code(stage)) for stage, name in NAMES.items()]
    for i, (name, lines) in enumerate(systems):
        x = 440.0 + 170 * (i - (len(systems) - 1) / 2)
        sheet.box(x, 270, 154, 32, name, NETWORK, ACCENT if not i else FAINT, bold=not i)
        sheet.note(x, 300, f"{lines} lines")
    roads = ("larger: nanoGPT, torchtitan", "diffusion: k-diffusion", "photographs: OpenCLIP")
    for i, road in enumerate(roads):
        x = 440.0 + 284 * (i - 1)
        sheet.arrow((x, 318), (x, 350), QUIET, dashed=True, gap=0)
        sheet.note(x, 368, road)
    listed = "; ".join(f"{name}: {', '.join(chapters)}" for name, _, chapters in PARTS)
    named = ", ".join(f"{name} {lines} lines" for name, lines in systems)
    return sheet.picture(
        f"A map of the course. Its parts and chapters are {listed}. Below them the systems of"
        f" chapters 16 to 19, with the lines of code of their models: {named}. Dashed arrows lead"
        " on, to larger models, to diffusion and to photographs."
    )
