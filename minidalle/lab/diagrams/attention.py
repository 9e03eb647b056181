"""Attention: one head with its shapes, the masks on the stream, and the KV cache."""

import torch

from minidalle.attention import MASKS, layer_kinds, stream_mask
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
from minidalle.training.presets import FULL

UNSEEN = "#f4f5f8"


def attention_head() -> Picture:
    """One head: queries, keys, values, scores, softmax, mixture; a toy with its real numbers."""
    config = FULL.models["prior"]
    length, width, d = 6, 8, 4
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(length, width, generator=draw)
    wq, wk, wv = (torch.randn(width, d, generator=draw) / width**0.5 for _ in range(3))
    q, k, v = x @ wq, x @ wk, x @ wv
    scores = q @ k.T / d**0.5
    mask = stream_mask("causal", length - 1, 1)
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    mixture = weights @ v

    sheet = Canvas(880, 430)
    cell, query = 15.0, length - 2  # one query is followed through

    def matrix(left: float, middle: float, values, name: str, shape: str, colour: str) -> Box:
        height = cell * len(values)
        at = sheet.grid(left, middle - height / 2, cell, heat(values, colour, CODE), line=0.7)
        sheet.frame(at, FAINT, 0.8)
        sheet.text(at.x, at.top - 14, name, bold=True)
        sheet.note(at.x, at.bottom + 13, shape)
        return at

    def row(at: Box, i: int) -> Box:
        return Box(at.left, at.top + cell * i, at.right, at.top + cell * (i + 1))

    box_x = matrix(18, 212, x, "x", "S × D", CAPTION)
    box_q = matrix(238, 74, q, "Q", "S × d", CAPTION)
    box_k = matrix(238, 212, k, "K", "S × d", CAPTION)
    box_v = matrix(238, 350, v, "V", "S × d", CAPTION)
    for at, name in ((box_q, "W_Q"), (box_k, "W_K"), (box_v, "W_V")):
        linear = sheet.box(186, at.y, 46, 26, f"$W_{{{name[-1]}}}$")
        sheet.arrow((box_x.right + 5, box_x.y), (linear.left - 4, at.y), line=1.1)
        sheet.arrow(linear, at)
    shown = scores.masked_fill(~mask, 0.0)
    box_s = matrix(440, 142, shown, "scores", "S × S", CAPTION)
    for i in range(length):
        for j in range(i + 1, length):
            sheet.grid(box_s.left + cell * j, box_s.top + cell * i, cell, [["#c9ccd6"]], line=0.7)
    product = sheet.box(378, 142, 66, 40, "Q Kᵀ / √d")
    sheet.arrow((box_q.right + 4, box_q.y), (product.left - 4, 132), line=1.1)
    sheet.arrow((box_k.right + 4, box_k.y), (product.left - 4, 152), line=1.1)
    sheet.arrow(product, box_s)
    softmax = sheet.box(588, 142, 66, 40, "softmax")
    sheet.arrow(box_s, softmax)
    box_w = matrix(644, 142, weights, "weights", "rows sum to 1", ACCENT)
    sheet.arrow(softmax, box_w)
    times = sheet.box(689, 350, 66, 34, "× V")
    sheet.path([(689, 218), (689, times.top - 4)], head=True)
    sheet.arrow(box_v, times)
    box_y = matrix(782, 350, mixture, "mixture", "S × d", CAPTION)
    sheet.arrow(times, box_y)
    for at in (box_q, box_s, box_w, box_y):
        sheet.frame(row(at, query), TEXT, 1.6)
    sheet.note(485, 246, "grey: masked, the future")
    sheet.note(485, 266, "framed: one query, all the way")
    sheet.note(78, 306, "blue: above 0\norange: below 0")
    m = config.heads
    sheet.note(810, 132, f"{m} heads, D = {config.width},\nd = D / {m} = {config.width // m}")
    sheet.note(810, 176, "their mixtures are\nconcatenated again")
    return sheet.picture(
        "An attention head: x, S by D, becomes queries Q, keys K and values V, S by d each. The"
        " scores are Q times K transposed, divided by √d, S by S, with the future masked. A softmax"
        " makes weights, whose rows sum to 1. The weights times V are the mixture, S by d. One"
        f" query is framed throughout. The prior has {m} such heads of d = {config.width // m}."
    )


def stream_masks() -> Picture:
    """The masks: which positions of the stream each may see, and what one code sees."""
    text, grid, kernel = 5, 5, 3
    length = text + grid * grid
    code = grid * (grid // 2 + 1) + grid // 2  # the query whose view is shown below
    sheet = Canvas(880, 452)
    cell, view = 5.6, 19.0
    side = cell * length
    for i, kind in enumerate(MASKS):
        mask = stream_mask(kind, text, grid, kernel)
        left = 46 + 212 * i
        colours = [
            [(CAPTION if j < text else CODE) if mask[q, j] else UNSEEN for j in range(length)]
            for q in range(length)
        ]
        sheet.text(left + side / 2, 20, kind, bold=True)
        at = sheet.grid(left, 40, cell, colours, line=0.35)
        query = at.top + cell * (text + code)
        sheet.frame(Box(at.left, query, at.right, query + cell), TEXT, 1.4)
        # The same row of the mask, laid out as the reader sees it: the caption, then the picture.
        seen = mask[text + code].tolist()
        words = [[tint(CAPTION, 0.75) if seen[j] else UNSEEN for j in range(text)]]
        x = at.x - view * grid / 2
        sheet.grid(x, 246, view, words)
        cells = [
            [
                ACCENT if grid * r + c == code else CODE if seen[text + grid * r + c] else UNSEEN
                for c in range(grid)
            ]
            for r in range(grid)
        ]
        sheet.grid(x, 274, view, cells)
        if i == 0:
            sheet.text(24, at.y, "← query", SMALL, QUIET).set_rotation(90)
            sheet.note(at.x, at.bottom + 14, "key →")
            sheet.note(x - 8, 255, "caption", ha="right")
            sheet.note(x - 8, 322, "picture", ha="right")
    sheet.note(46 + 212 * 2, 224, "the framed row, laid out: what one code may see (red: the code)")
    kinds = layer_kinds(FULL.models["prior"].layers)
    sheet.text(16, 420, f"the prior’s {len(kinds)} layers", ha="left", bold=True)
    shown = kinds if len(kinds) <= 10 else [*kinds[:8], "…", kinds[-1]]
    width = min(104.0, 690 / len(shown))
    for i, kind in enumerate(shown):
        x = 176 + width * (i + 0.5)
        fill = {"row": tint(CODE, 0.35), "column": tint(CAPTION, 0.25)}.get(kind, tint(ACCENT, 0.3))
        label = kind if width > 98 else kind.replace("olutional", "")
        sheet.box(x, 420, width - 8, 30, label, fill, size=SMALL)
        if i:
            sheet.arrow((x - width / 2 - 4, 420), (x - width / 2 + 4, 420), gap=0, style="-")
    return sheet.picture(
        f"The masks on the stream, {', '.join(MASKS)}: for each, a matrix of queries and keys, and"
        " below it what one code may see: all of the caption, and of the picture all earlier codes;"
        " those of one row back; those above it; or those in a square around it. The layers of the"
        f" prior: {', '.join(kinds)}."
    )


def kv_cache() -> Picture:
    """One step of sampling, without the cache and with it: what is computed, what is read."""
    length, now = 9, 6
    sheet = Canvas(860, 316)
    cell = 22.0
    mask = stream_mask("causal", length - 1, 1)[: now + 1, : now + 1]
    names = [*(f"t{n}" for n in "₁₂₃"), *(f"c{n}" for n in "₁₂₃₄₅₆")]
    new, read, past = ACCENT, tint(CAPTION, 0.45), UNSEEN
    counts = []
    for i, cached in enumerate((False, True)):
        left = 72 + 430 * i
        sheet.text(left + 134, 20, "with a KV cache" if cached else "without a cache", bold=True)
        computed = mask.clone()
        if cached:
            computed[:now] = False
        colours = [
            [new if computed[q, k] else past if mask[q, k] else "#ffffff" for k in range(now + 1)]
            for q in range(now + 1)
        ]
        at = sheet.grid(left, 62, cell, colours, edge="#d5d8e2")
        for k in range(now + 1):
            sheet.note(left + cell * (k + 0.5), 50, names[k])
            sheet.note(left - 12, 62 + cell * (k + 0.5), names[k])
        queries, scores = int(computed.any(1).sum()), int(computed.sum())
        counts.append((queries, scores))
        plural = "queries" if queries > 1 else "query"
        sheet.text(at.right + 16, at.top + 54, f"{queries} {plural},\n{scores} scores\ncomputed",
                   colour=new, ha="left")  # fmt: skip
        if cached:
            sheet.note(
                at.right + 16, at.top + 118, "the rest was computed\nat earlier steps", ha="left"
            )
        for r, name in enumerate("KV"):
            y = 236 + 30 * r
            sheet.text(left - 14, y + 11, name, bold=True)
            row = [read if cached and k < now else new if k <= now else "#ffffff"
                   for k in range(length)]  # fmt: skip
            sheet.grid(left, y, cell, [row], edge="#d5d8e2")
        label = (
            f"{now} read, 1 new,\nroom for {length - now - 1}"
            if cached
            else f"all {now + 1} computed\nanew"
        )
        sheet.note(left + cell * length + 14, 263, label, ha="left")
    sheet.path([(430, 16), (430, 300)], tint(FAINT, 0.5), 1)
    return sheet.picture(
        f"The KV cache at step {now + 1}. Without it, {counts[0][0]} queries and {counts[0][1]}"
        f" scores are computed, and all keys K and values V anew. With it, {counts[1][0]} query and"
        f" {counts[1][1]} scores are computed; {now} keys and values are read, and one is added."
    )
