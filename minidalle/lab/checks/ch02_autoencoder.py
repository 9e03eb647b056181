"""Chapter 02, autoencoders: the checks of its exercises."""

import math

import torch
from torch import Tensor

from minidalle.baselines import vae
from minidalle.lab.checks.engine import Mistake, Property, Task

LN_2PI = math.log(2 * math.pi)


def _pair(n: int, d: int) -> tuple[Tensor, Tensor]:
    return torch.randn(n, d), torch.randn(n, d)


# --- log_normal -----------------------------------------------------------------------------------


def log_normal(x: Tensor, mean: Tensor, scale: float) -> Tensor:
    return -vae.gaussian_nll(x, mean, scale)


LOG_NORMAL = Task(
    name="log_normal", chapter=2, difficulty=1, minutes=10, answer=log_normal,
    cases=lambda: [(torch.zeros(1), torch.zeros(1), 1.0), (torch.ones(1), torch.zeros(1), 2.0),
                   (torch.randn(5), torch.randn(5), 0.3),
                   (torch.tensor([40.0]), torch.zeros(1), 1.0),  # its density underflows
                   (torch.randn(2, 3, 4), torch.randn(2, 3, 4), 1.5)],
    trained=("mean",),
    mistakes=(
        Mistake("ln scale is missing: a wide Gaussian is lower everywhere.",
                lambda x, m, s: -0.5 * ((x - m) / s) ** 2 - 0.5 * LN_2PI),
        Mistake("The constant ½ ln 2π is missing: harmless for a gradient, wrong for a bound.",
                lambda x, m, s: -0.5 * ((x - m) / s) ** 2 - math.log(s)),
        Mistake("`scale` is the standard deviation, and you use it as the variance.",
                lambda x, m, s: -0.5 * (x - m) ** 2 / s - 0.5 * math.log(s) - 0.5 * LN_2PI),
        Mistake("That is the negative logarithm: the density is largest at its mean.",
                lambda x, m, s: 0.5 * ((x - m) / s) ** 2 + math.log(s) + 0.5 * LN_2PI),
        Mistake("The logarithm of the density underflows: far from the mean the density is 0, and"
                " its logarithm −∞. Take the logarithm factor by factor.",
                lambda x, m, s: torch.log(torch.exp(-0.5 * ((x - m) / s) ** 2) / (s * math.sqrt(
                    2 * math.pi)))),
        Mistake("The density itself, not its logarithm: for a picture it would underflow.",
                lambda x, m, s: torch.exp(-0.5 * ((x - m) / s) ** 2) / (s * math.sqrt(
                    2 * math.pi))),
    ),
    hints=(
        "Write down the Gaussian density and take its logarithm, factor by factor.",
        "Three terms: a square, ln scale, and a constant.",
        "−½ ((x − mean)/scale)² − ln scale − ½ ln 2π.",
    ),
)  # fmt: skip


# --- reparameterise -------------------------------------------------------------------------------

REPARAMETERISE = Task(
    name="reparameterise", chapter=2, difficulty=2, minutes=10, answer=vae.reparameterise,
    cases=lambda: [(torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([0.5])),
                   (torch.tensor([1.0]), torch.tensor([9.0]), torch.tensor([-0.5])),
                   *[(*_pair(n, 3), torch.randn(n, 3)) for n in (1, 4)],
                   (torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.randn(2, 3, 4))],
    trained=("mu", "ln_var"),
    properties=(Property("the noise is given to you, and a sample lies where it points",
                         lambda z, mu, _, noise: bool(((z - mu) * noise >= 0).all())),),
    mistakes=(
        Mistake("exp(ln σ²) is the variance; the noise is multiplied by σ, its square root.",
                lambda m, v, e: m + v.exp() * e),
        Mistake("The logarithm is used as if it were σ itself.", lambda m, v, e: m + v * e),
        Mistake("The root of ln σ² is not σ, and is nan where σ < 1: σ = exp(½ ln σ²).",
                lambda m, v, e: m + v.sqrt() * e),
        Mistake("The mean is scaled as well: σ stretches the noise alone.",
                lambda m, v, e: (m + e) * (0.5 * v).exp()),
        Mistake("There is no noise: that is the mean, and no sample.", lambda m, v, e: m + 0 * e),
        Mistake("σ divides: a large variance must spread the samples.",
                lambda m, v, e: m + e / (0.5 * v).exp()),
    ),
    hints=(
        "A sample of N(μ, σ²) is a sample of N(0, 1), stretched and moved.",
        "You are given ln σ². What is σ?",
        "μ + exp(½ ln σ²) · noise.",
    ),
)  # fmt: skip


# --- gaussian_kl ----------------------------------------------------------------------------------


def gaussian_kl(mu: Tensor, ln_var: Tensor) -> Tensor:
    return vae.gaussian_kl(mu, ln_var).sum(1).mean()


GAUSSIAN_KL = Task(
    name="gaussian_kl", chapter=2, difficulty=2, minutes=15, answer=gaussian_kl,
    cases=lambda: [(torch.zeros(1, 1), torch.zeros(1, 1)), (torch.ones(1, 1), torch.zeros(1, 1)),
                   (torch.zeros(1, 1), torch.full((1, 1), -20.0)),
                   *[_pair(n, d) for n, d in ((2, 2), (3, 5), (7, 2))]],
    properties=(Property("a KL is never negative", lambda v, *_: float(v) >= -1e-5),),
    trained=("mu", "ln_var"),
    mistakes=(
        Mistake("Its sign is turned: a KL is never negative. Public VAEs have minimised this.",
                lambda m, v: -0.5 * (m**2 + v.exp() - 1 - v).sum(1).mean()),
        Mistake("The mean over the L numbers in place of their sum: a picture pays for all of its"
                " z, and only the batch is averaged.",
                lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v).mean()),
        Mistake("Summed over the batch too: the weight of the KL then grows with the batch size.",
                lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v).sum()),
        Mistake("The sum runs over the batch, and the mean over the numbers of z: the other way"
                " round.", lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v).sum(0).mean()),
        Mistake("The square on μ is missing.",
                lambda m, v: 0.5 * (m + v.exp() - 1 - v).sum(1).mean()),
        Mistake("The ½ is missing.", lambda m, v: (m**2 + v.exp() - 1 - v).sum(1).mean()),
        Mistake("ln σ² is used where σ² belongs: take its exponential.",
                lambda m, v: 0.5 * (m**2 + v - 1 - v).sum(1).mean()),
    ),
    hints=(
        "The chapter gives it in closed form, for one number of z.",
        "½ (μ² + σ² − 1 − ln σ²), added up over a picture's numbers, averaged over pictures.",
        "ln_var.exp() is σ²; .sum(1) is a picture; .mean() is the batch.",
    ),
)  # fmt: skip


# --- elbo -----------------------------------------------------------------------------------------


def elbo(log_likelihood: Tensor, kl: Tensor, beta: float) -> Tensor:
    return (log_likelihood - beta * kl).mean()


ELBO = Task(
    name="elbo", chapter=2, difficulty=1, minutes=5, answer=elbo,
    cases=lambda: [(torch.tensor([-3.0]), torch.tensor([1.0]), 1.0),
                   (-5 * torch.rand(4), torch.rand(4), 1.0), (-5 * torch.rand(4), torch.rand(4),
                                                              4.0),
                   (-900 * torch.rand(7), 40 * torch.rand(7), 0.0),
                   (90 * torch.rand(3), torch.rand(3), 2.0)],  # a density may be above 1
    trained=("log_likelihood", "kl"),
    mistakes=(
        Mistake("The KL is added: it is a price, and lowers the bound.",
                lambda ll, kl, b: (ll + b * kl).mean()),
        Mistake("That is the loss, the bound with its sign turned. The ELBO itself is asked for.",
                lambda ll, kl, b: (b * kl - ll).mean()),
        Mistake("β weighs the likelihood; it belongs to the KL.",
                lambda ll, kl, b: (b * ll - kl).mean()),
        Mistake("β is ignored.", lambda ll, kl, b: (ll - kl).mean()),
        Mistake("The sum over the batch: average it, so that the number means one picture.",
                lambda ll, kl, b: (ll - b * kl).sum()),
    ),
    hints=(
        "How well it paints, less what its code costs.",
        "ln p(x|z) − β KL, for each picture.",
        "Then the mean over the pictures.",
    ),
)  # fmt: skip

TASKS = (LOG_NORMAL, REPARAMETERISE, GAUSSIAN_KL, ELBO)
