"""Chapter 04, train the dVAE: the checks of its exercises."""

import math

import torch
from torch import Tensor

from minidalle import dvae
from minidalle.lab.checks.engine import Mistake, Property, Task

# --- to_unit, from_unit ---------------------------------------------------------------------------


def _pixels() -> list[tuple]:
    return [
        (torch.tensor([0.0]),),
        (torch.tensor([1.0, 0.5]),),
        (torch.rand(2, 3),),
        (torch.rand(2, 3, 4, 5),),
    ]


TO_UNIT = Task(
    name="to_unit", chapter=4, difficulty=1, minutes=5, answer=dvae.to_unit, cases=_pixels,
    properties=(Property("every value lies in [0.1, 0.9]",
                         lambda y, x: bool((y >= 0.1 - 1e-6).all() and (y <= 0.9 + 1e-6).all())),),
    mistakes=(
        Mistake("Pixels are moved but not squeezed: 1 becomes 1.1.", lambda x: x + 0.1),
        Mistake("They are squeezed from above only: 0 stays 0, where the logit is −∞.",
                lambda x: 0.9 * x),
        Mistake("Clamping makes all of the darkest pixels alike; squeeze them, so that you can come"
                " back.", lambda x: x.clamp(0.1, 0.9)),
        Mistake("Both ends must come in by ε, so the whole shrinks by 2ε.",
                lambda x: 0.9 * x + 0.1),
    ),
    hints=(
        "0 must become ε = 0.1, and 1 must become 1 − ε; what is between goes along a line.",
        "The line has slope 1 − 2ε.",
        "(1 − 2ε) x + ε.",
    ),
)  # fmt: skip


def from_unit(y: Tensor) -> Tensor:
    return dvae.from_unit(y)


FROM_UNIT = Task(
    name="from_unit", chapter=4, difficulty=1, minutes=5, answer=from_unit,
    cases=lambda: [(torch.tensor([0.1]),), (torch.tensor([0.9, 0.5]),),
                   (torch.tensor([0.0, 1.0]),), (torch.tensor([-3.0, 5.0]),), (torch.rand(2, 6),),
                   (torch.rand(2, 3, 4, 5),)],
    properties=(Property("a picture lies in [0, 1]",
                         lambda y, x: bool((y >= 0).all() and (y <= 1).all())),),
    mistakes=(
        Mistake("The picture is never mapped back: it comes out grey.", lambda y: y.clamp(0, 1)),
        Mistake("A decoder may answer outside [ε, 1 − ε]; without a clamp, pixels leave [0, 1].",
                lambda y: (y - 0.1) / 0.8),
        Mistake("It is clamped at one end only.", lambda y: ((y - 0.1) / 0.8).clamp(min=0)),
        Mistake("It is clamped at the other end only.", lambda y: ((y - 0.1) / 0.8).clamp(max=1)),
        Mistake("You divide before you subtract: undo the steps in reverse order.",
                lambda y: (y / 0.8 - 0.1).clamp(0, 1)),
        Mistake("The slope is 1 − 2ε, not 1 − ε.", lambda y: ((y - 0.1) / 0.9).clamp(0, 1)),
    ),
    hints=(
        "The inverse of `to_unit`, and a safeguard.",
        "Subtract ε, divide by the slope.",
        "((y − ε) / (1 − 2ε)), clamped to [0, 1].",
    ),
)  # fmt: skip


# --- logit_laplace_nll ----------------------------------------------------------------------------


def _nll(x, mu, ln_b, sigmoid=True, sign=-1, two=True, distance=lambda d: d.abs()):
    jacobian = x.log() + (1 - x).log() if sigmoid else 0.0
    return (math.log(2) if two else 0.0) + ln_b + jacobian + distance(
        torch.logit(x) - mu) * (sign * ln_b).exp()  # fmt: skip


LOGIT_LAPLACE_NLL = Task(
    name="logit_laplace_nll", chapter=4, difficulty=3, minutes=20, answer=dvae.logit_laplace_nll,
    cases=lambda: [
        (torch.tensor([0.5]), torch.tensor([1.0]), torch.tensor([0.0])),
        (torch.tensor([0.2, 0.8]), torch.tensor([0.0, 2.0]), torch.tensor([0.3, -0.7])),
        (0.1 + 0.8 * torch.rand(3, 4), torch.randn(3, 4), torch.randn(3, 4)),
        (torch.tensor([0.1, 0.9, 0.5]), torch.tensor([30.0, -30.0, 3.0]),
         torch.tensor([-4.0, 4.0, 0.0])),  # far out the density itself underflows
        (0.1 + 0.8 * torch.rand(2, 3, 2, 2), torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)),
    ],
    trained=("mu", "ln_b"),
    mistakes=(
        Mistake("x (1 − x), the slope of the sigmoid, is left out: the density no longer has an"
                " area of 1.", lambda x, m, b: _nll(x, m, b, sigmoid=False)),
        Mistake("You multiply by b where you must divide: a wide Laplace forgives a large error.",
                lambda x, m, b: _nll(x, m, b, sign=1)),
        Mistake("The pixel is compared with μ as it is; μ lives on the far side of the logit.",
                lambda x, m, b: math.log(2) + b + x.log() + (1 - x).log() + (x - m).abs() * (
                    -b).exp()),
        Mistake("A square in place of the absolute value: that would be a Gaussian's.",
                lambda x, m, b: _nll(x, m, b, distance=torch.square)),
        Mistake("That is ln f; the loss is −ln f.", lambda x, m, b: -_nll(x, m, b)),
        Mistake("The logarithm is the natural one, torch.log, and not log₂.",
                lambda x, m, b: _nll(x, m, b) + (x.log2() - x.log()) + (
                    (1 - x).log2() - (1 - x).log())),
        Mistake("Far out the density is 0 in single precision, and its logarithm −∞: take it factor"
                " by factor.",
                lambda x, m, b: -torch.log(torch.exp(-(torch.logit(x) - m).abs() / b.exp()) / (
                    2 * b.exp() * x * (1 - x)))),
        Mistake("The 2 of 2b is missing.", lambda x, m, b: _nll(x, m, b, two=False)),
    ),
    hints=(
        "Take the logarithm of f(x | μ, b) in section 1, factor by factor, and turn its sign.",
        "Under the fraction stand 2, b, x and 1 − x: four logarithms. The exponential gives one"
        " term more.",
        "ln 2 + ln b + ln x + ln(1 − x) + |logit(x) − μ| · exp(−ln b).",
    ),
)  # fmt: skip


# --- cosine: the schedules ------------------------------------------------------------------------

_TIMES = (0.0, 1.0, 0.5, 0.25, 1.7, 0.8)

COSINE = Task(
    name="cosine", chapter=4, difficulty=2, minutes=10, answer=dvae.cosine,
    cases=lambda: [(1.0, 0.0625, t) for t in _TIMES] + [(0.0, 6.6, t) for t in _TIMES]
    + [(-1.0, 2.0, 0.3), (3.0, 3.0, 0.4), (2.0, -5.0, 1.2)],
    mistakes=(
        Mistake("A straight line: with one the paper's training diverged. Half a cosine is due.",
                lambda a, b, t: a + (b - a) * min(1.0, max(0.0, t))),
        Mistake("Past the end it swings back: hold the last value, by clamping the progress.",
                lambda a, b, t: b + (a - b) * 0.5 * (1 + math.cos(math.pi * t))),
        Mistake("It runs from `end` to `start`.",
                lambda a, b, t: a + (b - a) * 0.5 * (1 + math.cos(math.pi * min(1.0, t)))),
        Mistake("A quarter of a wave: it starts flat, and arrives at full speed.",
                lambda a, b, t: b + (a - b) * math.cos(math.pi / 2 * min(1.0, t))),
        Mistake("A whole cosine wave comes back to where it began; half of one is wanted.",
                lambda a, b, t: b + (a - b) * 0.5 * (1 + math.cos(2 * math.pi * min(1.0, t)))),
    ),
    hints=(
        "cos falls from 1 to −1 while its angle goes from 0 to π.",
        "½ (1 + cos(π t)) falls from 1 to 0: the share of `start` that is left.",
        "end + (start − end) · ½ (1 + cos(π t)), with t clamped to [0, 1].",
    ),
)  # fmt: skip


# --- kl_price -------------------------------------------------------------------------------------


def kl_price(beta: float, factor: int) -> float:
    return beta / (3 * factor**2)


KL_PRICE = Task(
    name="kl_price", chapter=4, difficulty=2, minutes=10, answer=kl_price,
    cases=lambda: [(1.0, 1), (6.6, 8), (6.6, 4), (2.0, 2), (0.0, 4), (5.0, 3), (6.6, 1)],
    mistakes=(
        Mistake("Not divided at all: β would be wrong by a factor of 3 f².", lambda b, f: b),
        Mistake("A code stands for a square, f × f pixels.", lambda b, f: b / (3 * f)),
        Mistake("Each pixel has three numbers, red, green and blue.", lambda b, f: b / f**2),
        Mistake("You multiply: the mean over subpixels has made the picture's term *smaller*, and"
                " the KL must follow.", lambda b, f: b * 3 * f**2),
    ),
    hints=(
        "The reconstruction is a mean over subpixels, the KL a mean over codes.",
        "How many subpixels share one code?",
        "β over three colours times the pixels of a square.",
    ),
)  # fmt: skip


# --- psnr -----------------------------------------------------------------------------------------


def psnr(x: Tensor, y: Tensor) -> Tensor:
    return -10 * (x - y).square().mean().log10()


PSNR = Task(
    name="psnr", chapter=4, difficulty=1, minutes=5, answer=psnr,
    cases=lambda: [(torch.tensor([0.0]), torch.tensor([0.1])),
                   (torch.tensor([0.5, 0.5]), torch.tensor([0.4, 0.2])),
                   *[(torch.rand(shape), torch.rand(shape)) for shape in ((3,), (3, 4),
                                                                          (2, 3, 4, 5))]],
    mistakes=(
        Mistake("The root of the mean square: with it, the factor would be 20.",
                lambda x, y: -10 * (x - y).square().mean().sqrt().log10()),
        Mistake("Natural logarithm; decibels are tenths of a power of ten.",
                lambda x, y: -10 * (x - y).square().mean().log()),
        Mistake("log₂ is no decibel: tenths of a power of ten.",
                lambda x, y: -10 * (x - y).square().mean().log2()),
        Mistake("The sum in place of the mean: a larger picture would have a smaller PSNR.",
                lambda x, y: -10 * (x - y).square().sum().log10()),
        Mistake("The sign: a smaller error is a larger PSNR.",
                lambda x, y: 10 * (x - y).square().mean().log10()),
        Mistake("The absolute error in place of the squared one.",
                lambda x, y: -10 * (x - y).abs().mean().log10()),
    ),
    hints=(
        "A mean squared error, on a scale of decibels, of pixels between 0 and 1.",
        "10 log₁₀(1 / error).",
        "−10 times log10 of the mean of the squared difference.",
    ),
)  # fmt: skip

TASKS = (TO_UNIT, FROM_UNIT, LOGIT_LAPLACE_NLL, COSINE, KL_PRICE, PSNR)
