"""The Gaussian VAE against torch.distributions, and its bound against a sum over a grid."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from minidalle.baselines.vae import VAE, VAEConfig, gaussian_kl, gaussian_nll, reparameterise
from minidalle.errors import MinidalleError

TINY = VAEConfig(image_size=16, latent=4, patch=4, width=16, blocks=1)


def test_kl_and_nll_are_those_of_a_trusted_library():
    torch.manual_seed(0)
    mu, ln_var, x = torch.randn(3, 50)
    q = Normal(mu, (0.5 * ln_var).exp())
    torch.testing.assert_close(gaussian_kl(mu, ln_var), kl_divergence(q, Normal(0.0, 1.0)))
    torch.testing.assert_close(gaussian_nll(x, mu, 0.3), -Normal(mu, 0.3).log_prob(x))
    assert (gaussian_kl(mu, ln_var) >= 0).all() and gaussian_kl(*torch.zeros(2, 1)).item() == 0


def test_samples_have_the_mean_and_spread_asked_for_and_carry_gradients():
    mu, ln_var = torch.tensor(1.5, requires_grad=True), torch.tensor(-1.0, requires_grad=True)
    z = reparameterise(mu, ln_var, torch.randn(200_000, generator=torch.manual_seed(0)))
    assert z.mean().item() == pytest.approx(1.5, abs=0.01)
    assert z.std().item() == pytest.approx(math.exp(-0.5), abs=0.01)
    z.square().mean().backward()  # E z² = μ² + σ²
    assert mu.grad.item() == pytest.approx(3.0, abs=0.02)
    assert ln_var.grad.item() == pytest.approx(math.exp(-1), abs=0.01)


def test_the_bound_lies_below_the_sum_over_a_grid():
    """Catches an ELBO that is none, by a model with one latent number."""
    torch.manual_seed(0)
    model = VAE(VAEConfig(image_size=8, latent=1, patch=4, width=8, blocks=1)).eval()
    image = torch.rand(1, 3, 8, 8)
    z = torch.linspace(-6, 6, 4001)[:, None]
    with torch.no_grad():
        joint = -gaussian_nll(image, model.decode(z), 0.1).sum((1, 2, 3))
        joint = joint + Normal(0.0, 1.0).log_prob(z[:, 0])
        log_p = joint.logsumexp(0) + math.log(z[1] - z[0])
        losses = model(image.expand(4000, -1, -1, -1))
    elbo = -(losses.nll + losses.kl)
    assert elbo < log_p + 0.05 * losses.nll.abs() ** 0.5
    assert losses.total.item() == pytest.approx((-elbo / image[0].numel()).item(), rel=1e-5)


def test_it_learns_and_beta_weighs_the_kl():
    torch.manual_seed(0)
    model, images = VAE(TINY), torch.rand(8, 3, 16, 16)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    first = model(images).total.item()
    for _ in range(60):
        optimizer.zero_grad()
        model(images).total.backward()
        optimizer.step()
    assert model(images).total.item() < 0.8 * first
    assert model.decode(torch.randn(5, 4)).shape == (5, 3, 16, 16)


def test_a_size_that_does_not_fit_is_refused():
    with pytest.raises(MinidalleError, match="multiple of patch"):
        VAEConfig(image_size=50)
