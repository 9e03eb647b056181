"""Two comparisons: logits with and without a caption (guidance), pictures and captions (CLIP)."""

import numpy as np
import torch

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
    heat,
    tint,
)
from minidalle.lab.diagrams.examples import picture_of
from minidalle.lab.figures import Picture
from minidalle.training.presets import FULL


def guidance(scale: float = 3.0) -> Picture:
    """Classifier-free guidance: from the unconditional logits through the conditional, and on."""
    uncond = torch.tensor([1.0, 1.3, 0.2, 0.6])
    cond = torch.tensor([1.7, 1.1, 0.3, 0.9])
    guided = uncond + scale * (cond - uncond)
    sheet = Canvas(880, 330)
    sheet.text(186, 22, "two of the logits, as vectors", bold=True)
    reach = max(3.4, float(guided[0]) + 0.3)
    origin, unit = (46.0, 286.0), 300 / reach

    def at(logits) -> tuple[float, float]:
        return origin[0] + unit * float(logits[0]), origin[1] - unit * float(logits[1])

    right, top = origin[0] + 318, 62.0
    sheet.path([origin, (right, origin[1])], FAINT, 1, head=True)
    sheet.path([origin, (origin[0], top)], FAINT, 1, head=True)
    sheet.note(right, origin[1] + 18, "logit of code 1", ha="right")
    sheet.note(origin[0] - 8, top - 14, "logit of code 2", ha="left")
    points = {"without": (uncond, QUIET), "with": (cond, CAPTION), "guided": (guided, ACCENT)}
    for logits, colour in points.values():
        sheet.arrow(origin, at(logits), tint(colour, 0.45), line=1, style="-", gap=0)
    sheet.arrow(at(uncond), at(cond), CAPTION, 2.2, gap=0)
    sheet.arrow(at(cond), at(guided), ACCENT, 2.2, gap=0)
    for logits, colour in points.values():
        sheet.axis.plot(
            *([value] for value in at(logits)), "o", color=colour, markersize=7, zorder=5
        )
    (ux, uy), (cx, cy), (gx, gy) = (at(logits) for logits, _ in points.values())
    sheet.text(ux - 4, uy - 18, "without caption", SMALL, QUIET)
    sheet.text(cx + 12, cy - 18, "with caption", SMALL, CAPTION, ha="left")
    sheet.text(gx, gy + 18, f"guidance {scale:g}", SMALL, ACCENT)

    sheet.note(186, 96, f"guided = without + {scale:g} · (with − without)")

    step, heights = 26.0, (32.0, 84.0)
    for i, (name, (logits, colour)) in enumerate(points.items()):
        x = 474 + 138 * i
        title = name if name == "guided" else f"{name} caption"
        sheet.text(x + 2 * step, 22, title, colour=colour, bold=True)
        for row, (values, height) in enumerate(
            zip((logits, logits.softmax(-1)), heights, strict=True)
        ):
            base = (146, 286)[row]
            sheet.bars(x, base, step, height, values, tint(colour, 0.85))
            for k, value in enumerate(values.tolist()):
                if row:
                    y = base - height * value - 9
                    sheet.note(x + step * (k + 0.5), y, f"{value:.2f}"[1:] if value < 1 else "1")
        for k in range(len(logits)):
            sheet.note(x + step * (k + 0.5), 304, f"{k + 1}")
    sheet.note(460, 112, "logits", ha="right")
    sheet.note(460, 254, "softmax", ha="right")
    return sheet.picture(
        "Classifier-free guidance. As vectors: an arrow from the logits without the caption to"
        f" those with it, and on in the same direction, {scale:g} times as far, to the guided"
        " logits. As bars: the three sets of logits, and the softmax of each; guidance makes the"
        f" code that the caption favours likelier, from {cond.softmax(-1)[0]:.2f} to"
        f" {guided.softmax(-1)[0]:.2f}."
    )


CAPTIONS = ("a red car", "a blue car", "a red house", "a yellow star")


def clip_towers() -> Picture:
    """CLIP's two towers and the matrix of similarities, with the right pairs on its diagonal.

    In place of trained embeddings stand the words of each caption, counted, and for its picture the
    same with a little noise.
    """
    words = sorted({word for caption in CAPTIONS for word in caption.split()[1:]})
    text = np.array([[caption.split().count(word) for word in words] for caption in CAPTIONS])
    text = text / np.linalg.norm(text, axis=1, keepdims=True)
    image = text + 0.12 * np.random.default_rng(2).standard_normal(text.shape)
    image = image / np.linalg.norm(image, axis=1, keepdims=True)
    similarity = image @ text.T
    embedding = FULL.models["clip"].embedding

    n, cell, left, top = len(CAPTIONS), 66.0, 300.0, 182.0
    side = n * cell
    sheet = Canvas(880, 462)
    text_tower = sheet.box(left + side / 2, 76, side - 8, 34, "text tower", tint(CAPTION, 0.2))
    image_tower = sheet.box(152, top + side / 2, 76, side - 8, "image\ntower", tint(IMAGE, 0.2))
    for i, caption in enumerate(CAPTIONS):
        y, x = top + cell * (i + 0.5), left + cell * (i + 0.5)
        shown = sheet.image(18, y - 32, 64, picture_of(f"a big {caption[2:]} on the grass"))
        vector = sheet.grid(212, y - 6, 12, heat(image[[i]], IMAGE), edge="#d5d8e2")
        sheet.arrow((shown.right + 4, y), (image_tower.left - 3, y))
        sheet.arrow((image_tower.right + 3, y), (vector.left - 3, y))
        vector = sheet.grid(x - 6, 104, 12, heat(text[i][:, None], CAPTION), edge="#d5d8e2")
        sheet.text(x, 24, "\n".join(caption.rsplit(" ", 1)), SMALL)
        sheet.arrow((x, 44), (x, text_tower.top - 2), gap=0)
        sheet.arrow((x, text_tower.bottom), (x, vector.top - 1), gap=0)
    labels = [[f"{value:.2f}" for value in row] for row in similarity]
    sheet.grid(left, top, cell, heat(similarity, tint(ACCENT, 0.7), QUIET), labels, line=1.5)
    for i in range(n):
        at = left + cell * i, top + cell * i
        sheet.frame(Box(*at, at[0] + cell, at[1] + cell))
    notes = (
        ("similarities", TEXT, "cosine of each picture and caption"),
        ("the diagonal", ACCENT, "the right pairs: to be raised,\nand all others to be lowered"),
        ("a row", IMAGE, "one picture: which caption\nis its own?"),
        ("a column", CAPTION, "one caption: which picture\nis its own?"),
    )
    for i, (name, colour, note) in enumerate(notes):
        y = top + 8 + 64 * i
        sheet.text(592, y, name, colour=colour, ha="left", bold=True)
        sheet.note(592, y + (20 if i == 0 else 28), note, ha="left")
    embeddings = (
        f"Each strip is an embedding of length 1:\n{embedding} numbers in our CLIP, here"
        f" {len(words)},\nthe counted words of the caption."
    )
    sheet.note(592, 96, embeddings, ha="left")
    return sheet.picture(
        f"CLIP: {n} pictures go through the image tower and {n} captions through the text tower."
        " Each becomes an embedding. The matrix of similarities compares each picture, a row, with"
        " each caption, a column; the right pairs lie on its diagonal. Captions: "
        f"{', '.join(CAPTIONS)}."
    )
