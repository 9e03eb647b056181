"""The system map: from caption to ranked pictures, with the boxes of a chapter highlighted."""

from minidalle.lab.figures import FAINT, LIT, TEXT, Picture, canvas, finish

BOXES = {  # name: (column, row, what goes out of it)
    "captions": (0, 0, ""),
    "tokenizer": (1, 0, "tokens"),
    "prior": (2, 0, "codes"),
    "dVAE": (3, 0, "pictures"),
    "CLIP": (4, 0, ""),
    "pictures": (0, 1, ""),
    "quantiser": (3, 1, ""),
    "attention": (2, 1, ""),
    "judge": (4, 1, ""),
}
ARROWS = (
    ("captions", "tokenizer"), ("tokenizer", "prior"), ("prior", "dVAE"), ("dVAE", "CLIP"),
    ("attention", "prior"), ("quantiser", "dVAE"), ("CLIP", "judge"),
)  # fmt: skip


def system_map(*lit: str) -> Picture:
    """The map; `lit` names the boxes that a chapter is about."""
    unknown = [name for name in lit if name not in BOXES]
    if unknown:
        raise ValueError(f"no box {unknown[0]!r}; there are: {', '.join(BOXES)}")
    figure, axis = canvas(7.2, 1.7)
    axis.set_xlim(-0.45, 4.45)
    axis.set_ylim(-1.4, 0.5)
    axis.axis("off")
    for name, (column, row, out) in BOXES.items():
        on = name in lit
        box = {"boxstyle": "round,pad=0.45", "facecolor": LIT if on else "white",
               "edgecolor": TEXT if on else FAINT, "linewidth": 1.4 if on else 1.0}  # fmt: skip
        axis.text(column, -row, name, ha="center", va="center", bbox=box, color=TEXT,
                  fontweight="bold" if on else "normal")  # fmt: skip
        if out:
            axis.text(column + 0.5, 0.16, out, ha="center", fontsize=8, color=FAINT)
    for a, b in ARROWS:
        (xa, ya, _), (xb, yb, _) = BOXES[a], BOXES[b]
        if ya == yb:  # from side to side
            tail, head = (xa + 0.3, float(-ya)), (xb - 0.3, float(-yb))
        else:  # from top to bottom, or the other way
            gap = 0.24 if yb > ya else -0.24
            tail, head = (float(xa), -ya - gap), (float(xb), -yb + gap)
        axis.annotate("", xy=head, xytext=tail,
                      arrowprops={"arrowstyle": "->", "color": FAINT})  # fmt: skip
    axis.text(4.08, -0.5, "ranked", va="center", fontsize=8, color=FAINT)
    axis.plot((0, 0), (-0.24, -0.76), color=FAINT, linewidth=1, linestyle=(0, (2, 2)))  # a pair
    today = " and ".join(lit) or "nothing in particular"
    return finish(
        figure,
        "The system map: captions go to the tokenizer, tokens to the prior, codes to the dVAE,"
        f" pictures to CLIP, which ranks them for the judge to read. Lit: {today}.",
    )
