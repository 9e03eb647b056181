"""The whole system: the chain from a caption to ranked pictures, and where a caption is lost."""

import inspect
import itertools
from collections.abc import Collection, Mapping

import numpy as np

from minidalle.lab.diagrams.canvas import (
    ACCENT,
    CAPTION,
    CODE,
    FAINT,
    IMAGE,
    LIT,
    NETWORK,
    NORMAL,
    SMALL,
    TEXT,
    Box,
    Canvas,
    tint,
)
from minidalle.lab.diagrams.examples import code_colours, picture_of, tokenizer
from minidalle.lab.figures import Picture
from minidalle.pipeline import MiniDALLE
from minidalle.training.presets import FULL

PARTS = ("caption", "tokenizer", "tokens", "prior", "codes", "dVAE", "pictures", "CLIP", "ranked")
CAPTION_TEXT = "a red car on the grass"
# Pictures of that caption, which leaves size and position open, and others that show another fact.
RIGHT = ("a big red car on the grass", "a small red car on the grass")
WRONG = ("a big blue car on the grass", "a small red house on the grass")


def pipeline(lit: str | Collection[str] = ()) -> Picture:
    """From a caption to ranked pictures. `lit` names the parts that a chapter is about."""
    lit = (lit,) if isinstance(lit, str) else tuple(lit)
    unknown = [name for name in lit if name not in PARTS]
    if unknown:
        raise ValueError(f"no part {unknown[0]!r}; choose from: {', '.join(PARTS)}")
    sheet = Canvas(900, 212)
    middle = 94.0

    def network(name: str, x: float, label: str, width: float) -> Box:
        on = name in lit
        return sheet.box(
            x, middle, width, 54, label, fill=LIT if on else NETWORK, edge=TEXT if on else FAINT,
            line=1.6 if on else 1.0, bold=on,
        )  # fmt: skip

    def data(name: str, at: Box, label: str, note: str) -> Box:
        """The label of data, below it, and a frame around it if it is lit."""
        sheet.text(at.x, 177, label, bold=name in lit)
        sheet.note(at.x, 196, note)
        if name in lit:
            sheet.frame(at, LIT, 2.6, pad=4)
        return at

    caption = sheet.box(48, middle, 78, 66, "“a red\ncar on\nthe grass”", tint(CAPTION, 0.15),
                        tint(CAPTION, 0.5), SMALL, radius=3)  # fmt: skip
    ids = tokenizer().encode(CAPTION_TEXT)
    blue = [[tint(CAPTION, 0.28)]] * len(ids)
    tokens = sheet.grid(206, middle - 8 * len(ids), 34, blue, [[str(i)] for i in ids], height=16)
    dvae = FULL.models["dvae"]
    colours = code_colours(picture_of(RIGHT[0], 0, dvae.image_size), dvae)
    codes = sheet.grid(368, middle - 36, 72 / dvae.grid, colours, line=0.4)
    candidates = [picture_of(caption, seed) for caption, seed in ((RIGHT[0], 0), (WRONG[0], 1))]
    back = sheet.image(554, middle - 48, 64, candidates[1])
    front = sheet.image(572, middle - 16, 64, candidates[0])
    pictures = Box(back.left, back.top, front.right, front.bottom)
    first = sheet.image(796, middle - 66, 64, candidates[0])
    second = sheet.image(796, middle + 2, 64, candidates[1])
    ranked = Box(first.left, first.top, second.right, second.bottom)
    sheet.note(870, first.y, "1.", ha="left")
    sheet.note(870, second.y, "2.", ha="left")

    data("caption", caption, "caption", "words")
    data("tokens", tokens, "tokens", f"{len(ids)} integers")
    data("codes", codes, "codes", f"{dvae.grid} × {dvae.grid} integers")
    pixels = dvae.image_size
    data("pictures", pictures, "pictures", f"{pixels} × {pixels} pixels")
    data("ranked", ranked, "ranked", "best first")
    chain = [
        caption, network("tokenizer", 146, "tokenizer", 80), tokens,
        network("prior", 304, "prior", 62), codes, network("dVAE", 494, "dVAE\ndecoder", 72),
        pictures, network("CLIP", 717, "CLIP", 58), ranked,
    ]  # fmt: skip
    for a, b in itertools.pairwise(chain):
        sheet.arrow(a, b)
    sheet.path([(caption.x, caption.top - 4), (caption.x, 22), (717, 22), (717, middle - 31)],
               tint(CAPTION, 0.6), head=True)  # fmt: skip
    sheet.note(400, 11, "CLIP reads the caption too")
    return sheet.picture(
        "The pipeline: a caption goes to the tokenizer, its tokens to the prior, the codes to the"
        " dVAE decoder, and the pictures to CLIP, which compares them with the caption. Out come"
        f" ranked pictures. Lit: {' and '.join(lit) or 'no part'}."
    )


def rerank_funnel() -> Picture:
    """Many candidates of one caption, ranked by CLIP; few are kept."""
    n = inspect.signature(MiniDALLE.generate).parameters["candidates"].default
    keep = 4
    sheet = Canvas(860, 246)
    # An example: every fourth candidate is wrong, and CLIP prefers some wrong ones to right ones.
    wrong = [c % 4 == 2 for c in range(n)]
    shown = [((WRONG if wrong[c] else RIGHT)[c // 4 % 2], c % 3) for c in range(n)]
    noise = 0.08 * np.random.default_rng(1).standard_normal(n)
    scores = np.where(wrong, 0.38, 0.58) + noise
    order = np.argsort(-scores)
    alike = {picture_of(*shown[c]).tobytes(): c for c in order[::-1]}  # the best of each picture
    best = sorted(alike.values(), key=lambda c: -scores[c])[:keep]

    columns, top = 8, 62.0
    for c in range(n):
        sheet.image(14 + 38 * (c % columns), top + 38 * (c // columns), 32, picture_of(*shown[c]))
    bottom = top + 38 * -(-n // columns) - 6
    left = Box(14, top, 14 + 38 * columns - 6, bottom)
    sheet.text(left.x, 22, f"{n} candidates of the prior", bold=True)
    sheet.note(left.x, 42, f"“{CAPTION_TEXT}”")
    clip = sheet.trapezoid(400, left.y, 84, bottom - top, 72, "CLIP")
    sheet.arrow(left, clip)

    base, length, unit = 488.0, 190.0, (bottom - top) / n
    sheet.text(base, 22, "sorted by similarity", ha="left", bold=True)
    sheet.note(base, 42, "cosine similarity", ha="left")
    for place, c in enumerate(order):
        colour = ACCENT if wrong[c] else IMAGE
        fill = colour if c in best else tint(colour, 0.5)
        sheet.grid(base, top + unit * place, length * scores[c], [[fill]], height=unit, line=0.6)
    sheet.arrow(clip, (base - 6, left.y))
    sheet.text(base + 124, bottom - 46, "right", SMALL, IMAGE, ha="left")
    sheet.text(base + 98, bottom - 14, "a fact is wrong", SMALL, ACCENT, ha="left")
    sheet.text(770, 22, f"the best {keep} are kept", bold=True)
    sheet.note(770, 42, "no two alike")
    for place, c in enumerate(best):
        x, y = 698 + 80 * (place % 2), top + 90 * (place // 2)
        at = sheet.image(x, y, 64, picture_of(*shown[c]))
        sheet.note(at.x, at.bottom + 10, f"{place + 1}.  {scores[c]:.2f}")
    sheet.arrow((base + length * scores.max() + 6, top + 32), (692, top + 32))
    return sheet.picture(
        f"Reranking as a funnel: {n} candidates of one caption go to CLIP, which gives each a"
        f" cosine similarity with the caption. They are sorted, and the best {keep} are kept; twins"
        " of a better picture come last."
    )


def error_split(error: Mapping[str, float] | None = None) -> Picture:
    """Where captions are lost: nested bars. `error` holds shares of captions by the report's names,
    dvae, prior and rerank; without it, an example."""
    example = error is None
    error = error or {"dvae": 0.06, "prior": 0.20, "rerank": 0.12}
    dvae, prior, rerank = (error[name] for name in ("dvae", "prior", "rerank"))
    sheet = Canvas(820, 290)
    left, full, high = 190.0, 600.0, 34.0
    rows = {
        "all captions": 1.0,
        "some candidate is right": 1 - prior,
        "CLIP’s first is right": 1 - prior - rerank,
    }
    lost = (0.0, prior, rerank)
    for i, ((name, share), gone) in enumerate(zip(rows.items(), lost, strict=True)):
        y = 50 + 62 * i
        sheet.text(left - 12, y, name, ha="right", bold=i == 2)
        at = Box(left, y - high / 2, left + full * share, y + high / 2)
        fill = (tint(CAPTION, 0.3), tint(IMAGE, 0.35), IMAGE)[i]
        sheet.grid(left, at.top, full * share, [[fill]], height=high)
        sheet.text(left + 10, y, f"{share:.0%}", NORMAL, "white" if i == 2 else TEXT, ha="left",
                   bold=i == 2)  # fmt: skip
        if gone:
            sheet.grid(at.right, at.top, full * gone, [[tint(ACCENT, 0.75)]], height=high)
            label = (
                "",
                "the prior: no candidate is right",
                "reranking: a right one is passed over",
            )[i]
            right = min(left + full, at.right + full * gone)
            sheet.text(right, at.top - 13, f"lost in {label}, {gone:.0%}", SMALL, ACCENT,
                       ha="right")  # fmt: skip
    y = 50 + 62 * 3 + 12
    sheet.path([(20, y - 32), (800, y - 32)], tint(FAINT, 0.5), 1)
    sheet.text(left - 12, y, "measured separately", ha="right")
    sheet.grid(left, y - high / 2, full * max(dvae, 0.002), [[CODE]], height=high)
    note = (
        f"lost in the dVAE, {dvae:.0%}: the caption’s own picture is wrong once encoded and\n"
        "decoded. These captions may be lost in the prior as well."
    )
    sheet.note(left + full * dvae + 10, y, note, ha="left")
    if example:
        sheet.note(left, 14, "an example", ha="left")
    return sheet.picture(
        "The error split as nested bars" + (", an example" if example else "") + f": of all"
        f" captions, {prior:.0%} are lost in the prior and {rerank:.0%} in reranking;"
        f" {1 - prior - rerank:.0%} are right. Measured separately, the dVAE loses {dvae:.0%}."
    )
