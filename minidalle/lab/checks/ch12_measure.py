"""Chapter 12, measure and ablate: the checks of its exercises."""

from collections import defaultdict

import torch
from torch import Tensor

from minidalle.evaluation import metrics
from minidalle.lab.checks.engine import Mistake, Property, Task

# --- skill_shares ---------------------------------------------------------------------------------


def skill_shares(skills: list, right: list) -> dict:
    found = defaultdict(list)
    for skill, is_right in zip(skills, right, strict=True):
        found[skill].append(is_right)
    return {skill: sum(each) / len(each) for skill, each in found.items()}


SKILL_SHARES = Task(
    name="skill_shares", chapter=12, difficulty=1, minutes=10, answer=skill_shares,
    cases=lambda: [([], []), (["colours"], [True]), (["colours", "colours"], [True, False]),
                   (["colours", "counting", "colours", "counting", "position"],
                    [True, False, True, True, False]),
                   (["colours", "colours", "colours"], [True, True, False]),
                   (["a", "a", "b", "a", "a", "b", "b", "c"],
                    [True, False, True, False, False, True, False, True])],
    mistakes=(
        Mistake("Divided by all captions: a rare skill would always look bad.",
                lambda s, r: {k: sum(y for x, y in zip(s, r, strict=True) if x == k) / len(s)
                              for k in dict.fromkeys(s)}),
        Mistake("The number that are right, and a share is wanted.",
                lambda s, r: {k: sum(y for x, y in zip(s, r, strict=True) if x == k)
                              for k in dict.fromkeys(s)}),
        Mistake("Each skill keeps only its last caption.",
                lambda s, r: {x: float(y) for x, y in zip(s, r, strict=True)}),
        Mistake("One number for all: it hides which skill is missing.",
                lambda s, r: dict.fromkeys(s, sum(r) / max(1, len(r)))),
        Mistake("The share that is wrong.",
                lambda s, r: {k: 1 - v for k, v in skill_shares(s, r).items()}),
    ),
    hints=(
        "Sort the verdicts into one list a skill.",
        "Then the mean of each list.",
        "A defaultdict(list), filled by a loop over both lists at once.",
    ),
)  # fmt: skip


# --- standard_error -------------------------------------------------------------------------------


def standard_error(p: float, n: int) -> float:
    return (p * (1 - p) / n) ** 0.5


STANDARD_ERROR = Task(
    name="standard_error", chapter=12, difficulty=1, minutes=5, answer=standard_error,
    cases=lambda: [(0.5, 1), (0.5, 100), (0.9, 60), (0.97, 600), (1.0, 10), (0.0, 7), (0.2, 3)],
    mistakes=(
        Mistake("That is the variance: take the root.", lambda p, n: p * (1 - p) / n),
        Mistake("The root of n, not n itself, divides: four times the captions halve the error.",
                lambda p, n: (p * (1 - p)) ** 0.5 / n),
        Mistake("1 − p is forgotten: a share of 1 would be uncertain.",
                lambda p, n: (p / n) ** 0.5),
        Mistake("That is the spread of a single caption, however many there are.",
                lambda p, n: (p * (1 - p)) ** 0.5),
        Mistake("The error of a share near one half, whatever the share.",
                lambda p, n: 0.5 / n**0.5),
    ),
    hints=(
        "A caption is right (1) or wrong (0). How far does such a number scatter?",
        "Its variance is p (1 − p), and that of a mean of n is n times smaller.",
        "The root of p (1 − p) / n.",
    ),
)  # fmt: skip


# --- lost_where: three sources of error -----------------------------------------------------------


def lost_where(kept: list, candidates: list, chosen: list) -> tuple:
    n = len(kept)
    some = [any(right) for right in candidates]
    best = [right[c] for right, c in zip(candidates, chosen, strict=True)]
    rerank = sum(s and not b for s, b in zip(some, best, strict=True))
    return (1 - sum(kept) / n, 1 - sum(some) / n, rerank / n)


def _lost(kept, candidates, chosen):
    some = [any(right) for right in candidates]
    best = [right[c] for right, c in zip(candidates, chosen, strict=True)]
    return len(kept), sum(kept) / len(kept), some, best


def _rerank_all_wrong(kept, candidates, chosen):
    n, k, some, best = _lost(kept, candidates, chosen)
    return 1 - k, 1 - sum(some) / n, 1 - sum(best) / n


def _shares_right(kept, candidates, chosen):
    n, k, some, best = _lost(kept, candidates, chosen)
    return k, sum(some) / n, sum(best) / n


def _prior_is_first(kept, candidates, chosen):
    n, k, some, best = _lost(kept, candidates, chosen)
    first = sum(right[0] for right in candidates) / n
    return 1 - k, 1 - first, sum(s and not b for s, b in zip(some, best, strict=True)) / n


def _of_the_rest(kept, candidates, chosen):
    n, k, some, best = _lost(kept, candidates, chosen)
    lost = sum(s and not b for s, b in zip(some, best, strict=True))
    return 1 - k, 1 - sum(some) / n, lost / max(1, sum(some))


def _all_for_any(kept, candidates, chosen):
    n, k, _, best = _lost(kept, candidates, chosen)
    some = [all(right) for right in candidates]
    return 1 - k, 1 - sum(some) / n, sum(s and not b for s, b in zip(some, best, strict=True)) / n


LOST_WHERE = Task(
    name="lost_where", chapter=12, difficulty=3, minutes=20, answer=lost_where,
    cases=lambda: [
        ([True], [[True]], [0]), ([True], [[False, True]], [0]), ([True], [[False, False]], [1]),
        ([True, False], [[True, True], [False, True]], [0, 0]),
        ([True, True, False, True], [[False, True], [True, False], [False, False], [True, True]],
         [1, 1, 0, 0]),
        ([False, False, True], [[True, True, False], [False, True, False], [False, False, True]],
         [2, 1, 0]),
    ],
    mistakes=(
        Mistake("Rerank can only lose what was there: count those where some candidate is right and"
                " the chosen one is not.", _rerank_all_wrong),
        Mistake("Shares that are right, and those that are lost are asked for.", _shares_right),
        Mistake("`all` where `any` is meant: one right candidate is enough for the prior.",
                _all_for_any),
        Mistake("The prior has failed only when *no* candidate is right, not when the first is"
                " wrong.", _prior_is_first),
        Mistake("Rerank's losses are a share of all captions, like the other two, so that the three"
                " can be compared.", _of_the_rest),
    ),
    hints=(
        "For each caption: does its own picture survive the dVAE; is any candidate right; is the"
        " chosen one right?",
        "The first two losses are one minus a mean.",
        "The third: any candidate right, and the chosen one wrong, divided by all captions.",
    ),
)  # fmt: skip


# --- frechet --------------------------------------------------------------------------------------


def frechet(a: Tensor, b: Tensor) -> float:
    return metrics.frechet_distance(a, b)


def _parts(a, b):
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    root = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0).sqrt().sum()
    return a.mean(0) - b.mean(0), cov_a, cov_b, root


def _no_cross(a, b):
    d, ca, cb, _ = _parts(a, b)
    return (d @ d + ca.trace() + cb.trace()).item()


def _mean_norm(a, b):
    d, ca, cb, root = _parts(a, b)
    return (d.norm() + ca.trace() + cb.trace() - 2 * root).item()


def _elementwise_root(a, b):
    d, ca, cb, _ = _parts(a, b)
    return (d @ d + ca.trace() + cb.trace() - 2 * (ca @ cb).diagonal().clamp(min=0).sqrt().sum(
        )).item()  # fmt: skip


def _once(a, b):
    d, ca, cb, root = _parts(a, b)
    return (d @ d + ca.trace() + cb.trace() - root).item()


def _biased(a, b):
    d, ca, cb, root = _parts(a, b)
    a, b = (len(a) - 1) / len(a), (len(b) - 1) / len(b)
    return (d @ d + a * ca.trace() + b * cb.trace() - 2 * (a * b) ** 0.5 * root).item()


def _means_only(a, b):
    d, *_ = _parts(a, b)
    return (d @ d).item()


def _untransposed(a, b):
    cov_a, cov_b = torch.cov(a.double()), torch.cov(b.double())
    root = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0).sqrt().sum()
    d = a.double().mean(0) - b.double().mean(0)
    return (d @ d + cov_a.trace() + cov_b.trace() - 2 * root).item()


def _single(a, b, least=-torch.inf):
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    root = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=least).sqrt().sum()
    d = a.mean(0) - b.mean(0)
    return (d @ d + cov_a.trace() + cov_b.trace() - 2 * root).item()


def _cloud(n: int, d: int) -> Tensor:
    """Unit vectors near each other, fewer than their dimension, as CLIP's in a notebook."""
    return torch.nn.functional.normalize(1 + torch.randn(n, d), dim=-1)


FRECHET = Task(
    name="frechet", chapter=12, difficulty=5, minutes=60, answer=frechet, tolerance=1e-4,
    cases=lambda: [
        (torch.randn(30, 2), 2 + torch.randn(30, 2)),
        (torch.randn(40, 3) @ torch.randn(3, 3), torch.randn(50, 3)),
        (torch.randn(60, 4) @ torch.randn(4, 4), torch.randn(60, 4) @ torch.randn(4, 4)),
        (_cloud(24, 128), _cloud(24, 128)),
        (*(torch.randn(20, 3),) * 2,), (9 + torch.randn(30, 2) / 100, 9 + torch.randn(30, 2) / 100),
    ],
    properties=(Property("a distance is never negative", lambda v, *_: v >= -1e-6),),
    mistakes=(
        Mistake("The cross term is missing: a cloud would be far from itself.", _no_cross),
        Mistake("The distance of the means is squared.", _mean_norm),
        Mistake("torch.cov wants one variable a *row*, and your rows are pictures: transpose.",
                _untransposed),
        Mistake("Fewer pictures than dimensions: in single precision an eigenvalue that should be 0"
                " comes out below it, and its root is nan. Use .double(), and clamp at zero.",
                _single),
        Mistake("In single precision the eigenvalues that should be 0 are not, and their roots add"
                " up: use .double().", lambda a, b: _single(a, b, least=0)),
        Mistake("The root of a matrix is not the root of its entries: its trace is the sum of the"
                " roots of the *eigenvalues*.", _elementwise_root),
        Mistake("The cross term counts twice.", _once),
        Mistake("The covariances are divided by n: torch.cov divides by n − 1.", _biased),
        Mistake("Only the means are compared; clouds of another width lie apart as well.",
                _means_only),
    ),
    hints=(
        "Two means and two covariance matrices; torch.cov wants one variable a row.",
        "|μa − μb|² + tr Σa + tr Σb − 2 tr (Σa Σb)^½, in double precision.",
        "The trace of a root is the sum of the roots of the eigenvalues: torch.linalg.eigvals(Σa @"
        " Σb).real, clamped at zero.",
    ),
)  # fmt: skip


# --- helped_or_hurt: a paired comparison ----------------------------------------------------------


def helped_or_hurt(before: list, after: list) -> tuple:
    pairs = list(zip(before, after, strict=True))
    return sum(b and not a for a, b in pairs), sum(a and not b for a, b in pairs)


HELPED_OR_HURT = Task(
    name="helped_or_hurt", chapter=12, difficulty=2, minutes=10, answer=helped_or_hurt,
    cases=lambda: [([], []), ([False], [True]), ([True], [False]), ([True, False], [True, True]),
                   ([True, True, False, False, False], [True, False, True, True, False]),
                   ([False, False, False], [True, True, True]),
                   ([True, True, True, False], [False, False, False, False])],
    mistakes=(
        Mistake("Those that were right anyway count as helped.",
                lambda x, y: (sum(y), sum(not b for b in y))),
        Mistake("The two counts are swapped: helped first.",
                lambda x, y: helped_or_hurt(x, y)[::-1]),
        Mistake("Only the difference of the totals: that a change helped ten and hurt nine is the"
                " very thing to know.",
                lambda x, y: (max(0, sum(y) - sum(x)), max(0, sum(x) - sum(y)))),
        Mistake("Everything that changed is counted on both sides.",
                lambda x, y: (sum(a != b for a, b in zip(x, y, strict=True)),) * 2),
    ),
    hints=(
        "Caption by caption: what was it before, and what is it now?",
        "Helped: wrong before and right after. Hurt: the other way round.",
        "Two sums over zip(before, after).",
    ),
)  # fmt: skip

TASKS = (SKILL_SHARES, STANDARD_ERROR, LOST_WHERE, FRECHET, HELPED_OR_HURT)
