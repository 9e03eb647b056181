"""Flow matching against distributions whose best prediction is known in closed form."""

import math

import pytest
import torch

from minidalle.baselines.flow import (
    MIN_REMAINING_TIME,
    TIME_SHIFT,
    euler,
    flow_loss,
    gaussian_noise,
    guided,
    path_point,
    sample_times,
    velocity,
)
from minidalle.errors import MinidalleError

CPU = torch.device("cpu")
MEAN, STD = 1.5, 0.4  # of a Gaussian target
POINTS, WEIGHTS = torch.tensor([-1.0, 2.0]), torch.tensor([0.3, 0.7])  # of a target of two points


def gaussian_denoiser(x_t, t):
    """E[x | x_t] where x ~ N(MEAN, STD²): x and x_t are jointly Gaussian."""
    t = t[:, None]
    variance = t**2 * STD**2 + (1 - t) ** 2
    return MEAN + t * STD**2 / variance * (x_t - t * MEAN)


def two_point_denoiser(x_t, t):
    """E[x | x_t] where x is one of two points, by Bayes' rule."""
    t = t[:, None]
    squares = (x_t - t * POINTS).square() / (1 - t) ** 2  # x_t ~ N(t · point, (1 − t)²)
    return ((WEIGHTS.log() - squares / 2).softmax(1) * POINTS).sum(1, keepdim=True)


# The path ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("t", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_the_path_has_the_marginals_of_noise_and_data_mixed(t):
    """Catches t that runs from data to noise, and weights whose squares add up to one."""
    torch.manual_seed(0)
    n = 200_000
    x = MEAN + STD * torch.randn(n)
    x_t = path_point(x, torch.randn(n), torch.full((n,), t))
    variance = (1 - t) ** 2 + t**2 * STD**2
    assert x_t.mean().item() == pytest.approx(t * MEAN, abs=5 * (variance / n) ** 0.5)
    assert x_t.var().item() == pytest.approx(variance, rel=5 * (2 / n) ** 0.5)


def test_the_velocity_is_the_derivative_of_the_path():
    """Catches a sign turned, and a division by t: finite differences along each path."""
    torch.manual_seed(0)
    x, noise = torch.randn(2, 50, 3, 2, 2, dtype=torch.float64)
    t, h = 0.01 + 0.98 * torch.rand(50, dtype=torch.float64), 1e-6
    slope = (path_point(x, noise, t + h) - path_point(x, noise, t - h)) / (2 * h)
    torch.testing.assert_close(velocity(x, path_point(x, noise, t), t), slope, rtol=0, atol=1e-7)
    torch.testing.assert_close(slope, x - noise, rtol=0, atol=1e-7)


def test_times_are_the_sigmoid_of_a_normal_and_stratified():
    """Catches another distribution, and a batch with all its times near noise."""
    torch.manual_seed(0)
    logits = torch.logit(sample_times(100_000, CPU).double())
    assert logits.mean().item() == pytest.approx(TIME_SHIFT, abs=0.01)
    assert logits.std().item() == pytest.approx(1.0, abs=0.01)
    for _ in range(20):
        shares = torch.special.ndtr(torch.logit(sample_times(8, CPU)) - TIME_SHIFT)
        assert (shares * 8).floor().sort().values.tolist() == list(range(8))
    firsts = torch.stack([sample_times(8, CPU)[0] for _ in range(200)])
    assert firsts.min() < 0.2 < 0.5 < firsts.max()  # row 0 is not always the one near noise


# The loss ----------------------------------------------------------------------------------------
def expected_loss(scale):
    """E |scale · x̂ − x|² / max(1 − t, floor)² of the Gaussian target, by a sum over times.

    x̂ = E[x | x_t] has the variance STD² − V, where V is the posterior variance of x.
    """
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    t = torch.sigmoid(TIME_SHIFT + torch.special.ndtri(u))
    posterior = STD**2 * (1 - t) ** 2 / (t**2 * STD**2 + (1 - t) ** 2)
    error = posterior + (scale - 1) ** 2 * (MEAN**2 + STD**2 - posterior)
    return (error / (1 - t).clamp(min=MIN_REMAINING_TIME) ** 2).mean().item()


@pytest.mark.parametrize("scale", [0.9, 1.0, 1.1])
def test_the_loss_is_that_of_the_velocity_and_least_at_the_posterior_mean(scale):
    """Catches a loss on x without its weight, a weight that is not squared, and t from 1 to 0."""
    torch.manual_seed(0)
    x = MEAN + STD * torch.randn(400_000, 1)
    loss = flow_loss(lambda x_t, t: scale * gaussian_denoiser(x_t, t), x).item()
    assert loss == pytest.approx(expected_loss(scale), rel=0.02)
    assert expected_loss(1.0) < min(expected_loss(0.9), expected_loss(1.1))


# The sampler -------------------------------------------------------------------------------------
def test_euler_turns_noise_into_a_gaussian():
    """Catches a step of the wrong length, and times that are one step late."""
    torch.manual_seed(0)
    x = euler(gaussian_denoiser, torch.randn(50_000, 1), steps=200)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert x.std().item() == pytest.approx(STD, rel=0.02)


def test_euler_converges_at_first_order():
    """Catches a sampler whose error does not fall with its steps. On a Gaussian the exact flow maps
    ε to MEAN + STD · ε."""
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    exact = MEAN + STD * noise
    errors = [(euler(gaussian_denoiser, noise, n) - exact).abs().max().item() for n in (50, 100)]
    assert 1.7 < errors[0] / errors[1] < 2.3


def test_euler_finds_two_points_with_their_weights():
    """Catches a sampler that ends between the modes, or that draws one of them too often."""
    torch.manual_seed(0)
    n = 40_000
    x = euler(two_point_denoiser, torch.randn(n, 1), steps=100)
    nearest = (x - POINTS).abs().min(1)
    assert (nearest.values < 1e-3).float().mean() > 0.999
    share = (nearest.indices == 0).float().mean().item()
    assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / n) + 0.004)  # and Euler's bias


def test_the_sampler_asks_at_equal_times_and_ends_at_the_last_prediction():
    """Catches a time of 1, where the velocity divides by zero, and noise left at the end."""
    times = []

    def denoiser(x_t, t):
        times.append(t.tolist())
        return torch.full_like(x_t, len(times))

    x = euler(denoiser, torch.randn(3, 2, 2), steps=4)
    assert times == [[i / 4] * 3 for i in range(4)]
    torch.testing.assert_close(x, torch.full_like(x, 4.0))
    with pytest.raises(MinidalleError, match="steps must be at least 1"):
        euler(denoiser, torch.randn(3, 2, 2), steps=0)


# Guidance and noise ------------------------------------------------------------------------------
def test_guidance_extrapolates_and_guidance_1_is_none_bit_for_bit():
    """Catches conditions swapped, and the rounding of uncond + (cond − uncond)."""
    torch.manual_seed(0)
    x_t, t, cond, uncond = torch.randn(5, 3), torch.rand(5), torch.randn(5, 3), torch.randn(5, 3)

    def network(x_t, t, context):
        return x_t * t[:, None] + context.sin()

    with_context, without = network(x_t, t, cond), network(x_t, t, uncond)
    assert torch.equal(guided(network, cond, uncond, 1.0)(x_t, t), with_context)
    torch.testing.assert_close(guided(network, cond, uncond, 0.0)(x_t, t), without)
    torch.testing.assert_close(
        guided(network, cond, uncond, 3.0)(x_t, t), 3 * with_context - 2 * without
    )


def test_the_noise_of_a_generator_does_not_depend_on_the_others():
    """Catches pictures that change with how many are drawn, and generators that share noise."""

    def generators(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    many = gaussian_noise(generators(4, 5, 6), (2, 3))
    assert many.shape == (3, 2, 3) and not torch.equal(many[0], many[1])
    assert torch.equal(gaussian_noise(generators(5), (2, 3))[0], many[1])
    noise = gaussian_noise(generators(0), (100_000,))
    assert noise.mean().abs() < 0.02 and noise.std().item() == pytest.approx(1, abs=0.02)
