"""Chapter 03, discrete codes: the checks of its exercises."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle import quantize
from minidalle.lab.checks.engine import Mistake, Property, Task


def _logits(shape) -> Tensor:
    return 2 * torch.randn(shape)


# --- gumbel: uniform samples to Gumbel noise ------------------------------------------------------


def gumbel(u: Tensor) -> Tensor:
    return -torch.log(-torch.log(u))


GUMBEL = Task(
    name="gumbel", chapter=3, difficulty=1, minutes=5, answer=gumbel,
    cases=lambda: [(torch.tensor([0.5]),), (torch.tensor([0.1, 0.9]),),
                   (torch.tensor([1e-3, 0.999]),), (0.001 + 0.998 * torch.rand(2, 3, 4),)],
    mistakes=(
        Mistake("The inner minus is missing: ln u is negative, and has no logarithm.",
                lambda u: -torch.log(torch.log(u))),
        Mistake("The outer minus is missing: your noise is the negative of Gumbel's, so that the"
                " least probable code is favoured.", lambda u: torch.log(-torch.log(u))),
        Mistake("One logarithm gives exponential noise; Gumbel's has two, one inside the other.",
                lambda u: -torch.log(u)),
        Mistake("That is logistic noise, the difference of two Gumbels: right for a coin, not for K"
                " codes.", lambda u: torch.log(u) - torch.log(1 - u)),
        Mistake("The logarithm is the natural one, torch.log, and not log₂.",
                lambda u: -torch.log2(-torch.log2(u))),
    ),
    hints=(
        "It is written at the top of minidalle/quantize.py and in section 2 of the chapter.",
        "ln u is below zero for u in (0, 1). What must you do before you take its logarithm?",
        "Two logarithms, one inside the other, and a minus before each of them.",
    ),
)  # fmt: skip


# --- gumbel_softmax -------------------------------------------------------------------------------


def gumbel_softmax(logits: Tensor, noise: Tensor, tau: float) -> Tensor:
    return torch.softmax((logits + noise) / tau, -1)


def _relaxed_cases() -> list[tuple]:
    return [
        (torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.5]), 0.5),
        *[(_logits((n, k)), gumbel(torch.rand(n, k)), tau)
          for n, k, tau in ((1, 3, 1.0), (4, 5, 0.3), (3, 8, 2.0))],
        (_logits((2, 3, 4)), gumbel(torch.rand(2, 3, 4)), 0.7),
        (torch.tensor([[90.0, 0.0, 89.0], [-99.0, 9.0, -98.0]]), torch.zeros(2, 3), 0.5),
    ]  # fmt: skip


GUMBEL_SOFTMAX = Task(
    name="gumbel_softmax", chapter=3, difficulty=2, minutes=10, answer=gumbel_softmax,
    cases=_relaxed_cases,
    properties=(
        Property("every row sums to 1",
                 lambda y, *_: torch.allclose(y.sum(-1), torch.ones(()), atol=1e-4)),
    ),
    trained=("logits",),
    mistakes=(
        Mistake("Only the logits are divided by τ. The noise belongs to the choice, so it is"
                " divided as well; else τ changes which code is likely.",
                lambda a, g, tau: torch.softmax(a / tau + g, -1)),
        Mistake("You multiply by τ. A small τ must make the choice harder.",
                lambda a, g, tau: torch.softmax((a + g) * tau, -1)),
        Mistake("There is no noise in it: a softmax with a temperature always prefers the same"
                " code, and is no sample.", lambda a, g, tau: torch.softmax(a / tau, -1)),
        Mistake("The softmax runs over the rows. Each row is one cell's choice among K codes, and"
                " K is last.", lambda a, g, tau: torch.softmax((a + g) / tau, 0)),
        Mistake("The noise is subtracted: that samples from another distribution.",
                lambda a, g, tau: torch.softmax((a - g) / tau, -1)),
        Mistake("exp(180) is inf in single precision, and inf / inf is nan: torch.softmax subtracts"
                " the largest of a row first.",
                lambda a, g, tau: ((a + g) / tau).exp() / ((a + g) / tau).exp().sum(
                    -1, keepdim=True)),
    ),
    hints=(
        "Section 3: the argmax of the Gumbel-max trick becomes a softmax.",
        "Add the noise to the logits first; the temperature comes after.",
        "A softmax over the last dimension, of a sum that is divided by τ as a whole.",
    ),
)  # fmt: skip


# --- straight_through -----------------------------------------------------------------------------


def _one_hot(soft: Tensor) -> Tensor:
    return F.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft.dtype)


STRAIGHT_THROUGH = Task(
    name="straight_through", chapter=3, difficulty=3, minutes=15,
    answer=lambda soft: quantize.straight_through(soft, dim=-1),
    trained=("soft",),
    cases=lambda: [
        (torch.tensor([0.7, 0.3]),), (torch.tensor([0.5, 0.5]),), (torch.tensor([0.0, 1.0]),),
        (torch.tensor([[0.4, 0.2, 0.4], [0.2, 0.4, 0.4]]),),
        *[(_logits(shape).softmax(-1),) for shape in ((2, 3), (4, 6), (2, 3, 5))],
    ],
    properties=(
        Property("exactly one entry of a row is 1 in value, and the others 0",
                 lambda hard, soft: bool((((hard - 1).abs() < 1e-4).sum(-1) == 1).all())
                 and torch.allclose(hard.sum(-1), torch.ones(()), atol=1e-4)),
    ),
    compared=lambda hard, soft: (hard * soft).sum(-1),  # of two that are largest, either is right
    mistakes=(
        Mistake("Forwards it is right, but no gradient comes back: a one-hot alone knows nothing"
                " of `soft`.", _one_hot),
        Mistake("Forwards it is still soft: the decoder must see exactly one code.",
                lambda soft: soft),
        Mistake("Without a detach the two soft terms are added, and the value is no one-hot.",
                lambda soft: _one_hot(soft) + soft),
        Mistake("The sign of the gradient is turned: soft − soft.detach() is wanted, not the other"
                " way round.", lambda soft: _one_hot(soft) + (soft.detach() - soft)),
        Mistake("Where two are the largest, both become 1: take the argmax, not all that equal the"
                " maximum.", lambda soft: (soft == soft.amax(-1, keepdim=True)).float() + (
                    soft - soft.detach())),
    ),
    hints=(
        "You want the value of one thing and the gradient of another.",
        "x.detach() has the value of x and no gradient. What is x − x.detach(), in both respects?",
        "The one-hot, plus something that is zero in value and has the gradient of `soft`.",
    ),
)  # fmt: skip


# --- kl_to_uniform --------------------------------------------------------------------------------


def kl_to_uniform(logits: Tensor) -> Tensor:
    log_q = F.log_softmax(logits, -1)
    return (log_q.exp() * log_q).sum(-1).mean() + math.log(logits.shape[-1])


KL_TO_UNIFORM = Task(
    name="kl_to_uniform", chapter=3, difficulty=2, minutes=10, answer=kl_to_uniform,
    cases=lambda: [
        (torch.zeros(1, 2),), (torch.tensor([[2.0, 0.0]]),),
        *[(_logits((n, k)),) for n, k in ((3, 4), (5, 3), (2, 9))],
        (torch.tensor([[300.0, 0.0], [0.0, 0.0]]),),  # a code that is certain
    ],
    trained=("logits",),
    properties=(
        Property("a KL is never negative", lambda kl, logits: float(kl) >= -1e-5),
        Property("it is at most ln K",
                 lambda kl, logits: float(kl) <= math.log(logits.shape[-1]) + 1e-4),
    ),
    mistakes=(
        Mistake("That is the KL the other way round, from uniform to q; F.kl_div's arguments are"
                " easily swapped.",
                lambda a: -F.log_softmax(a, -1).mean() - math.log(a.shape[-1])),
        Mistake("ln 0 is −∞ where a code is certain, and 0 · −∞ is nan: take log_softmax, not the"
                " logarithm of a softmax.",
                lambda a: (a.softmax(-1) * a.softmax(-1).log()).sum(-1).mean() + math.log(
                    a.shape[-1])),
        Mistake("log₂ counts bits; a KL is in nats here, by the natural logarithm.",
                lambda a: ((a.softmax(-1) * F.log_softmax(a, -1)).sum(-1).mean() + math.log(
                    a.shape[-1])) / math.log(2)),
        Mistake("ln K is missing: what you have is the negative entropy, which is below zero.",
                lambda a: (a.softmax(-1) * F.log_softmax(a, -1)).sum(-1).mean()),
        Mistake("Summed over the rows, not averaged: the value grows with the batch.",
                lambda a: (a.softmax(-1) * F.log_softmax(a, -1)).sum() + len(a) * math.log(
                    a.shape[-1])),
        Mistake("The mean over all entries divides by K as well; sum over the codes, then take the"
                " mean over the rows.",
                lambda a: (a.softmax(-1) * F.log_softmax(a, -1)).mean() + math.log(a.shape[-1])),
        Mistake("ln K has the wrong sign: the logarithm of the uniform 1/K is −ln K, and it is"
                " subtracted.",
                lambda a: (a.softmax(-1) * F.log_softmax(a, -1)).sum(-1).mean() - math.log(
                    a.shape[-1])),
    ),
    hints=(
        "KL(q ‖ uniform) = Σ q ln( q / (1/K) ). Take the logarithm of the quotient apart.",
        "Σ q ln q + ln K, for each row; then one number for all rows.",
        "log_softmax over the last dimension gives ln q; its exp gives q; sum over codes, mean over"
        " rows, and ln K once.",
    ),
)  # fmt: skip


# --- nearest_code ---------------------------------------------------------------------------------


def nearest_code(features: Tensor, codebook: Tensor) -> Tensor:
    return torch.cdist(features, codebook).argmin(-1)


NEAREST_CODE = Task(
    name="nearest_code", chapter=3, difficulty=2, minutes=10, answer=nearest_code,
    cases=lambda: [
        (torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0], [9.0, 0.0]])),
        *[(3 * torch.randn(n, d), torch.randn(k, d) * torch.rand(k, 1) * 4)
          for n, k, d in ((3, 4, 2), (6, 5, 3), (8, 16, 4), (2, 3, 7))],
        (torch.tensor([[0.0, 0.0], [3.0, 0.0]]), torch.tensor([[2.0, 0.0], [-2.0, 0.0]])),
        (torch.zeros(1, 2), torch.tensor([[3.0, 0.0], [2.3, 2.3]])),  # the largest difference
        (torch.zeros(1, 2), torch.tensor([[3.0, 0.0], [2.0, 2.0]])),  # the sum of differences
        (1e3 + torch.tensor([[0.0, 0.0]]), 1e3 + torch.tensor([[3.0, 0.0], [0.0, 2.0]])),
    ],
    properties=(Property("a code is an index, from 0 to K − 1",
                         lambda i, f, codes: bool(((i >= 0) & (i < len(codes))).all())),),
    compared=lambda i, f, codes: (f - codes[i]).norm(dim=-1),  # of two that are nearest, either
    mistakes=(
        Mistake("You take the farthest: argmin, not argmax, of a distance.",
                lambda f, c: torch.cdist(f, c).argmax(-1)),
        Mistake("The largest dot product is not the nearest vector: a long code wins from afar."
                " |f − c|² = |f|² − 2 f·c + |c|², and the last term differs from code to code.",
                lambda f, c: (f @ c.T).argmax(-1)),
        Mistake("The smallest distance itself is returned; its index is the code.",
                lambda f, c: torch.cdist(f, c).min(-1).values),
        Mistake("For each code the nearest feature; for each feature the nearest code is wanted.",
                lambda f, c: torch.cdist(f, c).argmin(0)),
        Mistake("The differences are added as they are; a distance adds their squares.",
                lambda f, c: (f[:, None] - c[None]).abs().sum(-1).argmin(-1)),
        Mistake("The cosine forgets how long a vector is; VQ compares distances.",
                lambda f, c: (F.normalize(f, dim=-1) @ F.normalize(c, dim=-1).T).argmax(-1)),
    ),
    hints=(
        "n features against K codes: first a table of n × K distances.",
        "Broadcast features[:, None] against codebook[None], or look at torch.cdist.",
        "The argmin over the codes, which are last in your table.",
    ),
)  # fmt: skip


# --- usage ----------------------------------------------------------------------------------------


def usage(counts: Tensor) -> tuple[float, float]:
    return tuple(quantize.usage(counts))


def _entropy(p: Tensor, log=torch.log) -> Tensor:
    return -(p[p > 0] * log(p[p > 0])).sum()


def _share(counts: Tensor) -> float:
    return (counts > 0).float().mean().item()


USAGE = Task(
    name="usage", chapter=3, difficulty=2, minutes=10, answer=usage,
    cases=lambda: [
        (torch.tensor([3, 0]),), (torch.tensor([5, 5, 0, 0]),), (torch.tensor([97, 1, 1, 1]),),
        (torch.tensor([7]),), (torch.tensor([1, 0, 2]),), (torch.tensor([0, 1000000, 1]),),
        (torch.randint(0, 9, (16,)) + torch.eye(16)[0].long(),),
    ],
    mistakes=(
        Mistake("The entropy is not the perplexity: take its exponential.",
                lambda n: (_share(n), _entropy(n / n.sum()).item())),
        Mistake("Base 2 in the logarithm and base e in the exponential do not undo each other.",
                lambda n: (_share(n), _entropy(n / n.sum(), torch.log2).exp().item())),
        Mistake("Base e in the logarithm and base 2 in the power do not undo each other.",
                lambda n: (_share(n), 2.0 ** _entropy(n / n.sum()).item())),
        Mistake("A number of codes in place of a share: divide by K.",
                lambda n: (float((n > 0).sum()), _entropy(n / n.sum()).exp().item())),
        Mistake("Counts are no probabilities: divide by their sum before the entropy.",
                lambda n: (_share(n), (-(n[n > 0] * n[n > 0].log()).sum()).exp().item())),
        Mistake("0 · ln 0 is nan in arithmetic and 0 in the definition: leave out the codes that"
                " never occur.",
                lambda n: (_share(n), (-(n / n.sum() * (n / n.sum()).log()).sum()).exp().item())),
    ),
    hints=(
        "Two numbers: which codes occur at all, and over how many they are in truth spread.",
        "p = counts / their sum; the entropy −Σ p ln p leaves out p = 0.",
        "The perplexity is exp(entropy): 1 when one code does all, K when all serve alike.",
    ),
)  # fmt: skip


# --- fsq ------------------------------------------------------------------------------------------


def fsq(features: Tensor, levels: Tensor) -> Tensor:
    quantizer = quantize.FiniteScalarQuantizer(levels.tolist())
    return quantizer(features.T[None, :, :, None]).vectors[0, :, :, 0].T


def _bounded(features: Tensor, steps: Tensor) -> Tensor:
    return steps * (torch.tanh(features) + 1) / 2


def _rounded(n: Tensor) -> Tensor:
    return n.round() + (n - n.detach())


def _spread(n: Tensor, steps: Tensor) -> Tensor:
    return 2 * n / steps - 1


FSQ = Task(
    name="fsq", chapter=3, difficulty=3, minutes=15, answer=fsq,
    cases=lambda: [
        (torch.tensor([[0.3]]), torch.tensor([3])),
        (torch.tensor([[2.0, -0.2]]), torch.tensor([2, 5])),
        (torch.tensor([[40.0, -40.0]]), torch.tensor([4, 8])),
        *[(1.5 * torch.randn(n, len(levels)), torch.tensor(levels))
          for n, levels in ((3, (8, 4)), (5, (8, 6, 5)), (4, (3, 2, 7, 5)))],
    ],
    trained=("features",),
    properties=(
        Property("every number lies between −1 and 1",
                 lambda y, h, levels: bool((y.abs() <= 1 + 1e-4).all())),
    ),
    mistakes=(
        Mistake("Forwards it is right, but no gradient comes back: round() has the slope 0"
                " everywhere. Copy the gradient past it, as in exercise 3.",
                lambda h, n: _spread(_bounded(h, n - 1).round(), n - 1)),
        Mistake("The gradient skips the tanh as well as the rounding. Only round() has no useful"
                " slope; the bound has one.",
                lambda h, n: _spread(_bounded(h, n - 1).round(), n - 1).detach() + (
                    h - h.detach())),
        Mistake("Nothing is rounded: the decoder must see one of L levels.",
                lambda h, n: torch.tanh(h)),
        Mistake("One level too many: L levels, from 0 to L − 1, lie L − 1 steps apart.",
                lambda h, n: _spread(_rounded(_bounded(h, n)), n)),
        Mistake("Floor takes the level below, and reaches the last one never; round takes the"
                " nearest.", lambda h, n: _spread(_bounded(h, n - 1).floor() + (
                    _bounded(h, n - 1) - _bounded(h, n - 1).detach()), n - 1)),
        Mistake("Nothing bounds the numbers: a large one gets a level that does not exist.",
                lambda h, n: _spread(_rounded((n - 1) * (h + 1) / 2), n - 1)),
        Mistake("clamp bounds the numbers, but beyond −1 and 1 it has no slope, and they never come"
                " back. Take tanh.",
                lambda h, n: _spread(_rounded((n - 1) * (h.clamp(-1, 1) + 1) / 2), n - 1)),
        Mistake("The levels are right, but still count 0 … L − 1: spread them from −1 to 1.",
                lambda h, n: _rounded(_bounded(h, n - 1))),
        Mistake("sigmoid(h) is (tanh(h / 2) + 1) / 2: a bound that is half as steep.",
                lambda h, n: _spread(_rounded((n - 1) * h.sigmoid()), n - 1)),
    ),
    hints=(
        "Section 10: bound, round, spread. One line for each.",
        "Bound each number between 0 and L − 1, round it, and copy the gradient past the rounding"
        " as in exercise 3.",
        "n = (L − 1)(tanh h + 1) / 2; then the value of round(n) with the gradient of n; then"
        " 2 n / (L − 1) − 1.",
    ),
)  # fmt: skip

TASKS = (GUMBEL, GUMBEL_SOFTMAX, STRAIGHT_THROUGH, KL_TO_UNIFORM, NEAREST_CODE, USAGE, FSQ)
