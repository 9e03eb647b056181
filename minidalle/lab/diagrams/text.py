"""Captions as tokens, and the stream in which they stand before the codes."""

from fractions import Fraction

from minidalle.lab.diagrams.canvas import (
    ACCENT,
    CAPTION,
    CODE,
    FAINT,
    NORMAL,
    QUIET,
    SMALL,
    TEXT,
    Box,
    Canvas,
    readable,
    tint,
)
from minidalle.lab.diagrams.examples import tokenizer
from minidalle.lab.figures import Picture
from minidalle.training.presets import FULL


def bpe_tree(
    word: str = " yellow", phrase: str = "红色的熊", meaning: str = "a red bear"
) -> Picture:
    """How the tokenizer's merges build a word of English and a phrase of Chinese from bytes."""
    trees = _Trees()
    ids = [i for text in (word, phrase) for i in tokenizer().encode(text)]
    sheet = Canvas(880, 136 + trees.rise * max(3, *map(trees.height, ids)))
    step = min(44.0, 790 / (len(word.encode()) + len(phrase.encode())))
    x = 24.0
    words = []
    for text in (word, phrase):
        start = x
        tokens = tokenizer().encode(text)
        for token in tokens:
            x = trees.draw(sheet, token, x, step)
        middle = (start + x) / 2
        pieces = "token" if len(tokens) == 1 else "tokens"
        size = len(text.encode())
        sheet.text(middle, 20, readable(text.strip()), 12, bold=text.isascii())
        space = " (␣ is a space)" if " " in text else ""
        sheet.note(middle, sheet.height - 16, f"{size} bytes{space}, {len(tokens)} {pieces}")
        words.append(f"{text.strip()}, {size} bytes and {len(tokens)} {pieces}")
        x += 34
    sheet.note(middle, 42, f"“{meaning}”")
    sheet.note(middle, 84, "No merge crosses from one character to the next.")
    sheet.note(middle, 104, "A number is a token’s id: 256 + how many merges were learned before.")
    return sheet.picture(
        "BPE merge trees. At the bottom the bytes; each merge joins two neighbours into a token,"
        f" with its id: {'; '.join(words)}. No merge crosses from one"
        " Chinese character to the next."
    )


class _Trees:
    """Draws the merges of tokens upwards from their bytes."""

    rise = 58.0  # pixels from a token to the one that it is merged into

    def __init__(self) -> None:
        self.merges = tokenizer().merges

    def draw(self, sheet: Canvas, token: int, x: float, step: float) -> float:
        """One token's tree, its first byte at x; returns where the next begins."""
        self._node(sheet, token, x, step, root=True)
        return x + step * self._leaves(token)

    def _leaves(self, token: int) -> int:
        return 1 if token < 256 else sum(self._leaves(part) for part in self.merges[token - 256])

    def _hex(self, token: int) -> str:
        if token < 256:
            return f"{token:02x}"
        return " ".join(self._hex(part) for part in self.merges[token - 256])

    def height(self, token: int) -> int:
        """The merges on the longest way from a token down to a byte."""
        if token < 256:
            return 0
        return 1 + max(self.height(part) for part in self.merges[token - 256])

    def _node(self, sheet: Canvas, token: int, x: float, step: float, root: bool = False) -> Box:
        y = sheet.height - 56 - self.rise * self.height(token)
        if token < 256:
            label = chr(token).replace(" ", "␣") if token < 128 else self._hex(token)
            fill = tint(CAPTION, 0.45) if root else "white"
            return sheet.box(x + step / 2, y, min(step - 6, 32), 26, label, fill, radius=3)
        left, right = self.merges[token - 256]
        a = self._node(sheet, left, x, step)
        b = self._node(sheet, right, x + step * self._leaves(left), step)
        spelling = tokenizer().decode([token])
        broken = "\ufffd" in spelling
        text = self._hex(token) if broken else readable(spelling.replace(" ", "␣"))
        width, x = max(step - 6, 8.5 * len(text) + 14), (a.x + b.x) / 2
        at = sheet.box(x, y, width, 42, "", tint(CAPTION, 0.45 if root else 0.15), radius=3)
        sheet.fitted.append((sheet.text(x, y - 9, text), at))
        sheet.text(x, y + 10, str(token), SMALL)
        for part in (a, b):
            sheet.path([(part.x, part.top), (part.x, at.bottom + 7), (at.x, at.bottom + 7),
                             (at.x, at.bottom)], FAINT, 1.1)  # fmt: skip
        return at


def stream_and_targets(caption: str = "a red car") -> Picture:
    """The stream of a caption and its codes: the target of each position is the next input."""
    config = FULL.models["prior"]
    t, n = config.text_length, config.grid**2
    ids = tokenizer().batch([caption], t)[0]
    is_word = (ids < tokenizer().vocab_size).tolist()
    words = [w.strip() for w in tokenizer().tokens(caption)]
    text = [*words, *[f"pad {i + 1}" for i in range(len(words), t)]]
    codes = [f"c{_small(i + 1)}" for i in range(n)]
    inputs, targets = ["BOS", *text, *codes[:-1]], [*text, *codes]
    assert len(inputs) == len(targets) == t + n
    shown = [*range(len(words) + 2), None, t - 1, t, t + 1, t + 2, None, t + n - 2, t + n - 1]
    sheet = Canvas(880, 272)
    step, left, width = 62.0, 84.0, 54.0
    rows = {"input": 80.0, "target": 202.0}
    for name, y in rows.items():
        sheet.text(14, y, name, ha="left", bold=True)
    x, edges = left, {}
    for place in shown:
        if place is None:
            for y in rows.values():
                sheet.text(x + 15, y, "…", 12, QUIET)
            x += 34
            continue
        middle = x + width / 2
        edges[place] = middle
        for y, name, first in (
            (rows["input"], inputs[place], t + 1),
            (rows["target"], targets[place], t),
        ):
            is_code = place >= first
            fill = tint(CODE, 0.4) if is_code else tint(CAPTION, 0.25)
            skipped = y == rows["target"] and place < t and not is_word[place]
            if name == "BOS" or name.startswith("pad"):
                fill = tint(FAINT, 0.25)
            fill, colour = ("white", QUIET) if skipped else (fill, TEXT)
            size = SMALL if len(name) > 4 else NORMAL
            sheet.box(middle, y, width, 30, name, fill, radius=3, colour=colour, size=size)
        sheet.arrow((middle, rows["input"] + 17), (middle, 121), line=1)
        sheet.arrow((middle, 161), (middle, rows["target"] - 17), line=1)
        x += step
    right = x - step + width
    sheet.box(
        (left + right) / 2,
        141,
        right - left + 12,
        34,
        "the prior: each position sees itself and earlier ones, and predicts the next",
    )
    sheet.note(14, 238, "the input,\nshifted\nby one", ha="left")
    share = Fraction(config.text_weight).limit_denominator(1000)
    start, end = edges[0] - width / 2, edges[len(words) - 1] + width / 2
    sheet.bracket(start, end, 226, f"× {share}\nmean over words", CAPTION)
    sheet.bracket(edges[len(words)] - width / 2, edges[t - 1] + width / 2, 226,
                  "padding:\nno target", QUIET)  # fmt: skip
    sheet.bracket(edges[t] - width / 2, edges[t + n - 1] + width / 2, 226,
                  f"× {1 - share}\nmean over codes", ACCENT)  # fmt: skip
    sheet.bracket(edges[0] + width / 2 + 8, edges[t] + width / 2, 56, f"caption, T = {t}", CAPTION,
                  above=True)  # fmt: skip
    sheet.bracket(edges[t + 1] - width / 2, edges[t + n - 1] + width / 2, 58,
                  f"codes, all of N = {n} but the last", ACCENT, above=True)  # fmt: skip
    return sheet.picture(
        f"The stream: the input is BOS, {t} text tokens (the caption “{caption}”, then padding) and"
        f" all of the {n} codes but the last. The target of each position is the next input."
        f" Padding is no target. The loss is {share} of the mean over words plus {1 - share} of the"
        " mean over codes."
    )


def _small(number: int) -> str:
    return "".join("₀₁₂₃₄₅₆₇₈₉"[int(digit)] for digit in str(number))
