"""What lies in the middle of an autoencoder, and how a network chooses a code."""

import numpy as np
import torch
from matplotlib.colors import to_hex, to_rgb

from minidalle.dvae import tau_at
from minidalle.lab.diagrams.canvas import (
    ACCENT,
    CAPTION,
    FAINT,
    SMALL,
    TEXT,
    Box,
    Canvas,
    tint,
)
from minidalle.lab.diagrams.examples import code_colours, picture_of
from minidalle.lab.figures import COLOURS, Picture
from minidalle.quantize import gumbel_noise
from minidalle.training.presets import FULL

EXAMPLE = "a big red car on the grass"


def three_autoencoders() -> Picture:
    """Autoencoder, VAE and dVAE one above the other: they differ in what lies in the middle."""
    sheet = Canvas(880, 404)
    image = picture_of(EXAMPLE)
    config = FULL.models["dvae"]
    for at, label in ((164, "picture"), (398, "in the middle"), (632, "again")):
        sheet.text(at, 20, label, bold=True)
    sheet.text(688, 20, "added to the loss", ha="left", bold=True)
    rows = {
        "autoencoder": ("a point  z", "nothing;\na random z means nothing"),
        "VAE": ("a Gaussian,  z = μ + σ · ε", "KL( q ‖ N(0, 1) );\na sample of N(0, 1) decodes"),
        "dVAE": (
            f"{config.grid} × {config.grid} choices of 1 in {config.codes}",
            "β · KL( q ‖ uniform );\na prior learns the codes",
        ),
    }
    for i, (name, (middle, loss)) in enumerate(rows.items()):
        y = 92 + 124 * i
        if i:
            sheet.path([(16, y - 62), (864, y - 62)], tint(FAINT, 0.4), 1)
        sheet.text(16, y, name, ha="left", bold=True)
        x = sheet.image(132, y - 32, 64, image)
        encoder = sheet.trapezoid(256, y, 76, 84, 40, "encoder")
        decoder = sheet.trapezoid(540, y, 76, 40, 84, "decoder")
        again = sheet.image(600, y - 32, 64, image)
        latent = (_point, _gaussian, _choices)[i](sheet, 398, y - 6)
        sheet.text(398, y + 47, middle, SMALL, ACCENT)
        for a, b in ((x, encoder), (encoder, latent), (latent, decoder), (decoder, again)):
            sheet.arrow((a.right + 4, y), (b.left - 4, y))
        sheet.note(688, y, loss, ha="left")
    return sheet.picture(
        "Three autoencoders, each a picture, an encoder, a middle, a decoder and the picture again."
        " In the middle of the autoencoder lies a point z; in that of the VAE a Gaussian, from"
        f" which z is sampled; in that of the dVAE {config.grid} by {config.grid} choices among"
        f" {config.codes} codes. Their losses add to the reconstruction: nothing; a KL to N(0, 1);"
        " β times a KL to the uniform distribution."
    )


def _axes(sheet: Canvas, x: float, y: float) -> Box:
    """The plane of a latent space with two dimensions."""
    sheet.axis.plot((x - 46, x + 46), (y + 30, y + 30), color=FAINT, linewidth=1)
    sheet.axis.plot((x - 46, x - 46), (y - 34, y + 30), color=FAINT, linewidth=1)
    return Box(x - 56, y - 34, x + 56, y + 34)


def _point(sheet: Canvas, x: float, y: float) -> Box:
    at = _axes(sheet, x, y)
    sheet.axis.plot([x + 12], [y - 8], "o", color=ACCENT, markersize=7)
    return at


def _gaussian(sheet: Canvas, x: float, y: float) -> Box:
    at = _axes(sheet, x, y)
    angle = np.linspace(0, 2 * np.pi, 60)
    for radius, share in ((2.0, 0.15), (1.3, 0.3), (0.6, 0.5)):
        sheet.axis.fill(x + 8 + 16 * radius * np.cos(angle), y - 4 + 12 * radius * np.sin(angle),
                        color=tint(ACCENT, share), linewidth=0)  # fmt: skip
    sheet.axis.plot([x + 24], [y - 14], "o", color=ACCENT, markersize=7)
    return at


def _choices(sheet: Canvas, x: float, y: float) -> Box:
    config = FULL.models["dvae"]
    picture = picture_of(EXAMPLE, 0, config.image_size)
    at = sheet.grid(x - 36, y - 36, 72 / config.grid, code_colours(picture, config), line=0.5)
    sheet.frame(at, FAINT, 0.8)
    return Box(x - 56, y - 34, x + 56, y + 34)


def gumbel_softmax() -> Picture:
    """The machine: logits plus noise, divided by τ, softmax; then a mixture of code vectors.

    The rows on the right are τ at the start and at the end of training (`tau_at`), and between.
    """
    logits = torch.tensor([1.6, 0.4, 1.1, -0.6, 0.1])
    noise = gumbel_noise(logits, torch.Generator().manual_seed(3))
    total = logits + noise
    vectors = np.array([to_rgb(colour) for colour in COLOURS[: len(logits)]])
    names = [str(k + 1) for k in range(len(logits))]
    sheet = Canvas(860, 346)
    step, unit, left = 26.0, 17.0, 176.0
    rows = {
        "logits": (logits, CAPTION, "one per code,\nfrom the encoder"),
        "+  noise g": (noise, FAINT, "Gumbel(0, 1),\ndrawn afresh each time"),
        "logits + g": (total, TEXT, ""),
    }
    for i, (name, (values, colour, note)) in enumerate(rows.items()):
        base = 68 + 100 * i
        at = sheet.bars(left, base, step, unit, values, tint(colour, 0.75))
        sheet.text(16, base - (16 if note else 40), name, ha="left", bold=True)
        if note:
            sheet.note(16, base + 14, note, ha="left")
    winner = names[int(total.argmax())]
    sheet.note(
        16, base, f"its argmax, {winner}, is\na sample of the\nsoftmax of the logits", "left"
    )
    for k, name in enumerate(names):
        sheet.note(left + step * (k + 0.5), 330, name)
        sheet.note(600 + step * (k + 0.5), 330, name)
    divide = sheet.box(404, 168, 92, 54, "÷ τ\nsoftmax")
    sheet.path([(at.right + 8, base), (404, base), (404, 199)], head=True)
    sheet.text(666, 18, "y, sums to 1", bold=True)
    sheet.text(801, 18, "mixture", bold=True)
    for i, tau in enumerate((tau_at(0.0), 0.4, tau_at(1.0))):
        y, base = torch.softmax(total / tau, 0), 108 + 100 * i
        at = sheet.bars(600, base, step, 62, y, [tint(c, 0.9) for c in COLOURS[: len(names)]])
        value = f"1/{round(1 / tau)}" if tau < 0.2 else f"{tau:g}"
        sheet.text(588, base - 26, f"τ = {value}", ha="right", bold=True)
        sheet.note(588, base - 8, ("at first", "later", "at the end")[i], ha="right")
        swatch = sheet.grid(782, base - 38, 38, [[to_hex(y.numpy() @ vectors)]])
        sheet.frame(swatch, FAINT, 0.8)
        sheet.arrow((at.right + 6, swatch.y), swatch)
        sheet.arrow((divide.right + 4, divide.y), (506, base - 20), line=1)
    sheet.note(801, 330, "of code vectors")
    return sheet.picture(
        "The Gumbel-softmax machine: logits plus Gumbel noise g, divided by τ, go through a softmax"
        " to y, which weighs the code vectors into a mixture. At τ = 1 the mixture is of all codes;"
        f" as τ falls to {tau_at(1.0):g}, y becomes one-hot and the mixture one code, number"
        f" {winner}, the argmax of logits plus noise."
    )
