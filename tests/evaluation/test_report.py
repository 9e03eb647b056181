"""Distances between clouds of features."""

import pytest
import torch

from minidalle.evaluation.metrics import frechet_distance


def cloud(seed, n=200_000, d=3):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_distance_of_gaussians_is_the_closed_form():
    """Diagonal Gaussians: |Δμ|² + Σ (σa − σb)²."""
    a = cloud(0)
    scale, shift = torch.tensor([2.0, 0.5, 1.0]), torch.tensor([1.0, 0.0, -2.0])
    expected = (1 + 4) + (1 + 0.25)
    assert frechet_distance(a, cloud(1) * scale + shift) == pytest.approx(expected, rel=0.02)


def test_distance_with_correlated_features_is_that_of_the_matrix_square_root():
    """The eigenvalue route against the definition, by a square root of a symmetric matrix."""
    mix_a, mix_b = torch.randn(2, 3, 3, dtype=torch.float64, generator=torch.manual_seed(3))
    a, b = cloud(0).double() @ mix_a, cloud(1).double() @ mix_b + 0.3
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)

    def root(m):
        values, vectors = torch.linalg.eigh(m)
        return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T

    half = root(cov_a)
    trace = (cov_a + cov_b - 2 * root(half @ cov_b @ half)).trace()
    expected = ((a.mean(0) - b.mean(0)).square().sum() + trace).item()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_distance_is_a_distance():
    a, b = cloud(0, 500), cloud(1, 500) + 0.2
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, b) > 0
    few = frechet_distance(cloud(2, 10), cloud(3, 10))
    assert few > frechet_distance(cloud(2, 5000), cloud(3, 5000))  # too large with few rows
