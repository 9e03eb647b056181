"""Chapter 09, sampling: the checks of its exercises."""

import torch
from torch import Tensor

from minidalle.lab.checks.engine import Mistake, Property, Task
from minidalle.sampling import SamplingConfig, filter_logits

_INF = float("inf")


def _logits(*shape) -> Tensor:
    return 2 * torch.randn(*shape)


# --- temper ---------------------------------------------------------------------------------------


def temper(logits: Tensor, temperature: float) -> Tensor:
    return (logits / temperature).softmax(-1)


TEMPER = Task(
    name="temper", chapter=9, difficulty=1, minutes=5, answer=temper,
    cases=lambda: [(torch.tensor([1.0, 0.0]), 0.5), (_logits(2, 4), 2.0), (_logits(3, 5), 0.3),
                   (torch.tensor([[90.0, 89.0, 0.0], [-99.0, -98.0, 9.0]]), 0.5),
                   (_logits(2, 3, 4), 1.5)],
    properties=(Property("the probabilities of a row sum to 1",
                         lambda p, *_: torch.allclose(p.sum(-1), torch.ones(()), atol=1e-4)),),
    mistakes=(
        Mistake("You multiply: a low temperature must make the likely likelier.",
                lambda a, t: (a * t).softmax(-1)),
        Mistake("The probabilities are divided, and no longer sum to 1: divide the logits.",
                lambda a, t: a.softmax(-1) / t),
        Mistake("Those are logits still: the softmax is missing.", lambda a, t: a / t),
        Mistake("The softmax runs over the rows.", lambda a, t: (a / t).softmax(0)),
        Mistake("The temperature is ignored.", lambda a, t: a.softmax(-1)),
        Mistake("exp(180) is inf in single precision, and inf / inf is nan: .softmax(-1) subtracts"
                " the largest of a row first.",
                lambda a, t: (a / t).exp() / (a / t).exp().sum(-1, keepdim=True)),
    ),
    hints=(
        "Before the softmax, not after it.",
        "At T → 0 the differences between logits must become huge.",
        "softmax(logits / T) over the last dimension.",
    ),
)  # fmt: skip


# --- top_k ----------------------------------------------------------------------------------------


def top_k(logits: Tensor, k: int) -> Tensor:
    return filter_logits(logits, SamplingConfig(top_k=k))


def _kept(logits: Tensor, k: int, largest=True, fill=-_INF) -> Tensor:
    at = logits.topk(k, largest=largest).indices
    out = torch.full_like(logits, fill)
    return out.scatter(-1, at, logits.gather(-1, at))


def _without_ties(out: Tensor, logits: Tensor, k: int) -> Tensor:
    """Where more than one are the k-th largest, any of them may be kept, or all."""
    at = logits == logits.topk(k).values[..., -1:]
    return out.masked_fill(at & (at.sum(-1, keepdim=True) > 1), -_INF)


TOP_K = Task(
    name="top_k", chapter=9, difficulty=2, minutes=10, answer=top_k,
    cases=lambda: [(torch.tensor([1.0, 0.0]), 1), (_logits(4), 2), (_logits(3, 6), 3),
                   (_logits(2, 5), 5), (_logits(2, 3, 4), 2), (100 * _logits(2, 4), 3),
                   (torch.tensor([[1.0, 2.0, 2.0, 0.0], [3.0, 0.0, 2.0, 2.0]]), 2)],
    properties=(
        Property("at least k codes of a row are kept",
                 lambda out, logits, k: bool(((out > -_INF).sum(-1) >= k).all())),
        Property("a code that is kept has its own logit",
                 lambda out, logits, k: bool(((out == logits) | (out == -_INF)).all())),
    ),
    compared=lambda out, logits, k: _without_ties(out, logits, k),
    mistakes=(
        Mistake("Codes cut away have a logit of 0, and exp(0) = 1: set them to −∞.",
                lambda a, k: _kept(a, k, fill=0.0)),
        Mistake("The k-th itself is cut: all that are *at least* as large as it stay.",
                lambda a, k: a.masked_fill(a <= a.topk(k).values[..., -1:], -_INF)),
        Mistake("The k *least* likely are kept.", lambda a, k: _kept(a, k, largest=False)),
        Mistake("k is accepted and ignored. Public code has shipped this.",
                lambda a, k: a.clone()),
        Mistake("`gather` reads from the places that topk gave; `scatter` writes into them.",
                lambda a, k: torch.full_like(a, -_INF).gather(-1, a.topk(k).indices)),
        Mistake("The k largest come back, but not in their places: a code is an index.",
                lambda a, k: a.topk(k).values),
        Mistake("k is read as a share of the codes: \"top-k 0.9\" once kept 71 % of them.",
                lambda a, k: _kept(a, max(1, a.shape[-1] - k))),
    ),
    hints=(
        "The result has the shape of the logits; those cut away become −∞.",
        "topk gives you the values and the indices of the k largest.",
        "Start from a tensor full of −inf and scatter the k logits into their places.",
    ),
)  # fmt: skip


# --- top_p ----------------------------------------------------------------------------------------


def top_p(logits: Tensor, p: float) -> Tensor:
    return filter_logits(logits, SamplingConfig(top_p=p))


def _nucleus(logits: Tensor, keep) -> Tensor:
    ordered, order = logits.sort(descending=True)
    probabilities = ordered.softmax(-1)
    kept = keep(probabilities, probabilities.cumsum(-1))
    return torch.empty_like(logits).scatter(-1, order, ordered.masked_fill(~kept, -_INF))


TOP_P = Task(
    name="top_p", chapter=9, difficulty=4, minutes=30, answer=top_p,
    cases=lambda: [
        (torch.tensor([0.6, 0.4]).log(), 0.5), (torch.tensor([0.2, 0.5, 0.3]).log(), 0.6),
        (torch.tensor([0.1, 0.2, 0.4, 0.3]).log(), 0.75), (_logits(3, 6), 0.7),
        (_logits(2, 9), 0.95), (_logits(2, 4), 0.05), (torch.tensor([0.5, 0.25, 0.25]).log(), 0.5),
        (torch.tensor([0.5, 0.25, 0.25]).log(), 1.0), (torch.zeros(4), 0.5), (torch.zeros(4), 0.7),
        (torch.tensor([0.125, 0.25, 0.25, 0.25, 0.125]).log(), 0.4), (_logits(2, 3, 5), 0.8),
        (torch.tensor([[0.0, 300.0, -300.0], [200.0, -9.0, 199.0]]), 0.9),
    ],
    properties=(
        Property("at least one code of a row is kept",
                 lambda out, *_: bool((out > -_INF).any(-1).all())),
        Property("a code that is kept has its own logit",
                 lambda out, logits, p: bool(((out == logits) | (out == -_INF)).all())),
    ),
    compared=lambda out, logits, p: out.sort(-1).values,  # of two that are alike, either is right
    mistakes=(
        Mistake("Where the sum is exactly p it is reached, and the next code is one too many.",
                lambda a, p: _nucleus(a, lambda q, c: c - q <= p)),
        Mistake("The code that *crosses* p is cut. It stays: the fewest that together *reach* p.",
                lambda a, p: _nucleus(a, lambda q, c: c <= p)),
        Mistake("Codes with a probability above p: a threshold for each, and no sum.",
                lambda a, p: a.masked_fill(a.softmax(-1) < p, -_INF)),
        Mistake("The sorted logits come back in sorted order: put each into its own place again.",
                lambda a, p: (lambda o: o.masked_fill(o.softmax(-1).cumsum(-1) - o.softmax(
                    -1) >= p, -_INF))(a.sort(descending=True).values)),
        Mistake("`gather` by the order sorts once more; to put each logit back into its own place,"
                " `scatter`.",
                lambda a, p: (lambda o, i: o.masked_fill(o.softmax(-1).cumsum(-1) - o.softmax(
                    -1) >= p, -_INF).gather(-1, i))(*a.sort(descending=True))),
        Mistake("A threshold keeps every code that is as likely as the last that is needed; the"
                " *fewest* are wanted, and of equals only as many as that.",
                lambda a, p: a.masked_fill(a < _nucleus(a, lambda q, c: c - q < p).masked_fill(
                    _nucleus(a, lambda q, c: c - q < p) == -_INF, _INF).amin(
                        -1, keepdim=True), -_INF)),
        Mistake("The least likely are kept: sort from the largest down.",
                lambda a, p: -_nucleus(-a, lambda q, c: c - q < p).masked_fill(
                    _nucleus(-a, lambda q, c: c - q < p) == -_INF, _INF)),
        Mistake("The sum runs over logits; p is a share of *probability*.",
                lambda a, p: (lambda o, i: torch.empty_like(a).scatter(-1, i, o.masked_fill(
                    o.cumsum(-1) - o >= p, -_INF)))(*a.sort(descending=True))),
        Mistake("One code too many: those whose sum *before* them is still below p are kept, and"
                " you keep the next as well.",
                lambda a, p: _nucleus(a, lambda q, c: torch.cat([
                    torch.ones_like(c[..., :1], dtype=torch.bool), (c - q < p)[..., :-1]], -1))),
    ),
    hints=(
        "Sort from the likeliest down, and add probabilities up until p is reached.",
        "A code stays when the sum of all *before* it is still below p; the first always does.",
        "sort, softmax, cumsum − itself, compare, −inf for the rest, and scatter back by the order"
        " that sort gave you.",
    ),
)  # fmt: skip


# --- guide ----------------------------------------------------------------------------------------


def guide(with_caption: Tensor, empty: Tensor, guidance: float) -> Tensor:
    return empty + guidance * (with_caption - empty)


GUIDE = Task(
    name="guide", chapter=9, difficulty=2, minutes=10, answer=guide,
    cases=lambda: [(torch.tensor([1.0]), torch.tensor([0.0]), g) for g in (0.0, 1.0, 3.0)]
    + [(torch.tensor([1.0]), torch.tensor([0.5]), 2.0)] + [(_logits(2, 4), _logits(2, 4), 2.5)]
    + [(_logits(2, 3, 4), _logits(2, 3, 4), -0.5)],
    mistakes=(
        Mistake("Guidance 1 must be the model as it is; you add the difference once too often.",
                lambda w, e, g: w + g * (w - e)),
        Mistake("The difference has the wrong sign: it leads from the empty caption *away* from the"
                " caption.", lambda w, e, g: e + g * (e - w)),
        Mistake("The two are swapped: more guidance leads away from the caption.",
                lambda w, e, g: w + g * (e - w)),
        Mistake("It does nothing: the empty caption has no say.", lambda w, e, g: w.clone()),
        Mistake("A mixture cannot go further than its ends: it is the *difference* that is"
                " multiplied.", lambda w, e, g: (w + (g - 1) * e) / max(g, 1)),
        Mistake("Only the caption's logits are multiplied: that is a temperature.",
                lambda w, e, g: g * w),
        Mistake("The whole caption is added, and not its *difference* from the empty one.",
                lambda w, e, g: e + g * w),
    ),
    hints=(
        "Two points, and a line through them.",
        "At 0 you stand on the empty caption, at 1 on the caption.",
        "empty + guidance · (caption − empty).",
    ),
)  # fmt: skip


# --- prime: the codes of the upper rows -----------------------------------------------------------


def prime(codes: Tensor, rows: int) -> Tensor:
    return codes[:rows].flatten()


PRIME = Task(
    name="prime", chapter=9, difficulty=1, minutes=5, answer=prime,
    cases=lambda: [(torch.tensor([[7]]), 1), (torch.arange(4).view(2, 2), 1),
                   (torch.arange(9).view(3, 3), 2), (torch.arange(16).view(4, 4), 0),
                   *[(torch.randint(0, 99, (n, n)), r)
                     for n, r in ((3, 1), (3, 3), (4, 2), (5, 3), (6, 1))]],
    mistakes=(
        Mistake("Those are columns: the stream runs along rows, and only whole upper rows can be"
                " given.", lambda c, r: c[:, :r].flatten()),
        Mistake("The *lower* rows: the row of codes has one direction.",
                lambda c, r: c[len(c) - r :].flatten()),
        Mistake("The first `rows` codes, not the first rows of codes.",
                lambda c, r: c.flatten()[:r]),
        Mistake("Right, and still a grid: the stream is one row. Flatten it.",
                lambda c, r: c[:r]),
        Mistake("Read column by column; raster order runs along the rows.",
                lambda c, r: c[:r].T.flatten()),
    ),
    hints=(
        "Which codes come first in the stream?",
        "Take whole rows from the top.",
        "codes[:rows], flattened.",
    ),
)  # fmt: skip

TASKS = (TEMPER, TOP_K, TOP_P, GUIDE, PRIME)
