"""Where text enters a generator, cross-attention, what a word has seen, and the cached context.

The matrices, masks and sizes are computed by the package, so no diagram invents a number.
"""

import torch

from minidalle.attention import Attention
from minidalle.lab.diagrams.canvas import (
    ACCENT,
    CAPTION,
    CODE,
    FAINT,
    QUIET,
    SMALL,
    TEXT,
    Box,
    Canvas,
    heat,
    tint,
)
from minidalle.lab.figures import Picture
from minidalle.training.presets import CLASS

UNSEEN = "#f4f5f8"
SWAPPED = ("a", "red", "car", "left", "of", "a", "yellow", "ball")
CANDIDATES = 16  # drawings of one caption, whose caches are compared


# --- Four places where text can enter -------------------------------------------------------------


def where_text_enters() -> Picture:
    """One stream, cross-attention, modulation, and one vector: the four, side by side."""
    config = CLASS.models["encoder_decoder"]
    vectors = 1 + config.text_length  # BOS and the words
    sheet = Canvas(880, 318)
    titles = ("one stream", "cross-attention", "modulation", "a single vector")
    reads = (
        f"each code reads {vectors}\nvectors, in every layer",
        f"each code reads {vectors}\nvectors, in every layer",
        "one vector scales and\nshifts all features",
        "one vector, the mean of\nall words, is added",
    )
    who = ("DALL·E", "Parti, Imagen", "DiT, our unCLIP", "the naive try")
    for i, (title, read, name) in enumerate(zip(titles, reads, who, strict=True)):
        x = 112.0 + 218 * i
        sheet.text(x, 22, title, bold=True)
        sheet.note(x, 252, read)
        sheet.text(x, 296, name, SMALL, ACCENT)
        if i:
            sheet.path([(x - 109, 12), (x - 109, 306)], tint(FAINT, 0.5), 1)
        (_stream if i == 0 else _two_parts)(sheet, x, i)
    return sheet.picture(
        "Four places where text can enter a generator. One stream: words and codes are one"
        f" sequence of one transformer. Cross-attention: an encoder reads the words, and the"
        f" decoder looks at its {vectors} vectors through keys K and values V. Modulation: the"
        " encoder's single vector scales and shifts the features of the decoder. A single vector:"
        " the mean of the word vectors is added to the input, and their order is lost."
    )


def _strip(sheet: Canvas, x: float, y: float, colours: list[str]) -> Box:
    """A row of cells around (x, y)."""
    return sheet.grid(x - 9 * len(colours), y - 9, 18, [colours])


def _stream(sheet: Canvas, x: float, _: int) -> None:
    words, codes = [tint(CAPTION, 0.75)] * 4, [CODE] * 5
    box = sheet.box(x, 124, 190, 42, "transformer")
    entering = _strip(sheet, x, 192, words + codes)
    leaving = _strip(sheet, x, 60, [tint(CAPTION, 0.35)] * 4 + [tint(CODE, 0.55)] * 5)
    for at in (-54, 0, 54):
        sheet.arrow((x + at, entering.top - 4), (x + at, box.bottom + 4), gap=0)
        sheet.arrow((x + at, box.top - 4), (x + at, leaving.bottom + 4), gap=0)
    sheet.note(x - 45, 216, "words")
    sheet.note(x + 36, 216, "codes")


def _two_parts(sheet: Canvas, x: float, kind: int) -> None:
    """Text on the left, codes on the right; kind 1: cross-attention, 2: modulation, 3: a mean."""
    left, right = x - 58, x + 54
    reader = sheet.box(left, 124, 74, 42, "mean" if kind == 3 else "encoder", tint(CAPTION, 0.16))
    decoder = sheet.box(right, 124, 78, 42, "decoder", tint(CODE, 0.2))
    words = _strip(sheet, left, 192, [tint(CAPTION, 0.75)] * 4)
    codes = _strip(sheet, right, 192, [CODE] * 4)
    leaving = _strip(sheet, right, 60, [tint(CODE, 0.55)] * 4)
    sheet.arrow((left, words.top - 4), (left, reader.bottom + 4), gap=0)
    sheet.arrow((right, codes.top - 4), (right, decoder.bottom + 4), gap=0)
    sheet.arrow((right, decoder.top - 4), (right, leaving.bottom + 4), gap=0)
    sheet.note(left, 216, "words")
    sheet.note(right, 216, "codes")
    middle = (reader.right + decoder.left) / 2
    if kind == 1:
        for dy in (-12, 0, 12):
            sheet.arrow((reader.right + 3, 124 + dy), (decoder.left - 3, 124 + dy), ACCENT, gap=0)
        sheet.text(middle, 92, "K, V", SMALL, ACCENT)
        return
    end = (decoder.left - 3, 124.0) if kind == 2 else (right - 26, codes.top - 14.0)
    start = (reader.right + 3, 124.0)
    if kind == 2:
        sheet.arrow(start, end, ACCENT, gap=0)
        sheet.text(middle, 92, "× a + b", SMALL, ACCENT)
    else:
        sheet.path([start, (middle, 124), (middle, end[1]), (right - 5, end[1])], ACCENT, head=True)
        sheet.text(middle - 9, end[1] + 1, "+", SMALL, ACCENT)


# --- Cross-attention ------------------------------------------------------------------------------


def cross_attention() -> Picture:
    """One head: queries from the picture, keys and values from the text; with its real numbers."""
    cells, words, width, d = 6, 4, 8, 4
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(cells, width, generator=draw)
    h = torch.randn(words, width, generator=draw)
    wq, wk, wv = (torch.randn(width, d, generator=draw) / width**0.5 for _ in range(3))
    q, k, v = x @ wq, h @ wk, h @ wv
    is_word = torch.arange(words) < words - 1  # the last is padding
    scores = 2 * q @ k.T / d**0.5
    weights = scores.masked_fill(~is_word, -torch.inf).softmax(-1)
    mixture = weights @ v

    sheet = Canvas(880, 414)
    cell, query = 17.0, 2  # one query is followed through

    def matrix(left: float, middle: float, values, name: str, shape: str, colour: str) -> Box:
        height = cell * len(values)
        at = sheet.grid(left, middle - height / 2, cell, heat(values, colour, FAINT), line=0.7)
        sheet.frame(at, FAINT, 0.8)
        sheet.text(at.x, at.top - 14, name, bold=True)
        sheet.note(at.x, at.bottom + 13, shape)
        return at

    box_x = matrix(16, 92, x, "picture X", "N × D", CODE)
    box_h = matrix(16, 294, h, "text H", "C × D", CAPTION)
    box_q = matrix(250, 92, q, "Q", "N × d", CODE)
    box_k = matrix(250, 232, k, "K", "C × d", CAPTION)
    box_v = matrix(250, 354, v, "V", "C × d", CAPTION)
    for at, source, name in ((box_q, box_x, "Q"), (box_k, box_h, "K"), (box_v, box_h, "V")):
        linear = sheet.box(198, at.y, 46, 26, f"$W_{{{name}}}$")
        sheet.arrow((source.right + 5, source.y), (linear.left - 4, at.y), line=1.1)
        sheet.arrow(linear, at)
    product = sheet.box(392, 156, 70, 40, "Q Kᵀ / √d")
    sheet.arrow((box_q.right + 4, box_q.y), (product.left - 4, 148), line=1.1)
    sheet.arrow((box_k.right + 4, box_k.y), (product.left - 4, 164), line=1.1)
    box_s = matrix(458, 156, scores, "scores", "N × C", ACCENT)
    for i in range(cells):
        sheet.grid(box_s.right - cell, box_s.top + cell * i, cell, [[TEXT]], line=0.7)
    sheet.arrow(product, box_s)
    softmax = sheet.box(586, 156, 66, 40, "softmax")
    sheet.arrow(box_s, softmax)
    box_w = matrix(646, 156, weights, "weights", "rows sum to 1", ACCENT)
    sheet.arrow(softmax, box_w)
    times = sheet.box(680, 318, 66, 34, "× V")
    sheet.path([(680, 240), (680, times.top - 4)], head=True)
    sheet.path([(box_v.right + 4, box_v.y), (680, box_v.y), (680, times.bottom + 4)], head=True)
    box_y = matrix(770, 318, mixture, "mixture", "N × d", CAPTION)
    sheet.arrow(times, box_y)
    for at in (box_x, box_q, box_s, box_w, box_y):
        top = at.top + cell * query
        sheet.frame(Box(at.left, top, at.right, top + cell), TEXT, 1.6)
    sheet.note(492, 240, "black: padding, masked")
    sheet.note(500, 260, "framed: one cell of the picture")
    return sheet.picture(
        f"Cross-attention, one head. The picture X, {cells} cells by D, becomes queries Q. The text"
        f" H, {words} words by D, becomes keys K and values V. The scores are Q times K transposed"
        " divided by √d, cells by words, with the padding masked. A softmax makes weights whose"
        " rows sum to 1, and the weights times V are the mixture, one row for each cell."
    )


# --- What a word has seen -------------------------------------------------------------------------


def seen_words(mask: torch.Tensor | None) -> torch.Tensor:
    """Which words reach which in one layer of attention, n × n: measured by the gradient."""
    n = len(SWAPPED)
    with torch.random.fork_rng(devices=[]):  # a diagram must not move the reader's random numbers
        torch.manual_seed(0)
        layer, x = Attention(8, 2), torch.randn(1, n, 8, requires_grad=True)
    rows = layer(x, mask)[0].square().sum(-1)
    found = [torch.autograd.grad(row, x, retain_graph=True)[0][0] for row in rows]
    return torch.stack([g.abs().sum(-1) > 0 for g in found])


def who_sees_whom() -> Picture:
    """A caption read by a causal encoder and by a bidirectional one: what reaches each word."""
    n, red = len(SWAPPED), SWAPPED.index("red")
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    sheet = Canvas(880, 290)
    cell, counts = 21.0, []
    for i, (name, mask) in enumerate((("causal", causal), ("bidirectional", None))):
        seen, left, top = seen_words(mask), 76.0 + 262 * i, 92.0
        counts.append(int(seen[red].sum()))
        colours = [[tint(CAPTION, 0.7) if s else UNSEEN for s in row] for row in seen.tolist()]
        at = sheet.grid(left, top, cell, colours, edge="#d5d8e2")
        sheet.text(at.x, 20, name, bold=True)
        for j, word in enumerate(SWAPPED):
            sheet.text(left - 8, top + cell * (j + 0.5), word, SMALL, QUIET, ha="right")
            label = sheet.text(left + cell * (j + 0.5), top - 6, word, SMALL, QUIET, va="bottom")
            label.set_rotation(90)
        row = top + cell * red
        sheet.frame(Box(at.left, row, at.right, row + cell), ACCENT, 1.8)
        sheet.note(at.x, at.bottom + 14, "seen →")
    x = 592.0
    sheet.text(x, 60, "what the vector of “red” can say", ha="left", bold=True)
    lines = (
        ("causal", f"{counts[0]} of {n} words:", "something is red"),
        (
            "bidirectional",
            f"{counts[1]} of {n} words:",
            "the car is red, and it is\nthe one on the left",
        ),
    )
    for i, (name, count, says) in enumerate(lines):
        y = 100.0 + 82 * i
        sheet.text(x, y, name, colour=CAPTION, ha="left", bold=True)
        sheet.note(x + 110, y, count, ha="left")
        sheet.text(x + 110, y + 28, says, SMALL, ACCENT, ha="left")
    return sheet.picture(
        f"A caption of {n} words, read by a causal encoder and by a bidirectional one: for each"
        f" word, a row with the words that it has seen. The row of red is framed: causal, it has"
        f" seen {counts[0]} of {n} words, and can say that something is red; bidirectional, it has"
        f" seen {counts[1]} of {n}, and can say that the car on the left is red."
    )


# --- What is kept while drawing -------------------------------------------------------------------


def context_cache() -> Picture:
    """Keys and values of a few candidates: in one stream, and with a context that all share."""
    config = CLASS.models["encoder_decoder"]
    codes, text = config.grid**2, 1 + config.text_length
    numbers = CANDIDATES * (codes + text), CANDIDATES * codes + text  # positions that are kept
    stream, shared = (2 * config.width * n * 4 / 1e6 for n in numbers)  # MB per layer, in float32
    sheet = Canvas(880, 262)
    cell, words, drawn, now, rows = 16.0, 5, 13, 7, 4
    blue, new = tint(CAPTION, 0.55), tint(CODE, 0.75)
    for i, name in enumerate(("one stream", "encoder and decoder")):
        left = 40.0 + 440 * i
        sheet.text(left + cell * (words + drawn) / 2 + 10, 20, name, bold=True)
        for r in range(rows):
            y = 84.0 + 30 * r
            if i == 0:
                sheet.grid(left, y, cell, [[blue] * words])
            colours = [new if j < now else UNSEEN for j in range(drawn)]
            sheet.grid(left + cell * words + 22 * i + 4, y, cell, [colours], edge="#d5d8e2")
        if i == 1:
            at = sheet.grid(left, 129, cell, [[blue] * words])
            for r in range(rows):
                sheet.arrow((at.right + 3, 137), (left + cell * words + 22, 92 + 30 * r), ACCENT,
                            1.0, gap=0)  # fmt: skip
        sheet.note(left + cell * words / 2, 62, "caption")
        sheet.note(left + cell * (words + 6) + 22 * i, 62, "codes so far")
        size = (stream, shared)[i]
        sheet.text(left + cell * (words + drawn) / 2 + 10, 228,
                   f"{CANDIDATES} candidates: {size:.1f} MB per layer", colour=ACCENT)  # fmt: skip
    sheet.path([(440, 14), (440, 246)], tint(FAINT, 0.5), 1)
    return sheet.picture(
        "Keys and values that are kept while four candidates of one caption are drawn. In one"
        " stream, each candidate has the caption's and those of its codes so far. With encoder and"
        " decoder, the caption's are computed once and shared, and each candidate has its codes"
        f" alone. At the class preset, {CANDIDATES} candidates keep {stream:.1f} MB per layer in"
        f" one stream, and {shared:.1f} MB with a shared context."
    )
