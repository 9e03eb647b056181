"""Chapter 18, is DALL·E a GAN: the checks of its exercises."""

from collections import Counter
from collections.abc import Callable
from itertools import combinations, pairwise
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal

from minidalle.baselines import adversarial
from minidalle.baselines.gan import Discriminator
from minidalle.lab.checks.engine import Mistake, Property, Task

# --- best_discriminator ---------------------------------------------------------------------------


def best_discriminator(x: Tensor, real: tuple, fake: tuple) -> Tensor:
    return _log_ratio(x, real, fake).sigmoid()


def _log_ratio(x: Tensor, real: tuple, fake: tuple) -> Tensor:
    return Normal(*real).log_prob(x) - Normal(*fake).log_prob(x)


def _densities(x: Tensor, real: tuple, fake: tuple) -> tuple[Tensor, Tensor]:
    return Normal(*real).log_prob(x).exp(), Normal(*fake).log_prob(x).exp()


def _unnormalised(x: Tensor, real: tuple, fake: tuple) -> Tensor:
    p, q = (-0.5 * ((x - mean) / sd) ** 2 for mean, sd in (real, fake))
    return (p - q).sigmoid()


def _by_variance(x: Tensor, real: tuple, fake: tuple) -> Tensor:
    return best_discriminator(x, *((mean, sd**0.5) for mean, sd in (real, fake)))


def _divided(x: Tensor, real: tuple, fake: tuple) -> Tensor:
    p, q = _densities(x, real, fake)
    return p / (p + q)


BEST_DISCRIMINATOR = Task(
    name="best_discriminator", chapter=18, difficulty=2, minutes=10, answer=best_discriminator,
    cases=lambda: [
        (torch.tensor([0.5]), (0.0, 1.0), (0.0, 1.0)),
        (torch.tensor([1.0]), (1.0, 1.0), (-1.0, 1.0)),
        (torch.tensor([0.0, 2.0]), (0.0, 0.5), (0.0, 2.0)),
        (torch.randn(5), (1.0, 2.0), (-1.0, 0.7)),
        (torch.randn(2, 3), (0.3, 0.4), (1.2, 1.5)),
        (torch.tensor([-40.0, 40.0]), (2.0, 1.0), (-2.0, 1.0)),
    ],
    properties=(
        Property("a probability lies between 0 and 1",
                 lambda out, *_: bool(((out >= 0) & (out <= 1)).all())),
        Property("where fakes are as real numbers are, it can only guess: 0.5",
                 lambda out, x, real, fake: real != fake or torch.allclose(
                     out, torch.full_like(out, 0.5))),
    ),
    mistakes=(
        Mistake("That is the probability of a *fake*: p belongs above the line.",
                lambda x, p, q: _log_ratio(x, q, p).sigmoid()),
        Mistake("Far from both, p and q are 0 in 32 bits, and 0/0 is nan: subtract the logarithms"
                " first, and the sigmoid does the rest.", _divided),
        Mistake("A wide Gaussian is lower everywhere: the 1/σ in front of each density is missing.",
                _unnormalised),
        Mistake("`Normal` and the formula take the standard deviation σ, and the pair holds σ: do"
                " not take it for the variance.", _by_variance),
        Mistake("p/q are the odds, from 0 to ∞. A probability is p/(p + q).",
                lambda x, p, q: _log_ratio(x, p, q).exp()),
        Mistake("That is the best *score*, ln(p/q). The probability is its sigmoid.", _log_ratio),
        Mistake("It decides for the likelier of the two. D must say *how much* likelier.",
                lambda x, p, q: (_log_ratio(x, p, q) > 0).float()),
        Mistake("The sigmoid of p − q, two densities: it wants the difference of their logarithms.",
                lambda x, p, q: torch.sub(*_densities(x, p, q)).sigmoid()),
    ),
    hints=(
        "Two log-densities, and what the sigmoid makes of their difference.",
        "p / (p + q) = 1 / (1 + q/p) = σ(ln p − ln q); a common factor such as 1/√2π cancels,"
        " 1/σ does not.",
        "torch.distributions.Normal(mean, sd).log_prob(x) for both, then (ln_p - ln_q).sigmoid().",
    ),
)  # fmt: skip


# --- generator_loss -------------------------------------------------------------------------------


def generator_loss(scores: Tensor) -> Tensor:
    return adversarial.non_saturating(torch.zeros(1), scores).generator


GENERATOR_LOSS = Task(
    name="generator_loss", chapter=18, difficulty=2, minutes=10, answer=generator_loss,
    trained=("scores",),
    cases=lambda: [
        (torch.tensor([0.0]),), (torch.tensor([2.0]),), (torch.tensor([-6.0, 1.0]),),
        (torch.randn(4),), (5 * torch.randn(7),), (torch.tensor([-200.0, 200.0]),),
        (torch.tensor([-150.0, -120.0, 3.0]),),
    ],
    properties=(
        Property("a loss of −ln of a probability is never below 0",
                 lambda out, scores: bool(out >= 0)),
    ),
    mistakes=(
        Mistake("That is the loss of the game as it is written, ln(1 − D): its gradient vanishes"
                " where D is sure.", lambda s: -F.softplus(s).mean()),
        Mistake("That is −ln(1 − D), as in the tutorials: it rewards fakes that are found out.",
                lambda s: F.softplus(s).mean()),
        Mistake("Where D is sure, σ(score) is 0 in 32 bits, and its logarithm −∞. logsigmoid, or"
                " softplus, never leaves the logarithm.", lambda s: -s.sigmoid().log().mean()),
        Mistake("A floor under the probability takes the gradient away, just where G needs it.",
                lambda s: -s.sigmoid().clamp(min=1e-7).log().mean()),
        Mistake("The mean over the batch, or the loss grows with its size.",
                lambda s: F.softplus(-s).sum()),
        Mistake("The sign: a loss is minimised, so it is *minus* the logarithm.",
                lambda s: F.logsigmoid(s).mean()),
        Mistake("The mean of the losses, not the loss of the mean score: one fake that passes must"
                " not hide one that does not.", lambda s: F.softplus(-s.mean())),
        Mistake("That is hinge's loss (and Wasserstein's), −score: no probability in it.",
                lambda s: -s.mean()),
        Mistake("1 − D is the probability itself. Its logarithm is wanted: −ln D.",
                lambda s: (1 - s.sigmoid()).mean()),
    ),
    hints=(
        "D's probability that a fake is real is σ(score). G raises its logarithm.",
        "−ln σ(s) = ln(1 + e⁻ˢ), which PyTorch computes safely as softplus(−s).",
        "F.softplus(-scores).mean(), or -F.logsigmoid(scores).mean().",
    ),
)  # fmt: skip


# --- hinge_loss -----------------------------------------------------------------------------------


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    return adversarial.hinge(real, fake).discriminator


HINGE_LOSS = Task(
    name="hinge_loss", chapter=18, difficulty=2, minutes=10, answer=hinge_loss,
    trained=("real", "fake"),
    cases=lambda: [
        (torch.tensor([0.0]), torch.tensor([0.0])), (torch.tensor([3.0]), torch.tensor([-3.0])),
        (torch.tensor([-2.0]), torch.tensor([0.5])), (torch.tensor([0.3, 4.0]), torch.randn(2)),
        (torch.randn(6), torch.randn(3)), (2 * torch.randn(5), 2 * torch.randn(9)),
        (100 * torch.randn(4), 100 * torch.randn(4)),
    ],
    properties=(
        Property("no penalty is below 0", lambda out, real, fake: bool(out >= 0)),
    ),
    mistakes=(
        Mistake("The margin is missing: a score beyond 0 is right, but only beyond ±1 is it right"
                " enough.", lambda r, f: F.relu(-r).mean() + F.relu(f).mean()),
        Mistake("First the hinge of each score, then the mean: the other way round, one picture"
                " that D is very sure of makes up for one that it gets wrong.",
                lambda r, f: F.relu(1 - r.mean()) + F.relu(1 + f.mean())),
        Mistake("Real and fake have changed places: D should score real pictures high.",
                lambda r, f: F.relu(1 + r).mean() + F.relu(1 - f).mean()),
        Mistake("The hinge is missing: scores beyond ±1 go on counting.",
                lambda r, f: (1 - r).mean() + (1 + f).mean()),
        Mistake("The sum of the two means, not their average.",
                lambda r, f: (F.relu(1 - r).mean() + F.relu(1 + f).mean()) / 2),
        Mistake("One mean over all of them: with more fakes than real pictures, fakes would count"
                " more. Take a mean of each.",
                lambda r, f: 2 * F.relu(torch.cat([1 - r, 1 + f])).mean()),
        Mistake("Means over the batch, or the loss grows with its size.",
                lambda r, f: F.relu(1 - r).sum() + F.relu(1 + f).sum()),
        Mistake("The fakes are missing.", lambda r, f: F.relu(1 - r).mean()),
        Mistake("That is the logistic loss, softplus: a hinge is 0 beyond the margin.",
                lambda r, f: F.softplus(-r).mean() + F.softplus(f).mean()),
    ),
    hints=(
        "Real scores should be above 1, fake ones below −1; what is beyond that costs nothing.",
        "max(0, 1 − real) and max(0, 1 + fake): relu is max(0, ·).",
        "F.relu(1 - real).mean() + F.relu(1 + fake).mean().",
    ),
)  # fmt: skip


# --- r1 -------------------------------------------------------------------------------------------


class _Score:
    """A discriminator as a function of its weights and of pictures; shows its formula."""

    def __init__(self, formula: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.formula, self.function = formula, function

    def __call__(self, weights: Tensor, x: Tensor) -> Tensor:
        return self.function(weights, x.flatten(1))

    def __repr__(self) -> str:
        return self.formula

    def __deepcopy__(self, memo: dict) -> "_Score":
        return self


_LINEAR = _Score("x · w", lambda w, x: x @ w)
_SQUARE = _Score("½ (x · w)²", lambda w, x: 0.5 * (x @ w) ** 2)
_TANH = _Score("tanh(x · w) + Σ x²", lambda w, x: (x @ w).tanh() + x.square().sum(1))


def r1(score: Callable, weights: Tensor, x: Tensor) -> Tensor:
    return adversarial.r1_penalty(lambda x: score(weights, x), x)


def _slopes(score: Callable, weights: Tensor, x: Tensor, keep: bool = True) -> Tensor:
    """The gradient of each score with respect to its picture, B n."""
    x = x.detach().requires_grad_()
    (found,) = torch.autograd.grad(score(weights, x).sum(), x, create_graph=keep)
    return found.flatten(1)


def _of_the_mean(score: Callable, weights: Tensor, x: Tensor) -> Tensor:
    return 0.5 * (_slopes(score, weights, x) / len(x)).square().sum(1).mean()


def _by_weights(score: Callable, weights: Tensor, x: Tensor) -> Tensor:
    weights = weights.clone().requires_grad_()
    (found,) = torch.autograd.grad(score(weights, x).sum(), weights, create_graph=True)
    return 0.5 * found.square().sum()


R1 = Task(
    name="r1", chapter=18, difficulty=4, minutes=15, answer=r1, trained=("weights",),
    cases=lambda: [
        (_LINEAR, torch.tensor([3.0]), torch.tensor([[2.0]])),
        (_LINEAR, torch.tensor([1.0, -2.0]), torch.randn(3, 2)),
        (_SQUARE, torch.tensor([1.0, 0.5]), torch.tensor([[1.0, 2.0], [0.0, -1.0]])),
        (_SQUARE, torch.randn(4), torch.randn(3, 1, 2, 2)),
        (_TANH, torch.randn(12), torch.randn(2, 3, 2, 2)),
        (_TANH, torch.randn(6), torch.randn(5, 6)),
    ],
    properties=(
        Property("a square is never below 0", lambda out, *_: bool(out >= 0)),
    ),
    mistakes=(
        Mistake("The penalty is measured and never felt: without create_graph=True no gradient"
                " reaches the weights.",
                lambda s, w, x: 0.5 * _slopes(s, w, x, False).detach().square().sum(1).mean()),
        Mistake("‖∇‖² is the *sum* over all numbers of a picture; you took the mean, which shrinks"
                " as pictures grow.", lambda s, w, x: 0.5 * _slopes(s, w, x).square().mean()),
        Mistake("The ½ in front is missing.",
                lambda s, w, x: _slopes(s, w, x).square().sum(1).mean()),
        Mistake("The norm is not squared.", lambda s, w, x: 0.5 * _slopes(s, w, x).norm(
            dim=1).mean()),
        Mistake("That is the penalty of WGAN-GP, which wants slopes of 1. R1 wants slopes of 0.",
                lambda s, w, x: (_slopes(s, w, x).norm(dim=1) - 1).square().mean()),
        Mistake("The slope by the *weights*; R1 takes it by the pictures.", _by_weights),
        Mistake("The gradient of the mean score: each picture's slope is divided by B. Take the"
                " gradient of the sum, in which every picture has its own slope.", _of_the_mean),
        Mistake("The mean over pictures, or the penalty grows with the batch.",
                lambda s, w, x: 0.5 * _slopes(s, w, x).square().sum()),
    ),
    hints=(
        "You need the gradient of each score by its own picture, and it must stay part of the"
        " graph.",
        "torch.autograd.grad(scores.sum(), x, create_graph=True) gives it for all pictures at once,"
        " if x requires a gradient.",
        "x = x.detach().requires_grad_(); (g,) = torch.autograd.grad(score(weights, x).sum(), x,"
        " create_graph=True); 0.5 * g.flatten(1).square().sum(1).mean().",
    ),
)  # fmt: skip


# --- projection_score -----------------------------------------------------------------------------


def projection_score(features: Tensor, captions: Tensor, w: Tensor, b: float) -> Tensor:
    judgement = SimpleNamespace(is_real=lambda x: (x @ w + b)[:, None])
    return Discriminator.score(judgement, features, captions)  # type: ignore[arg-type]


def _projected(features: Tensor, captions: Tensor) -> Tensor:
    return (features * captions).sum(1) / features.shape[1] ** 0.5


PROJECTION_SCORE = Task(
    name="projection_score", chapter=18, difficulty=3, minutes=10, answer=projection_score,
    trained=("features", "captions", "w"),
    cases=lambda: [
        (torch.tensor([[2.0]]), torch.tensor([[3.0]]), torch.tensor([1.0]), 0.5),
        (torch.ones(1, 4), torch.ones(1, 4), torch.zeros(4), 0.0),
        (torch.randn(2, 4), torch.randn(2, 4), torch.randn(4), 1.0),
        (torch.randn(3, 9), torch.randn(3, 9), torch.randn(9), -2.0),
        (torch.randn(5, 5), torch.randn(5, 5), torch.randn(5), 0.3),
        (torch.randn(4, 16), torch.zeros(4, 16), torch.randn(16), 0.1),
    ],
    mistakes=(
        Mistake("The caption's part is missing: D would not care what a picture shows.",
                lambda f, c, w, b: f @ w + b),
        Mistake("The judgement is missing: D would not care whether a picture is real.",
                lambda f, c, w, b: _projected(f, c)),
        Mistake("The projection is divided by √D, as in attention: a sum of D products grows with"
                " it.", lambda f, c, w, b: f @ w + b + (f * c).sum(1)),
        Mistake("Divided by D; by √D it keeps its size.",
                lambda f, c, w, b: f @ w + b + (f * c).mean(1)),
        Mistake("All of it is divided; only the projection is.",
                lambda f, c, w, b: (f @ w + b) / f.shape[1] ** 0.5 + _projected(f, c)),
        Mistake("`features @ captions.T` compares every picture with every caption; each has its"
                " own.", lambda f, c, w, b: f @ w + b + (f @ c.T).mean(1) / f.shape[1] ** 0.5),
        Mistake("w judges the features of the *picture*, not the caption's vector.",
                lambda f, c, w, b: c @ w + b + _projected(f, c)),
        Mistake("Added, features and caption cannot answer to each other: any picture would do for"
                " a caption that scores high. They must be multiplied.",
                lambda f, c, w, b: (f + c) @ w + b),
        Mistake("b is missing.", lambda f, c, w, b: f @ w + _projected(f, c)),
        Mistake("A cosine: lengths are part of how sure D is, and stay.",
                lambda f, c, w, b: f @ w + b + F.cosine_similarity(f, c, 1)),
    ),
    hints=(
        "Two numbers for each pair, added: one from the picture alone, one from both.",
        "features @ w + b gives B numbers; (features * captions).sum(1) gives B more.",
        "features @ w + b + (features * captions).sum(1) / features.shape[1] ** 0.5.",
    ),
)  # fmt: skip


# --- agreement ------------------------------------------------------------------------------------


def agreement(readings: list) -> float:
    """By definition: the share of pairs of two different drawings that show the same."""
    pairs = list(combinations(readings, 2))
    return sum(a == b is not None for a, b in pairs) / len(pairs)


def _counts(readings: list) -> list[int]:
    return [n for reading, n in Counter(readings).items() if reading is not None]


def _neighbours(readings: list) -> float:
    pairs = list(pairwise(readings))
    return sum(a == b is not None for a, b in pairs) / len(pairs)


def _readable_only(readings: list) -> float:
    n = sum(_counts(readings))
    return sum(k * (k - 1) for k in _counts(readings)) / max(1, n * (n - 1))


def _unreadable_alike(readings: list) -> float:
    n = len(readings)
    return sum(k * (k - 1) for k in Counter(readings).values()) / (n * (n - 1))


AGREEMENT = Task(
    name="agreement", chapter=18, difficulty=3, minutes=10, answer=agreement,
    cases=lambda: [
        (["left", "right"],), (["left", "left"],), ([None, None],), (["a", "b", "a"],),
        (["a", None, "a", None],), (["a", "a", "b", "c", "b"],), (["a"] * 6,),
        ([(0, 1), (2, 3), (0, 1), None, (4, 4), (2, 3), (0, 1)],), (list("abcdefgh"),),
        (list("aaaabbbbbcccdd"),),
    ],
    properties=(
        Property("drawings that are all different never agree", lambda out, readings: len(set(
            readings)) < len(readings) or out == 0),
        Property("a probability lies between 0 and 1", lambda out, readings: 0 <= out <= 1),
    ),
    mistakes=(
        Mistake("Σ (nₖ/n)² lets each drawing agree with itself: too large by about 1/n. Two"
                " *different* drawings are compared.",
                lambda rs: sum(k * k for k in _counts(rs)) / len(rs) ** 2),
        Mistake("What the judge cannot read agrees with nothing, another None included.",
                _unreadable_alike),
        Mistake("Unreadable drawings do not agree, but they were drawn: they count among the n.",
                _readable_only),
        Mistake("How many are different depends on how many you draw; the chance that two agree"
                " does not.", lambda rs: 1 - len({*rs} - {None}) / len(rs)),
        Mistake("Only neighbours are compared: right on average, from n − 1 of n(n − 1)/2 pairs.",
                _neighbours),
        Mistake("The share of the commonest reading: the chance to draw *that*, once.",
                lambda rs: max(_counts(rs), default=0) / len(rs)),
        Mistake("Half of it: n(n − 1)/2 pairs, and of each kind nₖ(nₖ − 1)/2.",
                lambda rs: agreement(rs) / 2),
        Mistake("That is the chance that two *differ*.", lambda rs: 1 - agreement(rs)),
    ),
    hints=(
        "Take every pair of two different drawings. In how many do both show the same?",
        "A reading that occurs nₖ times makes nₖ(nₖ − 1)/2 pairs that agree; there are n(n − 1)/2"
        " pairs in all.",
        "Count with collections.Counter, leave out None, and divide Σ nₖ(nₖ − 1) by n(n − 1).",
    ),
)  # fmt: skip

TASKS = (BEST_DISCRIMINATOR, GENERATOR_LOSS, HINGE_LOSS, R1, PROJECTION_SCORE, AGREEMENT)
