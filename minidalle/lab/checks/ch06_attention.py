"""Chapter 06, attention: the checks of its exercises."""

import torch
from torch import Tensor

from minidalle.attention import stream_mask
from minidalle.lab.checks.engine import Mistake, Property, Task


def _grid(text: int, grid: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Query and key indices of the stream, as columns and rows, and whether the key is text."""
    n = text + grid * grid
    i, j = torch.arange(n)[:, None], torch.arange(n)[None, :]
    return i, j, i - text, j - text, (j < text)


# --- attend: scaled dot-product attention by hand -------------------------------------------------


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v


def _qkv(n: int, d: int, chance: float = 0.0, scale: float = 2.0) -> tuple:
    """Questions, keys, values; the mask is causal but for a chance that any position is seen."""
    mask = torch.ones(n, n, dtype=torch.bool).tril()
    if chance:
        mask = torch.eye(n, dtype=torch.bool) | (torch.rand(n, n) < chance)
    return scale * torch.randn(n, d), scale * torch.randn(n, d), torch.randn(n, d), mask


def _weights(q, k, mask, scale=True, dim=-1):
    scores = q @ k.mT / (q.shape[-1] ** 0.5 if scale else 1)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim)


ATTEND = Task(
    name="attend", chapter=6, difficulty=2, minutes=15, answer=attend,
    cases=lambda: [
        *[_qkv(n, d) for n, d in ((1, 2), (2, 2), (3, 4), (6, 8))],
        _qkv(2, 3, chance=1.0), _qkv(4, 3, chance=0.4), _qkv(7, 2, chance=0.4),
        _qkv(5, 4, chance=0.5, scale=20.0),  # scores of hundreds
    ],
    trained=("q", "k", "v"),
    mistakes=(
        Mistake("You make a causal mask of your own: the one that is given may be another.",
                lambda q, k, v, m: _weights(q, k, torch.ones_like(m).tril()) @ v),
        Mistake("exp of a score of hundreds is inf, and inf / inf is nan: torch.softmax subtracts"
                " the largest first.",
                lambda q, k, v, m: (lambda e: e / e.sum(-1, keepdim=True))(
                    (q @ k.mT / q.shape[-1] ** 0.5).exp() * m) @ v),
        Mistake("The √d is missing: with wide vectors the softmax picks one position and stops"
                " learning.", lambda q, k, v, m: _weights(q, k, m, scale=False) @ v),
        Mistake("You divide by d and not by its square root.",
                lambda q, k, v, m: (q @ k.mT / q.shape[-1]).masked_fill(~m, -torch.inf)
                .softmax(-1) @ v),
        Mistake("The mask is multiplied onto the weights, after the softmax: rows no longer sum to"
                " 1. Mask the scores.",
                lambda q, k, v, m: ((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) * m) @ v),
        Mistake("Masked scores are set to 0, and exp(0) = 1 is a lot of weight: set them to −∞.",
                lambda q, k, v, m: (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~m, 0.0)
                .softmax(-1) @ v),
        Mistake("The mask is ignored: positions see the future.",
                lambda q, k, v, m: (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v),
        Mistake("The mask is turned round: here True means *may be seen*.",
                lambda q, k, v, m: (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(m, -1e9)
                .softmax(-1) @ v),
        Mistake("The mask is turned round, and a row in which nothing is left gives nan: True means"
                " *may be seen*.",
                lambda q, k, v, m: _weights(q, k, ~m) @ v),
        Mistake("The softmax runs over the questions; each question shares out its weight over the"
                " keys, the last dimension.",
                lambda q, k, v, m: _weights(q, k, m, dim=-2) @ v),
        Mistake("You divide by the root of how many keys there are. It is their width d that makes"
                " a scalar product large.",
                lambda q, k, v, m: (q @ k.mT / len(k) ** 0.5).masked_fill(~m, -torch.inf)
                .softmax(-1) @ v),
    ),
    hints=(
        "Scores, mask, softmax, mean of the values: four steps, in this order.",
        "The softmax runs over the keys, the last dimension of the scores.",
        "q @ kᵀ / √d, then masked_fill(~mask, −inf), then softmax(−1), then @ v.",
    ),
)  # fmt: skip


# --- masks ----------------------------------------------------------------------------------------


def causal_mask(n: int) -> Tensor:
    return torch.ones(n, n, dtype=torch.bool).tril()


_SEES_ITSELF = Property(
    "every position sees itself: a row of all False gives nan", lambda m, *_: bool(m.diag().all())
)
_NO_FUTURE = Property(
    "no position sees a later one", lambda m, *_: not bool(m.triu(1).any())
)  # fmt: skip

CAUSAL_MASK = Task(
    name="causal_mask", chapter=6, difficulty=1, minutes=5, answer=causal_mask,
    axes=("key", "query"),
    cases=lambda: [(n,) for n in (1, 2, 3, 8)],
    properties=(_SEES_ITSELF, _NO_FUTURE),
    mistakes=(
        Mistake("It is transposed: the query is the row, the key the column, and j ≤ i is wanted.",
                lambda n: torch.ones(n, n, dtype=torch.bool).triu()),
        Mistake("A position must see itself: its own code is already known when the *next* one is"
                " predicted.", lambda n: torch.ones(n, n, dtype=torch.bool).tril(-1)),
        Mistake("One too far: position i sees i + 1, the very code that it must predict. The loss"
                " would fall beautifully.", lambda n: torch.ones(n, n, dtype=torch.bool).tril(1)),
        Mistake("Everything may be seen: nothing is left to predict.",
                lambda n: torch.ones(n, n, dtype=torch.bool)),
        Mistake("Numbers in place of truth values: masks are bool here. Compare, or use .bool().",
                lambda n: torch.ones(n, n).tril()),
    ),
    hints=(
        "Row i is a question, column j a key. When may i see j?",
        "Compare a column of indices with a row of indices; broadcasting does the rest.",
        "torch.arange(n)[:, None] and torch.arange(n)[None, :], and one comparison; or .tril().",
    ),
)  # fmt: skip

_SIZES = ((0, 1), (2, 1), (1, 2), (0, 3), (2, 3), (3, 4))


def row_mask(text: int, grid: int) -> Tensor:
    return stream_mask("row", text, grid)


def _wrong_text(answer) -> tuple[Mistake, Mistake]:
    """Mistakes of a mask that is right for the codes, and not for the caption itself."""

    def with_text(seen_by_text):
        def mask(text, *sizes):
            seen = answer(text, *sizes)
            seen[:text, :text] = seen_by_text
            return seen

        return mask

    return (
        Mistake("Words of the caption see later words: the stream is causal from its first"
                " position on.", with_text(True)),
        Mistake("The caption's own rows are empty: a word sees itself and the words before it.",
                with_text(False)),
    )  # fmt: skip


def _row(reach):
    def mask(text, grid):
        i, j, q, k, is_text = _grid(text, grid)
        return (j <= i) & (reach(q, k, grid) | is_text)

    return mask


ROW_MASK = Task(
    name="row_mask", chapter=6, difficulty=3, minutes=20, answer=row_mask,
    axes=("key", "query"),
    cases=lambda: list(_SIZES),
    properties=(_SEES_ITSELF, _NO_FUTURE),
    mistakes=(
        Mistake("Only the codes of the same row of the picture. The paper's row mask goes back W"
                " codes in the stream, to the one straight above.",
                _row(lambda q, k, w: q.div(w, rounding_mode="floor") == k.div(
                    w, rounding_mode="floor"))),
        Mistake("One code short: the code straight above is W places back, and is seen as well.",
                _row(lambda q, k, w: q - k < w)),
        Mistake("The text is hidden: every layer sees all of the caption.",
                lambda t, w: (lambda i, j, q, k, s: (j <= i) & (q - k <= w) & (~s | (i < t)))(
                    *_grid(t, w))),
        Mistake("That is the causal mask: all earlier codes are seen.",
                lambda t, w: torch.ones(t + w * w, t + w * w, dtype=torch.bool).tril()),
        Mistake("It looks ahead: causality is still to be added, key ≤ query.",
                lambda t, w: (lambda i, j, q, k, s: (q - k <= w) | s)(*_grid(t, w))),
        *_wrong_text(row_mask),
    ),
    hints=(
        "Count positions from the first code: query − text and key − text. Keys below 0 are text.",
        "Three conditions: not the future; and either text, or at most W codes back.",
        "(key ≤ query) & ((query − key ≤ grid) | key is text), by broadcasting.",
    ),
)  # fmt: skip


def column_mask(text: int, grid: int) -> Tensor:
    return stream_mask("column", text, grid)


COLUMN_MASK = Task(
    name="column_mask", chapter=6, difficulty=2, minutes=15, answer=column_mask,
    axes=("key", "query"),
    cases=lambda: list(_SIZES),
    properties=(_SEES_ITSELF, _NO_FUTURE),
    mistakes=(
        Mistake("That is the row of the picture: index // W is the row, index % W the column.",
                _row(lambda q, k, w: q.div(w, rounding_mode="floor") == k.div(
                    w, rounding_mode="floor"))),
        Mistake("A code does not see itself: the first of a column would see no code at all.",
                _row(lambda q, k, w: (q % w == k % w) & (k < q))),
        Mistake("The text is hidden: every layer sees all of the caption.",
                lambda t, w: (lambda i, j, q, k, s: (j <= i) & ((q % w == k % w) & ~s | (i < t)))(
                    *_grid(t, w))),
        Mistake("Only the code straight above: the whole column above is seen.",
                _row(lambda q, k, w: (q - k == w) | (q == k))),
        Mistake("It looks down as well: causality is still to be added, key ≤ query.",
                lambda t, w: (lambda i, j, q, k, s: (q % w == k % w) | s)(*_grid(t, w))),
        *_wrong_text(column_mask),
    ),
    hints=(
        "Where in the picture is code number 17 of a grid that is 5 wide?",
        "Two codes are in one column when their indices have the same remainder by W.",
        "(key ≤ query) & ((query % grid == key % grid) | key is text).",
    ),
)  # fmt: skip


def convolutional_mask(text: int, grid: int, kernel: int) -> Tensor:
    return stream_mask("convolutional", text, grid, kernel)


def _near(inside):
    def mask(text, grid, kernel):
        i, j, q, k, is_text = _grid(text, grid)
        down = q.div(grid, rounding_mode="floor") - k.div(grid, rounding_mode="floor")
        return (j <= i) & (inside(down, q % grid - k % grid, kernel // 2) | is_text)

    return mask


def _wrapped(text: int, grid: int, kernel: int) -> Tensor:
    i, j, q, k, is_text = _grid(text, grid)
    near = [(q - k - down * grid).abs() <= kernel // 2 for down in range(kernel // 2 + 1)]
    return (j <= i) & (torch.stack(near).any(0) | is_text)


CONVOLUTIONAL_MASK = Task(
    name="convolutional_mask", chapter=6, difficulty=4, minutes=30, answer=convolutional_mask,
    axes=("key", "query"),
    cases=lambda: [(0, 1, 1), (2, 1, 1), (0, 2, 3), (0, 3, 1), (1, 3, 3), (2, 3, 7), (2, 4, 3),
                   (1, 5, 5), (0, 6, 3)],
    properties=(_SEES_ITSELF, _NO_FUTURE),
    mistakes=(
        Mistake("It wraps around the edge: the last code of a row is no neighbour of the first of"
                " the next. Compare rows and columns apart, not places in the stream.",
                _wrapped),
        Mistake("The whole kernel on each side: a kernel of 3 reaches one code to the left and one"
                " to the right, kernel // 2.",
                _near(lambda d, a, r: (d <= 2 * r + 1) & (a.abs() <= 2 * r + 1))),
        Mistake("Columns are compared without their absolute value: everything to the right above"
                " is seen too.", _near(lambda d, a, r: (d <= r) & (a <= r))),
        Mistake("Only the columns are limited; the square is bounded above as well.",
                _near(lambda d, a, r: a.abs() <= r)),
        Mistake("A cross, not a square: near in the row *and* near in the column, both at once.",
                _near(lambda d, a, r: ((d <= r) & (a == 0)) | ((d == 0) & (a.abs() <= r)))),
        *_wrong_text(convolutional_mask),
    ),
    hints=(
        "Turn each code's index into a row and a column of the picture first.",
        "Near means: at most kernel // 2 rows above, and at most kernel // 2 columns to either"
        " side.",
        "(key ≤ query) & ((down ≤ r) & (|across| ≤ r) | key is text).",
    ),
)  # fmt: skip


# --- cache_step -----------------------------------------------------------------------------------


def cache_step(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    keys, values = torch.cat([keys, k]), torch.cat([values, v])
    return (q @ keys.T / q.shape[-1] ** 0.5).softmax(-1) @ values


def _step_case(n: int, d: int) -> tuple:
    return (torch.randn(1, d), torch.randn(1, d), torch.randn(1, d),
            torch.randn(n, d), torch.randn(n, d))  # fmt: skip


def _attend(q, keys, values):
    return (q @ keys.T / q.shape[-1] ** 0.5).softmax(-1) @ values


CACHE_STEP = Task(
    name="cache_step", chapter=6, difficulty=3, minutes=15, answer=cache_step,
    cases=lambda: [
        *[_step_case(n, d) for n, d in ((0, 2), (1, 2), (3, 4), (7, 8), (5, 3))],
        tuple(20 * x for x in _step_case(4, 4)),
    ],
    mistakes=(
        Mistake("The new key and value are not among those looked at: a position sees itself.",
                lambda q, k, v, ks, vs: _attend(q, ks, vs) if len(ks) else 0 * q),
        Mistake("Only the new key and value are looked at: what is the cache for?",
                lambda q, k, v, ks, vs: _attend(q, k, v)),
        Mistake("Keys are appended and values put in front: the two no longer belong together.",
                lambda q, k, v, ks, vs: _attend(q, torch.cat([ks, k]), torch.cat([v, vs]))),
        Mistake("The √d is missing.",
                lambda q, k, v, ks, vs: (q @ torch.cat([ks, k]).T).softmax(-1) @ torch.cat(
                    [vs, v])),
        Mistake("Keys and values are swapped.",
                lambda q, k, v, ks, vs: _attend(q, torch.cat([vs, v]), torch.cat([ks, k]))),
    ),
    hints=(
        "One question, and the answers of all positions so far, its own included.",
        "Append the new key to the keys and the new value to the values, then attend.",
        "No mask is needed: all that is in the cache is past.",
    ),
)  # fmt: skip

TASKS = (ATTEND, CAUSAL_MASK, ROW_MASK, COLUMN_MASK, CONVOLUTIONAL_MASK, CACHE_STEP)
