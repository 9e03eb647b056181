"""GANs: the game, the best discriminator, who pulls which score, captions, one Gaussian for two.

Densities, divergences, gradients and scores are computed, so no diagram invents a result.
"""

import numpy as np
import torch

from minidalle.baselines import adversarial
from minidalle.baselines.gan import Discriminator
from minidalle.lab.diagrams.canvas import (
    ACCENT,
    CAPTION,
    FAINT,
    IMAGE,
    QUIET,
    SMALL,
    TEXT,
    Canvas,
    heat,
    tint,
)
from minidalle.lab.diagrams.examples import picture_of
from minidalle.lab.figures import Picture
from minidalle.lab.two_modes import MODE
from minidalle.training.presets import FULL

EXAMPLE = "a big red car by the sea"
WRONG = "a big red car in the snow"
WIDTH, NARROW = 0.5, 0.35  # standard deviations of the modes drawn here: the toy's are needles
XS = np.linspace(-6, 6, 481)
STEP = XS[1] - XS[0]


def _gaussian(mean, sd) -> np.ndarray:
    return np.exp(-(((XS - mean) / sd) ** 2) / 2) / (sd * np.sqrt(2 * np.pi))


def _two_modes(sd: float) -> np.ndarray:
    return (_gaussian(-MODE, sd) + _gaussian(MODE, sd)) / 2


def _kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(p ‖ q) over the last axis, which is x."""
    p, q = np.broadcast_arrays(p + 1e-30, q + 1e-30)
    return (p * np.log(p / q)).sum(-1) * STEP


def _jsd(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    middle = (p + q) / 2
    return (_kl(p, middle) + _kl(q, middle)) / 2


def _fake() -> np.ndarray:
    """A picture that a young generator might make: coarse, with noise."""
    coarse = picture_of(EXAMPLE, 5).reshape(12, 4, 12, 4, 3).mean((1, 3))
    noisy = coarse + 28 * np.random.default_rng(0).standard_normal(coarse.shape)
    return noisy.clip(0, 255).astype(np.uint8).repeat(4, 0).repeat(4, 1)


def adversarial_game() -> Picture:
    """Generator and discriminator, what goes into each, and what each learns."""
    noise = FULL.models["gan"].noise
    sheet = Canvas(880, 352)
    z = sheet.grid(
        24, 218, 14, heat(np.random.default_rng(1).standard_normal((1, 8))), edge="#d5d8e2"
    )
    sheet.note(z.x, 250, f"noise z: {noise} numbers")
    caption = sheet.box(80, 150, 112, 52, "“a big red car\nby the sea”", tint(CAPTION, 0.15),
                        tint(CAPTION, 0.5), SMALL, radius=3)  # fmt: skip
    generator = sheet.box(250, 225, 92, 56, "generator\nG", tint(ACCENT, 0.18))
    fake = sheet.image(372, 178, 96, _fake())
    real = sheet.image(372, 26, 96, picture_of(EXAMPLE))
    judge = sheet.box(612, 150, 104, 60, "discriminator\nD", tint(CAPTION, 0.18))
    sheet.note(fake.x, 286, "a fake")
    sheet.note(360, real.y, "a real picture", ha="right")
    sheet.arrow(z, generator)
    sheet.arrow((caption.right + 4, 150), (judge.left - 4, 150))
    sheet.path([(250, 150), (250, generator.top - 4)], head=True)
    sheet.arrow(generator, fake)
    sheet.arrow((real.right + 4, real.y), (judge.left - 4, 134), IMAGE, 1.8)
    sheet.arrow((fake.right + 4, fake.y), (judge.left - 4, 166), ACCENT, 1.8)
    sheet.arrow((judge.right + 4, 150), (712, 150))
    sheet.text(720, 150, "a score:\nhigh for a real pair", ha="left", bold=True)
    sheet.path([(724, 122), (724, 76), (612, 76), (612, judge.top - 4)], CAPTION, 2, head=True)
    sheet.text(738, 88, "D learns: raise the\nreal, lower the fake", SMALL, CAPTION, "left")
    sheet.path([(724, 180), (724, 318), (250, 318), (250, generator.bottom + 4)], ACCENT, 2,
               head=True)  # fmt: skip
    sheet.text(738, 250, "G learns: raise\nthe fake", SMALL, ACCENT, "left")
    return sheet.picture(
        f"A GAN. The generator G makes a fake out of a caption and noise z, {noise} numbers. The"
        " discriminator D sees a real picture or a fake, with the caption, and gives a score. D"
        " learns to raise the score of real pairs and to lower that of fakes. G learns to raise the"
        " score of its fakes. The two want opposite things."
    )


def best_discriminator() -> Picture:
    """Two densities, and the probability that the best discriminator gives to real."""
    p, q = _two_modes(WIDTH), _gaussian(0.9, 1.1)
    best, divergence = p / (p + q), float(_jsd(p, q))
    sheet = Canvas(880, 326)
    left, unit = 60.0, 44.0

    def at(x: float, value: float, base: float, height: float) -> tuple[float, float]:
        return left + unit * (x + 6), base - height * value

    seen = slice(40, -40)  # where something is to be seen
    for density, colour in ((p, IMAGE), (q, ACCENT)):
        points = [at(x, v, 150, 280) for x, v in zip(XS[seen], density[seen], strict=True)]
        sheet.axis.plot(*zip(*points, strict=True), color=colour, linewidth=2.2, zorder=4)
    points = [at(x, v, 290, 96) for x, v in zip(XS[seen], best[seen], strict=True)]
    sheet.axis.plot(*zip(*points, strict=True), color=CAPTION, linewidth=2.4, zorder=4)
    for base in (150.0, 290.0):
        sheet.path([at(-5, 0, base, 1), at(5, 0, base, 1)], FAINT, 1)
    half = at(-5, 0.5, 290, 96)
    sheet.path([half, at(5, 0.5, 290, 96)], QUIET, 1, dashed=True)
    for value, label in ((0, "0"), (0.5, "½"), (1, "1")):
        sheet.note(half[0] - 12, 290 - 96 * value, label, ha="right")
    for x in (-4, -2, 0, 2, 4):
        sheet.note(at(x, 0, 0, 0)[0], 304, f"{x}".replace("-", "−"))
    for i in np.flatnonzero(np.diff(np.sign(p - q)[seen])) + 40:
        sheet.path([at(XS[i], 0, 290, 96), at(XS[i], p[i], 150, 280)], FAINT, 1, dashed=True)
        sheet.axis.plot(*([v] for v in at(XS[i], 0.5, 290, 96)), "o", color=CAPTION, zorder=5)
    lines = (
        (56, "p, density of real numbers", IMAGE, "two modes"),
        (106, "q, density of fakes", ACCENT, "one, in between"),
        (206, "D* = p / (p + q)", CAPTION, "the best D: ½ where the\ncurves above cross (dots)"),
        (272, f"JSD(p ‖ q) = {divergence:.2f}", TEXT, f"of at most ln 2 = {np.log(2):.2f}"),
    )
    for y, name, colour, note in lines:
        sheet.text(592, y, name, colour=colour, ha="left", bold=True)
        sheet.note(592, y + (30 if "\n" in note else 20), note, ha="left")
    return sheet.picture(
        "The best discriminator. Above, the density p of real numbers with two modes and the"
        " density q of fakes with one. Below, D* = p / (p + q): near 1 where real numbers are"
        " commoner, near 0 where fakes are, and ½ where the densities cross. The Jensen–Shannon"
        f" divergence of the two is {divergence:.2f}, of at most {np.log(2):.2f}."
    )


SCORES = {"D undecided": 0.0, "D sure": 3.0}  # of real pictures; fakes have minus that
GAMES = {
    "minimax": adversarial.minimax,
    "non-saturating": adversarial.non_saturating,
    "hinge": adversarial.hinge,
    "the tutorials'": adversarial.cooperative,
}


def _pulls(losses, score: float) -> tuple[float, float, float]:
    """How hard one step of descent pulls the score of a real picture (by D), of a fake (by D), and
    of a fake (by G); positive: up."""
    real, fake = torch.tensor([score], requires_grad=True), torch.tensor([-score])
    fake.requires_grad_()
    own = losses(real, fake)
    by_d = torch.autograd.grad(own.discriminator, (real, fake), retain_graph=True)
    (by_g,) = torch.autograd.grad(own.generator, fake)
    return -by_d[0].item(), -by_d[1].item(), -by_g.item()


def pulls_of_losses() -> Picture:
    """Four pairs of losses: who pulls which score, where to, and how hard."""
    sheet = Canvas(880, 430)
    columns = ("D on real", "D on fakes", "G on fakes")
    found = {}
    for i, (state, score) in enumerate(SCORES.items()):
        middle = 330.0 + 380 * i
        scores = "all scores 0" if not score else f"real {score:g}, fakes −{score:g}"
        sheet.text(middle, 20, f"{state}: {scores}", bold=True)
        for j, column in enumerate(columns):
            sheet.note(middle + 112 * (j - 1), 48, column)
        for k, (name, losses) in enumerate(GAMES.items()):
            y = 112.0 + 88 * k
            found[name, state] = _pulls(losses, score)
            for j, pull in enumerate(found[name, state]):
                x = middle + 112 * (j - 1)
                colour = ACCENT if j == 2 else CAPTION
                if abs(pull) < 1e-6:
                    sheet.axis.plot([x], [y], "o", color=tint(QUIET, 0.6), markersize=5, zorder=4)
                else:
                    size = 30 * abs(pull) ** 0.5 * np.sign(pull)
                    sheet.arrow((x, y + size), (x, y - size), colour, 2.4, gap=0)
                label = f"{pull:+.2f}".replace("-", "−") if abs(pull) > 1e-6 else "0"
                sheet.note(x + 12, y, label, ha="left")
    for k, name in enumerate(GAMES):
        y = 112.0 + 88 * k
        sheet.text(24, y, name, ha="left", bold=True)
        if k:
            sheet.path([(24, y - 44), (860, y - 44)], tint(FAINT, 0.5), 0.8)
    sheet.note(24, y + 20, "weight 1", ha="left")
    up = found["non-saturating", "D sure"][2]
    tiny = found["minimax", "D sure"][2]
    return sheet.picture(
        "Four pairs of losses, and how hard a step of each pulls the scores, for an undecided and"
        " for a sure discriminator. Minimax, non-saturating and hinge: D pulls real scores up and"
        " those of fakes down, and G pulls those of fakes up. When D is sure, minimax pulls G with"
        f" {tiny:.2f}, non-saturating with {up:.2f}. The tutorials' losses: D pulls the scores of"
        " real pictures down, and nothing pulls fakes at all."
    )


def projection_discriminator() -> Picture:
    """Three kinds of examples, and a score in two parts: is it real, and does it fit a caption?"""
    config = FULL.models["gan"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        d = Discriminator(config).eval()
        image = torch.from_numpy(picture_of(EXAMPLE) / 255).float().movedim(-1, 0)[None]
        with torch.no_grad():
            features = d.features(2 * image - 1)[0]
            caption = torch.randn(config.text_width)  # in place of a trained text encoder
    sheet = Canvas(880, 352)
    examples = (
        ("real pair", picture_of(EXAMPLE), EXAMPLE, "up", IMAGE, "1"),
        ("fake", _fake(), EXAMPLE, "down", ACCENT, f"{config.fake_share:g}"),
        ("mismatch", picture_of(EXAMPLE), WRONG, "down", ACCENT, f"{1 - config.fake_share:.1f}"),
    )
    for i, (name, picture, text, way, colour, weight) in enumerate(examples):
        y = 26.0 + 108 * i
        at = sheet.image(24, y, 96, picture)
        sheet.text(134, at.y - 28, name, ha="left", bold=True)
        first, second = text[:13], text[14:]
        sheet.text(134, at.y, f"“{first}\n{second}”", SMALL, CAPTION, "left")
        sheet.text(134, at.y + 30, f"score {way}, weight {weight}", SMALL, colour, "left")
    shown = sheet.image(360, 56, 64, picture_of(EXAMPLE))
    layers = sheet.box(492, shown.y, 76, 56, "convo-\nlutions")
    strip = sheet.grid(560, shown.y - 7, 14, heat(features[None, :12].abs(), IMAGE), edge="#d5d8e2")
    words = sheet.box(386, 246, 94, 46, "“a big red car\nby the sea”", tint(CAPTION, 0.15),
                      tint(CAPTION, 0.5), SMALL, radius=3)  # fmt: skip
    reader = sheet.box(492, 246, 76, 56, "trans-\nformer")
    vector = sheet.grid(560, 239, 14, heat(caption[None, :12]), edge="#d5d8e2")
    for a, b in ((shown, layers), (layers, strip), (words, reader), (reader, vector)):
        sheet.arrow(a, b)
    sheet.note(strip.x, strip.top - 14, f"features φ: {config.text_width} numbers")
    sheet.note(vector.x, vector.bottom + 16, f"caption c: {config.text_width} numbers")
    plain = sheet.box(800, shown.y, 70, 40, "w · φ + b", tint(IMAGE, 0.2))
    both = sheet.box(700, 166, 74, 40, "φ · c / √D", tint(CAPTION, 0.2))
    total = sheet.box(800, 166, 44, 40, "+", size=12, bold=True)
    sheet.arrow(strip, plain)
    sheet.path([(700, strip.bottom + 4), (700, both.top - 4)], head=True)
    sheet.path([(700, vector.top - 4), (700, both.bottom + 4)], head=True)
    sheet.arrow(both, total)
    sheet.arrow(plain, total)
    sheet.note(848, shown.y - 32, "is it real?", ha="right")
    sheet.note(690, 202, "does it show this?", ha="right")
    sheet.arrow(total, (800, 224))
    sheet.text(800, 238, "score", bold=True)
    return sheet.picture(
        "A projection discriminator. Three kinds of examples: a real pair, whose score should go"
        f" up; a fake, down, with weight {config.fake_share:g}; and a mismatch, a real picture with"
        f" a wrong caption, down, with weight {1 - config.fake_share:.1f}. Convolutions turn the"
        f" picture into features φ, {config.text_width} numbers; a transformer turns the caption"
        " into a vector c. The score is w · φ + b, is it real, plus φ · c / √D, does it show this."
    )


def one_gaussian_for_two() -> Picture:
    """The best single Gaussian for two modes, by three measures of what is best."""
    p = _two_modes(NARROW)
    means, sds = np.arange(-3, 3.01, 0.1), np.arange(0.2, 3.01, 0.05)
    grid = np.array([(m, s) for m in means for s in sds])
    q = _gaussian(grid[:, :1], grid[:, 1:])
    measures = {
        "likelihood": ("least KL(p ‖ q)", _kl(p, q)),
        "best D": ("least JSD(p ‖ q)", _jsd(p, q)),
        "KL turned round": ("least KL(q ‖ p)", _kl(q, p)),
    }
    sheet = Canvas(880, 256)
    found = []
    for i, (name, (note, values)) in enumerate(measures.items()):
        best = int(values.argmin())
        mean, sd = grid[best]
        found.append((name, abs(float(mean)), float(sd)))
        middle, base, unit, height = 150.0 + 290 * i, 196.0, 25.0, 116.0
        for density, colour in ((p, IMAGE), (_gaussian(mean, sd), ACCENT)):
            points = list(zip(middle + unit * XS[60:-60], base - height * density[60:-60],
                              strict=True))  # fmt: skip
            sheet.axis.plot(*zip(*points, strict=True), color=colour, linewidth=2.2, zorder=4)
        sheet.path([(middle - 116, base), (middle + 116, base)], FAINT, 1)
        sheet.text(middle, 18, name, bold=True)
        sheet.note(middle, 40, note)
        signed = f"mean {mean:.1f}".replace("-0.0", "0.0").replace("-", "−")
        sheet.text(middle, 214, f"{signed}, sd {sd:.2f}", SMALL, ACCENT)
    sheet.note(440, 242, "green: real numbers, p        red: the best Gaussian, q")
    summary = "; ".join(f"{name}: mean ±{m:.1f}, sd {s:.2f}" for name, m, s in found)
    return sheet.picture(
        "One Gaussian for real numbers with two modes, the best by three measures. By likelihood,"
        " KL(p ‖ q), it covers both modes and the empty middle. By the Jensen–Shannon divergence,"
        " and by KL(q ‖ p), it sits on one mode and leaves the other out. " + summary + "."
    )
