"""The losses of a GAN against closed forms, and a game in one dimension that finds both modes."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from minidalle.baselines.adversarial import (
    cooperative,
    gradient_penalty,
    hinge,
    input_gradients,
    least_squares,
    minimax,
    non_saturating,
    r1_penalty,
    wasserstein,
)
from minidalle.lab.two_modes import MODE, play, real_numbers

# Two distributions on four points, as counts of ten: their means are then exact.
P, Q = torch.tensor([4, 3, 2, 1]), torch.tensor([1, 2, 2, 5])
p, q = P.double() / 10, Q.double() / 10


def discriminator_loss(losses, scores):
    """Of a score for each of the four points."""
    return losses(scores.repeat_interleave(P), scores.repeat_interleave(Q)).discriminator


def slope(losses, scores):
    scores = scores.clone().requires_grad_()
    return torch.autograd.grad(discriminator_loss(losses, scores), scores)[0]


@pytest.mark.parametrize("losses", [minimax, non_saturating])
def test_the_best_discriminator_measures_the_jensen_shannon_divergence(losses):
    """Catches a sign, a factor and a swap of real and fake (Goodfellow et al. 2014, theorem 1)."""
    best, middle = (p / q).log(), (p + q) / 2
    divergence = ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()) / 2
    value = -discriminator_loss(losses, best)
    assert value.item() == pytest.approx((2 * divergence - 2 * math.log(2)).item(), rel=1e-12)
    assert slope(losses, best).abs().max() < 1e-12
    assert slope(losses, best + 0.1).abs().min() > 1e-3


def test_the_best_hinge_discriminator_measures_the_total_variation():
    """Catches margins of another width, and a hinge that opens the wrong way."""
    best, variation = (p - q).sign(), (p - q).abs().sum() / 2
    assert discriminator_loss(hinge, best).item() == pytest.approx((2 - 2 * variation).item())
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        other = best + torch.randn(4, generator=generator).double()
        assert discriminator_loss(hinge, other) >= discriminator_loss(hinge, best) - 1e-12


def test_the_best_least_squares_score_is_the_probability_of_real():
    best = p / (p + q)
    expected = (p * q / (p + q)).sum() / 2
    assert discriminator_loss(least_squares, best).item() == pytest.approx(expected.item())
    assert slope(least_squares, best).abs().max() < 1e-12


def test_a_slope_of_one_measures_the_wasserstein_distance_of_a_shift():
    x = torch.randn(500, generator=torch.Generator().manual_seed(0)).double()
    losses = wasserstein(x + 3, x)  # the scores are the numbers themselves
    assert losses.discriminator.item() == pytest.approx(-3)
    assert losses.generator.item() == pytest.approx(-x.mean().item())


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        (minimax, lambda s: -s.sigmoid()),
        (non_saturating, lambda s: s.sigmoid() - 1),
        (least_squares, lambda s: s - 1),
        (wasserstein, lambda s: -torch.ones_like(s)),
        (hinge, lambda s: -torch.ones_like(s)),
    ],
    ids=["minimax", "non-saturating", "least squares", "Wasserstein", "hinge"],
)
def test_the_generator_raises_the_scores_of_its_fakes(losses, expected):
    """Catches a generator that helps the discriminator, and one that saturates."""
    fake = torch.linspace(-40, 40, 9, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(losses(torch.zeros(9).double(), fake).generator, fake)
    torch.testing.assert_close(gradient, expected(fake.detach()) / 9)


def test_the_cooperative_sum_gives_the_generator_nothing_to_learn_from():
    """Catches a wrong variant that is no longer the one in print."""
    scores = torch.linspace(-5, 5, 11, dtype=torch.float64)
    for weight in (0.5, 1.0, 2.0):
        real, fake = scores.clone().requires_grad_(), scores.clone().requires_grad_()
        losses = cooperative(real, fake, weight)
        assert losses.generator is losses.discriminator
        probability = scores.sigmoid()
        printed = -weight * (1 - probability).log() + probability.log() + (1 - probability).log()
        assert losses.generator.item() == pytest.approx(printed.mean().item())
        down, up = torch.autograd.grad(losses.generator, (real, fake))
        assert (down > 0).all()  # what is real is called fake, whatever the weight
        torch.testing.assert_close(up, (weight - 1) * probability / 11)


# Penalties ---------------------------------------------------------------------------------------
def test_penalties_of_critics_with_known_slopes():
    """Catches a norm per batch, a squared norm, and a mixture of the wrong ends."""
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 7, 3, 2, generator=generator).double()
    mix = torch.rand(7, 1, 1, generator=generator).double()
    w = torch.randn(3, 2, generator=generator).double()

    def linear(x):
        return (w * x).sum((1, 2))

    def bowl(x):  # its gradient is x itself
        return x.square().sum((1, 2)) / 2

    assert r1_penalty(linear, real).item() == pytest.approx((w.square().sum() / 2).item())
    assert r1_penalty(bowl, real).item() == pytest.approx((real.square().sum() / 14).item())
    expected = (w.norm() - 1).square().item()
    assert gradient_penalty(linear, real, fake, mix).item() == pytest.approx(expected)
    between = (mix * real + (1 - mix) * fake).flatten(1)
    expected = (between.norm(dim=1) - 1).square().mean().item()
    assert gradient_penalty(bowl, real, fake, mix).item() == pytest.approx(expected)


def test_slopes_and_their_gradients_against_finite_differences():
    """Catches a graph that is cut: a penalty that is measured and never felt."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    x, epsilon = torch.randn(5, 4).double(), 1e-5
    gradients = input_gradients(critic, x)
    with torch.no_grad():
        for i in range(4):
            step = torch.zeros(4).double()
            step[i] = epsilon
            numeric = (critic(x + step) - critic(x - step))[:, 0] / (2 * epsilon)
            torch.testing.assert_close(gradients[:, i], numeric, rtol=1e-6, atol=1e-8)
    weight = critic[0].weight
    (felt,) = torch.autograd.grad(r1_penalty(critic, x), weight)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[2, 1] += sign * epsilon
        values.append(r1_penalty(critic, x).item())
        with torch.no_grad():
            weight[2, 1] -= sign * epsilon
    assert felt[2, 1].item() == pytest.approx((values[0] - values[1]) / (2 * epsilon), rel=1e-5)


# The game in one dimension -----------------------------------------------------------------------
def shares(fakes):
    """Of the fakes, near each mode."""
    return [((fakes - mode).abs() < 0.7).float().mean().item() for mode in (-MODE, MODE)]


def test_the_right_loss_finds_both_modes():
    """Catches a game in which one network does not learn."""
    played = play(non_saturating, lambda d, real, fake: 0.1 * r1_penalty(d, real), steps=400)
    assert min(shares(played.fakes)) > 0.25 and sum(shares(played.fakes)) > 0.75
    assert 0.35 < played.real_scores.sigmoid().mean() < 0.65  # D can no longer tell
    assert 0.35 < played.fake_scores.sigmoid().mean() < 0.65


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_networks_that_cooperate_find_neither(weight):
    """Catches a wrong variant that works: all fakes at one point, and D = 0 everywhere."""
    played = play(partial(cooperative, weight=weight), steps=200)
    assert max(shares(played.fakes)) < 0.05 and played.fakes.std() < 0.3
    assert played.real_scores.sigmoid().max() < 1e-3
    assert played.fake_scores.sigmoid().max() < 1e-3


def test_with_weight_one_the_generator_stays_where_it_began():
    """Catches the sentence that the fakes move to the mean: they do not move at all."""
    short, long = (play(cooperative, steps=steps).fakes for steps in (1, 100))
    assert abs(short.mean() - long.mean()) < 0.05 and abs(short.std() - long.std()) < 0.02


def test_the_toy_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    play(minimax, steps=1)
    assert torch.equal(torch.rand(1), expected)
    numbers = real_numbers(4000)
    assert abs(numbers.mean()) < 0.2 and numbers.abs().mean().item() == pytest.approx(2, abs=0.02)
