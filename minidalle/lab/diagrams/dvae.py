"""The dVAE: its residual block, its grid of codes, and codes that begin as prototypes."""

import numpy as np
import torch
from torch import nn

from minidalle.dvae import MEAN_WEIGHT
from minidalle.lab.diagrams.canvas import (
    ACCENT,
    CAPTION,
    CODE,
    FAINT,
    SMALL,
    TEXT,
    Box,
    Canvas,
    tint,
)
from minidalle.lab.diagrams.examples import (
    code_colours,
    encode,
    picture_of,
    prototype_dvae,
    prototypes,
)
from minidalle.lab.figures import Picture
from minidalle.residual import Block
from minidalle.training.presets import FULL

EXAMPLE = "a big red car on the grass"


def residual_block() -> Picture:
    """A residual block of the decoder: four convolutions with a bottleneck, added to the input."""
    config = FULL.models["dvae"]
    width = config.widths[-1]
    gain = (len(config.widths) * config.blocks) ** -0.5
    with torch.device("meta"):  # its shapes are wanted, and no weights
        block = Block(width, width, gain, config.decoder_num_3x3, True, config.bottleneck)
    convolutions = [m for m in block.path if isinstance(m, nn.Conv2d)]
    channels = [width, *(m.out_channels for m in convolutions)]
    sheet = Canvas(860, 292)
    y, step, scale = 190.0, 130.0, 132 / width
    bars: list[Box] = []
    for i, c in enumerate(channels):
        x = 112 + step * i
        fill = tint(CODE, 0.45 if c == width else 0.8)
        bars.append(sheet.box(x, y, 22, max(8, scale * c), "", fill, radius=2))
        sheet.note(x, y + scale * c / 2 + 14, f"{c}" if i else f"{c} channels")
    for a, b, conv in zip(bars[:-1], bars[1:], convolutions, strict=True):
        kernel = conv.kernel_size[0]
        label = f"ReLU\nconv {kernel} × {kernel}"
        wide = kernel > 1
        middle = (a.right + b.left) / 2
        sheet.box(middle, y, 80, 44, label, tint(ACCENT, 0.22) if wide else "white", size=SMALL)
        sheet.arrow((a.right, y), (middle - 42, y), gap=2)
        sheet.arrow((middle + 42, y), (b.left, y), gap=2)
    sheet.bracket(
        bars[1].left, bars[-2].right, y + 58, f"bottleneck: {channels[1]} channels make 3 × 3 cheap"
    )
    plus = sheet.box(770, 52, 30, 30, "+", "white", radius=15, size=12)
    x_in = 44.0
    sheet.text(x_in, 52, "x", 12, bold=True)
    sheet.arrow((x_in + 12, 52), (plus.left - 4, 52), TEXT, 2.2)
    sheet.text(410, 36, "skip connection: x goes on unchanged", SMALL)
    sheet.path([(70, 52), (70, y), (bars[0].left - 4, y)], head=True)
    sheet.path([(bars[-1].right + 4, y), (770, y), (770, 71)], head=True)
    sheet.text(780, 130, f"× {gain:.2f}", ha="left")
    sheet.note(780, 150, f"gain, 1/√{round(gain**-2)}", ha="left")
    sheet.arrow((plus.right + 4, 52), (836, 52), TEXT, 2.2)
    kernels = ", ".join(f"{m.kernel_size[0]} × {m.kernel_size[0]}" for m in convolutions)
    return sheet.picture(
        "A residual block: the input x goes along a skip connection unchanged. A path of four"
        f" convolutions, {kernels}, a ReLU before each, leads from {width} channels through a"
        f" bottleneck of {channels[1]} and back. It is multiplied by the gain {gain:.2f} and added."
    )


def picture_to_codes() -> Picture:
    """A picture is cut into squares of f × f pixels, and each becomes one code of a grid."""
    config = FULL.models["dvae"]
    f, n, pixels = config.factor, config.grid, config.image_size
    dvae = prototype_dvae(config)
    image = picture_of(EXAMPLE, 0, pixels)
    codes = encode(dvae, image)
    squares = image.reshape(n, f, n, f, 3).swapaxes(1, 2) / 255
    row, column = divmod(int(squares.std((2, 3)).sum(-1).argmax()), n)  # the one with most to see
    sheet = Canvas(880, 268)
    top, side = 52.0, 160.0
    cell = side / n
    sheet.text(104, 20, "picture", bold=True)
    whole = sheet.image(24, top, side, image)
    sheet.note(104, top + side + 14, f"{pixels} × {pixels} × 3 = {pixels**2 * 3} numbers")

    sheet.text(292, 20, f"squares, f = {f} pixels across", bold=True)
    cut = sheet.image(212, top, side, image)
    for k in range(n + 1):
        at = cell * k
        for line in (((212 + at,) * 2, (top, top + side)), ((212, 372), (top + at,) * 2)):
            sheet.axis.plot(*line, color="white", linewidth=0.8, zorder=4)
    chosen = Box(212 + cell * column, top + cell * row, 212 + cell * (column + 1),
                 top + cell * (row + 1))  # fmt: skip
    sheet.frame(chosen)
    sheet.note(292, top + side + 14, f"{pixels} ÷ {f} = {n} a side")

    square = squares[row, column]
    sheet.text(476, 20, "one square", bold=True)
    zoom = sheet.grid(434, top + 38, 84 / f, square, line=1)
    sheet.frame(zoom)
    sheet.note(476, zoom.bottom + 16, f"{f} × {f} × 3 = {3 * f * f} numbers")
    sheet.path([(chosen.right, chosen.top), (zoom.left, zoom.top)], ACCENT, 1, dashed=True)
    sheet.path([(chosen.right, chosen.bottom), (zoom.left, zoom.bottom)], ACCENT, 1, dashed=True)

    encoder = sheet.box(588, zoom.y, 72, 40, "encoder")
    sheet.arrow(zoom, encoder)
    sheet.text(760, 20, "grid of codes", bold=True)
    sheet.grid(680, top, cell, [[tint(c, 0.75) for c in r] for r in code_colours(image, config)])
    spot = Box(680 + cell * column, top + cell * row, 680 + cell * (column + 1),
               top + cell * (row + 1))  # fmt: skip
    sheet.frame(spot)
    sheet.arrow((encoder.right + 4, encoder.y), (spot.left - 4, spot.y))
    sheet.text(624, zoom.y - 34, f"code {codes[row, column]}", SMALL, ACCENT)
    sheet.note(760, top + side + 14, f"{n} × {n} = {n * n} codes of K = {config.codes}")
    sheet.arrow(whole, cut)
    bits = (pixels**2 * 3 * 8) / (n * n * np.log2(config.codes))
    sheet.note(440, 252, f"{bits:.0f} times fewer bits: 8 a number on the left,"
               f" log₂ {config.codes} = {np.log2(config.codes):g} a code on the right")  # fmt: skip
    return sheet.picture(
        f"From picture to codes: a picture of {pixels} by {pixels} pixels is cut into squares of"
        f" f = {f} pixels across. The encoder turns one square of {3 * f * f} numbers into one code"
        f" of {config.codes}, so the picture becomes a grid of {n} by {n} codes."
    )


def nearest_prototype() -> Picture:
    """A dVAE with prototypes: the nearest is the code; the decoder corrects by the neighbours."""
    config, window = FULL.models["dvae"], 5
    dvae = prototype_dvae(config)
    f, codes = config.factor, config.codes
    looks, image = prototypes(dvae), picture_of(EXAMPLE, 0, config.image_size)
    grid = encode(dvae, image)
    first = [min(at, config.grid - window) for at in (5, 6)]  # row and column of the window
    rows, columns = (slice(at, at + window) for at in first)
    row, column = (at + window // 2 for at in first)
    square = image[f * row : f * (row + 1), f * column : f * (column + 1)] / 255
    apart = looks - square
    apart += (MEAN_WEIGHT - 1) * apart.mean((1, 2), keepdims=True)  # as the encoder compares them
    distance = np.sqrt((apart**2).sum((1, 2, 3)))
    nearest = np.unique(distance.round(4), return_index=True)[1][:4]  # some prototypes are equal
    assert np.isclose(distance[grid[row, column]], distance.min(), atol=1e-4)
    nearest[0] = grid[row, column]
    crop = image[f * rows.start : f * rows.stop, f * columns.start : f * columns.stop] / 255
    tiles = np.concatenate([np.concatenate(list(looks[r]), 1) for r in grid[rows, columns]], 0)

    sheet = Canvas(880, 250)
    top, side = 52.0, 140.0

    def panel(x: float, name: str, note: str, pixels: np.ndarray, framed: bool) -> tuple[Box, Box]:
        at = sheet.grid(x, top, side / (f * window), pixels, line=0)
        for k in range(window + 1):
            for line in (((x + side * k / window,) * 2, (top, top + side)),
                         ((x, x + side), (top + side * k / window,) * 2)):  # fmt: skip
                sheet.axis.plot(*line, color="white", linewidth=1, zorder=4)
        cell = side / window
        spot = Box(x + 2 * cell, top + 2 * cell, x + 3 * cell, top + 3 * cell)
        if framed:
            sheet.frame(spot, CAPTION)
        sheet.text(at.x, 24, name, bold=True)
        sheet.note(at.x, top + side + 24, note)
        return at, spot

    _, spot = panel(22, "squares", "each is looked at\non its own", crop, True)
    sheet.text(300, 24, f"{len(nearest)} nearest of {codes} prototypes", bold=True)
    for i, k in enumerate(nearest):
        at = sheet.grid(216, top + 36 * i, 28 / f, looks[k], line=0)
        sheet.frame(at, FAINT if i else CAPTION, 0.8 if i else 1.8)
        sheet.text(254, at.y, f"code {k}", SMALL, TEXT if i else CAPTION, ha="left", bold=i == 0)
        sheet.note(328, at.y, f"distance {distance[k]:.2f}", ha="left")
    sheet.note(300, top + side + 24, "k-means of many squares;\nthe nearest is the code")
    sheet.arrow((spot.right + 4, spot.y), (210, top + 14), CAPTION)
    drawn, _ = panel(450, "prototypes", "the codes’ own pictures,\nside by side", tiles, True)
    sheet.arrow((412, top + side / 2), drawn)
    decoder = sheet.box(666, top + side / 2, 78, 44, "decoder")
    sheet.note(666, top + side + 24, "sees each code’s\nneighbours")
    sheet.arrow(drawn, decoder)
    final, _ = panel(726, "corrected", "what the decoder\nis trained towards", crop, False)
    sheet.arrow(decoder, final)
    return sheet.picture(
        f"A dVAE with prototypes: a square of a picture is compared with {codes} prototypes, the"
        f" k-means of many squares. The nearest, code {nearest[0]}, is its code. The prototypes of"
        " the codes side by side make a rough picture; the decoder corrects each by its"
        " neighbours."
    )
