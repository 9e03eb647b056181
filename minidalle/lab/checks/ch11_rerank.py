"""Chapter 11, rerank: the checks of its exercises."""

import math

import torch
from torch import Tensor

from minidalle.lab.checks.engine import Mistake, Property, Task

# --- rank -----------------------------------------------------------------------------------------


def rank(images: Tensor, text: Tensor) -> Tensor:
    return (images @ text).argsort(descending=True, stable=True)


RANK = Task(
    name="rank", chapter=11, difficulty=1, minutes=5, answer=rank,
    cases=lambda: [(torch.tensor([[1.0, 0.0]]), torch.tensor([1.0, 0.0])),
                   (torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([1.0, 0.0])),
                   (torch.randn(5, 3), torch.randn(3)), (torch.randn(9, 4), torch.randn(4)),
                   (torch.randn(3, 6), torch.randn(6)),
                   (torch.tensor([[0.0, 1.0], [2.0, 0.0], [2.0, 5.0], [3.0, 1.0], [2.0, 0.0]]),
                    torch.tensor([1.0, 0.0]))],
    properties=(Property("each candidate stands there once",
                         lambda order, images, _: sorted(order.tolist()) == list(
                             range(len(images)))),),
    compared=lambda order, images, text: (images @ text)[order],  # equals in either order
    mistakes=(
        Mistake("The worst comes first: sort from the largest down.",
                lambda i, t: (i @ t).argsort()),
        Mistake("The similarities themselves, sorted: asked is *which* candidate stands where.",
                lambda i, t: (i @ t).sort(descending=True).values),
        Mistake("The place of each candidate, and the candidate at each place is wanted: argsort"
                " once, not twice.",
                lambda i, t: (i @ t).argsort(descending=True).argsort()),
        Mistake("Only the best: the whole order is wanted.",
                lambda i, t: (i @ t).argmax()[None]),
    ),
    hints=(
        "N dot products, one a candidate.",
        "Their order, the largest first; as indices.",
        "(images @ text).argsort(descending=True).",
    ),
)  # fmt: skip


# --- best_of: is CLIP's choice among the first n right? -------------------------------------------


def best_of(scores: list, right: list, n: int) -> bool:
    best = max(range(n), key=lambda i: scores[i])
    return right[best]


_SCORES, _RIGHT = [0.2, 0.9, 0.4, 0.95, 0.1], [True, False, True, False, True]

BEST_OF = Task(
    name="best_of", chapter=11, difficulty=2, minutes=10, answer=best_of,
    cases=lambda: [([0.5], [True], 1), (_SCORES, _RIGHT, 1), (_SCORES, _RIGHT, 2),
                   (_SCORES, _RIGHT, 3), ([0.1, 0.3, 0.2, 0.9], [False, True, False, False], 3),
                   ([0.9, 0.3, 0.2], [False, True, True], 3), ([0.1, 0.8], [False, True], 2),
                   ([-0.9, -0.3, -0.5], [False, True, False], 3),
                   ([-0.3, -0.9, 0.5, 0.6], [False, True, True, False], 3)],
    mistakes=(
        Mistake("That is the oracle: some candidate is right. CLIP must also *choose* it.",
                lambda s, r, n: any(r[:n])),
        Mistake("CLIP chooses among all candidates; only the first n have been drawn.",
                lambda s, r, n: r[max(range(len(s)), key=lambda i: s[i])]),
        Mistake("The lowest score wins with you.",
                lambda s, r, n: r[min(range(n), key=lambda i: s[i])]),
        Mistake("The first candidate is no choice at all.", lambda s, r, n: r[0]),
        Mistake("One candidate too few: the first n are those with indices 0 … n − 1.",
                lambda s, r, n: r[max(range(max(1, n - 1)), key=lambda i: s[i])]),
    ),
    hints=(
        "First who is chosen, then whether that one is right.",
        "The index below n with the largest score.",
        "right[max(range(n), key=lambda i: scores[i])].",
    ),
)  # fmt: skip


# --- some_right -----------------------------------------------------------------------------------


def some_right(p: float, n: int) -> float:
    return 1 - (1 - p) ** n


SOME_RIGHT = Task(
    name="some_right", chapter=11, difficulty=1, minutes=5, answer=some_right,
    cases=lambda: [(0.5, 1), (0.5, 2), (0.0, 5), (1.0, 3), (0.1, 32), (0.3, 4), (0.02, 3),
                   (0.7, 2)],
    properties=(Property("a probability lies between 0 and 1", lambda v, *_: 0 <= v <= 1),),
    mistakes=(
        Mistake("Chances do not add up: at n = 4 and p = 0.3 it would be more than certain.",
                lambda p, n: min(1.0, n * p)),
        Mistake("That is the chance that *all* are right.", lambda p, n: p**n),
        Mistake("That is the chance that all are wrong.", lambda p, n: (1 - p) ** n),
        Mistake("That is the chance that exactly one is right.",
                lambda p, n: n * p * (1 - p) ** (n - 1)),
    ),
    hints=(
        "It is easier to ask for the opposite.",
        "All n are wrong with a probability of (1 − p)ⁿ.",
        "One minus that.",
    ),
)  # fmt: skip


# --- ordered: the area under the ROC curve --------------------------------------------------------


def ordered(scores: list, right: list) -> float:
    good = [s for s, r in zip(scores, right, strict=True) if r]
    bad = [s for s, r in zip(scores, right, strict=True) if not r]
    if not good or not bad:
        return math.nan
    return sum((g > b) + 0.5 * (g == b) for g in good for b in bad) / (len(good) * len(bad))


def _auc(win):
    def answer(scores, right):
        good = [s for s, r in zip(scores, right, strict=True) if r]
        bad = [s for s, r in zip(scores, right, strict=True) if not r]
        return sum(win(g, b) for g in good for b in bad) / (len(good) * len(bad)) if (
            good and bad) else math.nan  # fmt: skip

    return answer


ORDERED = Task(
    name="ordered", chapter=11, difficulty=3, minutes=20, answer=ordered,
    cases=lambda: [([0.5], [True]), ([0.9, 0.1], [True, False]), ([0.1, 0.9], [True, False]),
                   ([0.5, 0.5], [True, False]), ([0.9, 0.8, 0.3, 0.2], [True, False, True, False]),
                   ([0.4, 0.4, 0.1, 0.9, 0.2], [True, False, True, True, False]),
                   ([0.5 + 2**-24, 0.5], [True, False]), ([0.5, 0.5 + 2**-24], [True, False]),
                   ([0.3, 0.2], [False, False]), ([-0.2, -0.7, -0.4], [True, False, False]),
                   ([0.5, 0.5, 0.5, 0.5], [True, False, True, False])],
    mistakes=(
        Mistake("A tie counts as won; it is worth a half.", _auc(lambda g, b: g >= b)),
        Mistake("A tie counts as lost; it is worth a half.", _auc(lambda g, b: g > b)),
        Mistake("Two scores that are merely near are no tie: compare them as they are.",
                _auc(lambda g, b: 0.5 if abs(g - b) < 1e-6 else float(g > b))),
        Mistake("The pairs in the *wrong* order are counted.",
                _auc(lambda g, b: (g < b) + 0.5 * (g == b))),
        Mistake("Without a right one or without a wrong one there is no pair to order: nan, and"
                " neither 0 nor 1.",
                lambda s, r: 0.0 if all(r) or not any(r) else ordered(s, r)),
        Mistake("That asks only whether the very best is right.",
                lambda s, r: float(r[max(range(len(s)), key=lambda i: s[i])])),
    ),
    hints=(
        "Split the scores into those of right and those of wrong candidates.",
        "Of all (right, wrong) pairs, in which share does the right one score higher?",
        "Count 1 for higher, ½ for equal, divide by the number of pairs; math.nan where there are"
        " none.",
    ),
)  # fmt: skip

TASKS = (RANK, BEST_OF, SOME_RIGHT, ORDERED)
