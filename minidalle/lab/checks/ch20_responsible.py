"""Chapter 20, responsible pictures: the checks of its exercises."""

import math
from collections import Counter

import torch
from torch import Tensor

from minidalle.datasets import planted
from minidalle.evaluation import audit
from minidalle.lab.checks.engine import Mistake, Property, Task

# --- sharpen --------------------------------------------------------------------------------------


def sharpen(p: Tensor, tau: float) -> Tensor:
    shares = {str(i): share for i, share in enumerate(p.tolist())}
    return torch.tensor(list(audit.tempered(shares, tau).values()))


SHARPEN = Task(
    name="sharpen", chapter=20, difficulty=2, minutes=10, answer=sharpen,
    cases=lambda: [
        (torch.tensor([0.5, 0.5]), 0.5), (torch.tensor([0.8, 0.2]), 1.0),
        (torch.tensor([0.8, 0.2]), 0.5), (torch.tensor([0.5, 0.25, 0.25]), 0.25),
        (torch.tensor([0.6, 0.4, 0.0]), 0.7), (torch.rand(6).softmax(0), 0.4),
        (torch.rand(4).softmax(0), 3.0), (torch.tensor([0.3, 0.3, 0.4]), 0.02),
        (torch.full((12,), 1 / 12), 0.01), ((3 * torch.randn(9)).softmax(0), 0.3),
    ],
    properties=(
        Property("shares sum to 1", lambda out, p, tau: abs(out.sum().item() - 1) < 1e-4),
        Property("the largest share stays the largest",
                 lambda out, p, tau: out[p.argmax()] >= out.max() - 1e-5),
    ),
    mistakes=(
        Mistake("The power is 1/τ: a logit divided by τ is a probability to the power of 1/τ.",
                lambda p, t: p**t / (p**t).sum()),
        Mistake("They no longer sum to 1: divide by the sum of the powers.",
                lambda p, t: p ** (1 / t)),
        Mistake("A softmax of probabilities: temperature divides *logits*, and a logit is ln p.",
                lambda p, t: (p / t).softmax(0)),
        Mistake("Divided by τ and normalised again, nothing has changed.",
                lambda p, t: p / t / (p / t).sum()),
        Mistake("Below 1, greedy: only the likeliest is left. That is the limit τ → 0.",
                lambda p, t: (p == p.max()) / (p == p.max()).sum() if t < 1 else
                p ** (1 / t) / (p ** (1 / t)).sum()),
        Mistake("At a small τ all powers are 0, and 0/0 is nan: divide p by its maximum first.",
                lambda p, t: p ** (1 / t) / (p ** (1 / t)).sum()),
    ),
    hints=(
        "softmax(ln p / τ): what does exp(ln p / τ) come to?",
        "Each share to the power of 1/τ, and all divided by their sum. What if τ is tiny?",
        "powers = (p / p.max()) ** (1 / tau); powers / powers.sum().",
    ),
)  # fmt: skip


# --- total_variation ------------------------------------------------------------------------------


def total_variation(p: dict, q: dict) -> float:
    return audit.total_variation(p, q)


def _both(p: dict, q: dict) -> set:
    return set(p) & set(q)


TOTAL_VARIATION = Task(
    name="total_variation", chapter=20, difficulty=1, minutes=5, answer=total_variation,
    cases=lambda: [
        ({"red": 1.0}, {"red": 1.0}), ({"red": 1.0}, {"blue": 1.0}),
        ({"red": 0.5, "blue": 0.5}, {"red": 0.9, "blue": 0.1}),
        ({"red": 0.9, "blue": 0.1}, {"red": 0.5, "blue": 0.5}),
        ({"red": 0.5, "blue": 0.5}, {"red": 0.3, "blue": 0.3, "green": 0.4}),
        ({"red": 0.2, "blue": 0.1, "green": 0.7}, {"red": 0.5, "blue": 0.5}),
        ({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}, {"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.1}),
        ({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, {"a": 0.5, "b": 0.3, "c": 0.2}),
    ],
    properties=(
        Property("it lies between 0 and 1", lambda out, p, q: -1e-9 <= out <= 1 + 1e-6),
    ),
    mistakes=(
        Mistake("Half of it: what one name has too much another has too little, and it would be"
                " counted twice.", lambda p, q: sum(
                    abs(p.get(n, 0) - q.get(n, 0)) for n in p.keys() | q.keys())),
        Mistake("A name that only one of them has counts too, with a share of 0 in the other.",
                lambda p, q: sum(abs(p[n] - q[n]) for n in _both(p, q)) / 2),
        Mistake("Names that only `q` has are missing: go through the names of both.",
                lambda p, q: sum(abs(p[n] - q.get(n, 0)) for n in p) / 2),
        Mistake("Without the absolute value, gains and losses cancel.",
                lambda p, q: sum(p.get(n, 0) - q.get(n, 0) for n in p.keys() | q.keys()) / 2),
        Mistake("The largest difference of one name is not that of a *set* of names: add up.",
                lambda p, q: max(abs(p.get(n, 0) - q.get(n, 0)) for n in p.keys() | q.keys())),
        Mistake("Squared differences: that is the Euclidean distance, which has another scale.",
                lambda p, q: math.sqrt(sum(
                    (p.get(n, 0) - q.get(n, 0)) ** 2 for n in p.keys() | q.keys()))),
    ),
    hints=(
        "For each name, how far apart are the two shares? A name that is missing has the share 0.",
        "Names of both: p.keys() | q.keys(). And p.get(name, 0).",
        "sum(abs(p.get(n, 0) - q.get(n, 0)) for n in p.keys() | q.keys()) / 2.",
    ),
)  # fmt: skip


# --- balanced_weights -----------------------------------------------------------------------------


def balanced_weights(groups: list) -> list:
    return list(planted.balanced_weights(groups))


def _weighted(groups: list, weight) -> list:
    """weight(pictures of its group, number of groups, number of pictures) of each picture."""
    counts = Counter(groups)
    return [weight(counts[g], len(counts), len(groups)) for g in groups]


def _normalised(weights: list) -> list:
    total = sum(weights)
    return [w / total if total else 1 / len(weights) for w in weights]


BALANCED_WEIGHTS = Task(
    name="balanced_weights", chapter=20, difficulty=2, minutes=10, answer=balanced_weights,
    cases=lambda: [
        (["red"],), (["red", "blue"],), (["red", "red", "blue"],), (["red"] * 3,),
        (["green", "red", "green", "green"],), (["a", "b", "c", "a", "b", "a"],),
        (["green"] * 9 + ["white"],), (["b", "a", "a", "d", "a", "c", "c"],),
    ],
    properties=(
        Property("the weights sum to 1", lambda out, groups: abs(sum(out) - 1) < 1e-6),
        Property("all groups have the same total", lambda out, groups: max(
            totals := [sum(w for w, g in zip(out, groups, strict=True) if g == name)
                       for name in set(groups)]) - min(totals) < 1e-6),
    ),
    mistakes=(
        Mistake("All alike: that is no cure. A picture of a rare group needs a larger weight.",
                lambda g: _weighted(g, lambda n, k, m: 1 / m)),
        Mistake("The wrong way round: what is frequent has become more frequent.",
                lambda g: _normalised(_weighted(g, lambda n, k, m: n))),
        Mistake("The groups are equal, and the weights sum to their number: divide by it.",
                lambda g: _weighted(g, lambda n, k, m: 1 / n)),
        Mistake("These are weights for a mean loss, with a mean of 1. Sampling weights sum to 1.",
                lambda g: _weighted(g, lambda n, k, m: m / (k * n))),
        Mistake("A square root balances only halfway, which some choose on purpose.",
                lambda g: _normalised(_weighted(g, lambda n, k, m: n**-0.5))),
        Mistake("1 − share is not 1/share: two groups come out equal, three do not.",
                lambda g: _normalised(_weighted(g, lambda n, k, m: 1 - n / m))),
        Mistake("One weight for each *group*: each *picture* needs one.",
                lambda g: [1 / (len(set(g)) * g.count(name)) for name in dict.fromkeys(g)]),
    ),
    hints=(
        "Each of G groups gets 1/G in all. Its n pictures share that.",
        "collections.Counter(groups) counts the pictures of each group.",
        "[1 / (len(counts) * counts[group]) for group in groups].",
    ),
)  # fmt: skip


# --- exposure -------------------------------------------------------------------------------------


def exposure(nats: Tensor, secret: int) -> float:
    return audit.exposure(nats, secret)


def _bits(n: int, rank: float) -> float:
    return math.log2(n) - math.log2(rank)


EXPOSURE = Task(
    name="exposure", chapter=20, difficulty=2, minutes=10, answer=exposure,
    cases=lambda: [
        (torch.tensor([1.0]), 0), (torch.tensor([1.0, 2.0]), 0), (torch.tensor([1.0, 2.0]), 1),
        (torch.tensor([3.0, 1.0, 2.0, 9.0]), 2), (torch.tensor([3.0, 1.0, 2.0, 9.0]), 3),
        (torch.tensor([3.0, 1.0, 2.0, 9.0]), 1), (torch.tensor([2.0, 2.0, 1.0, 2.0]), 3),
        (5 * torch.rand(10), 7), (20 + 5 * torch.randn(64), 5), (9 * torch.rand(100), 42),
    ],
    properties=(
        Property("it lies between 0 and log₂ n bits",
                 lambda out, nats, secret: -1e-6 <= out <= math.log2(len(nats)) + 1e-6),
    ),
    mistakes=(
        Mistake("Ranks begin at 1: log₂ of a rank of 0 is −∞.",
                lambda s, i: math.log2(len(s)) - math.log2(int((s < s[i]).sum()))),
        Mistake("A high −ln p is *un*likely: the rank counts those with a lower one.",
                lambda s, i: _bits(len(s), 1 + int((s > s[i]).sum()))),
        Mistake("That is the rank. Exposure is log₂ n − log₂ rank.",
                lambda s, i: float(1 + int((s < s[i]).sum()))),
        Mistake("In bits: the logarithm to the base 2.",
                lambda s, i: math.log(len(s) / (1 + int((s < s[i]).sum())))),
        Mistake("Only −log₂ rank: it has to be compared with log₂ n, a guess without a model.",
                lambda s, i: -math.log2(1 + int((s < s[i]).sum()))),
        Mistake("Of texts that are equally likely, none comes before the other: < and not ≤.",
                lambda s, i: _bits(len(s), max(1, int((s <= s[i]).sum())))),
        Mistake("argsort gives the text at each rank; wanted is the rank of a text.",
                lambda s, i: _bits(len(s), 1 + int(s.argsort()[i]))),
        Mistake("−ln p itself says little, since it grows with the length. The *rank* counts.",
                lambda s, i: float(s.mean() - s[i]) / math.log(2)),
    ),
    hints=(
        "How many of the texts does the model find more likely than the secret?",
        "rank = 1 + (number of texts with fewer nats). Exposure is log₂ n − log₂ rank.",
        "rank = 1 + int((nats < nats[secret]).sum()); math.log2(len(nats) / rank).",
    ),
)  # fmt: skip


# --- copies ---------------------------------------------------------------------------------------


def copies(drawn: Tensor, training: Tensor, fresh: Tensor, share: float) -> Tensor:
    near = [min((row - other).norm().item() for other in training) for row in drawn]
    usual = torch.tensor([min((row - other).norm().item() for other in training) for row in fresh])
    limit = usual.double().quantile(share).item()
    return torch.tensor([distance < limit for distance in near])


def _nearest(rows: Tensor, training: Tensor) -> Tensor:
    return (rows[:, None] - training[None]).norm(dim=-1).double().amin(1)


def _vectors(drawn: int, training: int, fresh: int, width: int, share: float) -> tuple:
    known = torch.randn(training, width)
    near = known[torch.randint(training, (drawn,))] + torch.rand(drawn, 1) * torch.randn(
        drawn, width)  # fmt: skip
    return near, known, 1.5 * torch.randn(fresh, width), share


COPIES = Task(
    name="copies", chapter=20, difficulty=3, minutes=15, answer=copies,
    cases=lambda: [
        (torch.tensor([[0.1], [0.9]]), torch.tensor([[0.0], [3.0]]),
         torch.tensor([[0.5], [0.5]]), 0.5),
        (torch.tensor([[0.1], [0.9]]), torch.tensor([[0.0], [1.0]]),
         torch.tensor([[0.2], [0.7]]), 0.5),
        (torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0]]),
         torch.tensor([[6.0, 0.0], [4.0, 0.0]]), 0.25),
        (torch.tensor([[2.0, 2.0]]), torch.tensor([[0.0, 0.0]]),
         torch.tensor([[3.0, 0.0]]), 0.5),
        (torch.tensor([[0.0], [5.0]]), torch.tensor([[0.0], [9.0]]),
         torch.tensor([[1.0], [2.0], [7.0]]), 0.0),
        _vectors(6, 5, 8, 3, 0.1), _vectors(9, 12, 20, 4, 0.3), _vectors(8, 4, 15, 6, 0.9),
        _vectors(12, 7, 9, 2, 0.5),
    ],
    mistakes=(
        Mistake("The threshold comes from *fresh* pictures: what is nearer than they are usually is"
                " a copy. Drawings must not set their own.",
                lambda d, t, f, s: (n := _nearest(d, t)) < n.quantile(s)),
        Mistake("The wrong way round: a copy is *nearer* than fresh pictures are.",
                lambda d, t, f, s: _nearest(d, t) > _nearest(f, t).quantile(s)),
        Mistake("The mean distance to all training pictures: a copy is near to *one* of them.",
                lambda d, t, f, s: (d[:, None] - t[None]).norm(dim=-1).double().mean(1)
                < _nearest(f, t).quantile(s)),
        Mistake("The nearest *fresh* picture: memory is of training pictures.",
                lambda d, t, f, s: _nearest(d, f) < _nearest(f, t).quantile(s)),
        Mistake("The other end of the distribution: `share` of the fresh pictures are below the"
                " limit, not above.",
                lambda d, t, f, s: _nearest(d, t) < _nearest(f, t).quantile(1 - s)),
        Mistake("The mean of the fresh distances calls half of all honest pictures copies.",
                lambda d, t, f, s: _nearest(d, t) < _nearest(f, t).mean()),
        Mistake("Euclidean distance: differences squared, summed, and the root of that.",
                lambda d, t, f, s: (d[:, None] - t[None]).abs().sum(-1).double().amin(1)
                < _nearest(f, t).quantile(s)),
    ),
    hints=(
        "Two lists of distances to the nearest training picture: of drawings, of fresh pictures.",
        "The limit is the `share` quantile of the fresh ones. torch.cdist gives all distances.",
        "limit = torch.cdist(fresh, training).amin(1).quantile(share);"
        " torch.cdist(drawn, training).amin(1) < limit.",
    ),
)  # fmt: skip


# --- wilson ---------------------------------------------------------------------------------------


def wilson(count: int, n: int, z: float) -> tuple:
    return audit.wilson(count, n, z)


def _wilson(p: float, n: int, z: float) -> tuple:
    middle, scale = (p + z * z / (2 * n)) / (1 + z * z / n), 1 / (1 + z * z / n)
    half = z * scale * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return middle - half, middle + half


WILSON = Task(
    name="wilson", chapter=20, difficulty=2, minutes=10, answer=wilson,
    cases=lambda: [
        (0, 20, 1.96), (1, 20, 1.96), (20, 20, 1.96), (5, 10, 1.0), (3, 64, 1.96), (3, 64, 1.0),
        (30, 200, 2.58), (999, 1000, 1.96), (1, 3, 0.5),
    ],
    properties=(
        Property("it lies between 0 and 1",
                 lambda out, count, n, z: -1e-9 <= out[0] <= out[1] <= 1 + 1e-9),
        Property("it holds the share that was counted",
                 lambda out, count, n, z: out[0] - 1e-9 <= count / n <= out[1] + 1e-9),
    ),
    mistakes=(
        Mistake("That is p ± z√(p(1 − p)/n): at 0 of 20 it has no width, as if it were certain.",
                lambda k, n, z: (k / n - z * math.sqrt(k / n * (1 - k / n) / n),
                                 k / n + z * math.sqrt(k / n * (1 - k / n) / n))),
        Mistake("The same, cut off at 0 and 1: it still has no width at 0 of 20.",
                lambda k, n, z: (max(0.0, k / n - z * math.sqrt(k / n * (1 - k / n) / n)),
                                 min(1.0, k / n + z * math.sqrt(k / n * (1 - k / n) / n)))),
        Mistake("The middle moves towards one half: (p + z²/2n) / (1 + z²/n), and not p.",
                lambda k, n, z: (k / n - (h := (_wilson(k / n, n, z)[1] - _wilson(
                    k / n, n, z)[0]) / 2), k / n + h)),
        Mistake("z²/(4n²) is missing under the root.", lambda k, n, z: (
            lambda m, h: (m - h, m + h))(
                (k / n + z * z / (2 * n)) / (1 + z * z / n),
                z * math.sqrt(k / n * (1 - k / n) / n) / (1 + z * z / n))),
        Mistake("Both parts are divided by 1 + z²/n.", lambda k, n, z: (
            lambda m, h: (m - h, m + h))(k / n + z * z / (2 * n), z * math.sqrt(
                k / n * (1 - k / n) / n + z * z / (4 * n * n)))),
        Mistake("`z` is given: 1.96 is for 95 %.", lambda k, n, z: _wilson(k / n, n, 1.96)),
        Mistake("High and low are exchanged.", lambda k, n, z: _wilson(k / n, n, z)[::-1]),
    ),
    hints=(
        "The formula is in section 2: a middle that moves towards one half, and a half width.",
        "p = count / n. Middle (p + z²/2n) / (1 + z²/n); half z√(p(1 − p)/n + z²/4n²) divided by"
        " the same.",
        "Write middle and half on two lines, and return (middle - half, middle + half).",
    ),
)  # fmt: skip

TASKS = (SHARPEN, TOTAL_VARIATION, BALANCED_WEIGHTS, EXPOSURE, COPIES, WILSON)
