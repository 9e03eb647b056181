"""Distances between clouds of features, and shares of pictures."""

import pytest
import torch

from minidalle.evaluation.metrics import frechet_distance, precision_recall
from minidalle.evaluation.report import is_complete
from minidalle.world.captions import parse


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


def test_precision_is_lost_by_wrong_pictures_and_recall_by_missing_ones():
    """Two real clusters: half of the drawn points lie nowhere, and one cluster has none."""
    low, high = cloud(0, 200), cloud(1, 200) + 20
    drawn = torch.cat([cloud(2, 200), cloud(3, 200) - 20])
    precision, recall = precision_recall(torch.cat([low, high]), drawn)
    assert precision == pytest.approx(0.5, abs=0.03) and recall == pytest.approx(0.5, abs=0.03)
    assert precision_recall(low, low) == (1, 1)


def test_precision_and_recall_are_those_of_the_definition():
    """Against loops over pairs."""
    real, drawn, k = cloud(4, 30, 2), cloud(5, 25, 2) * 1.5, 3

    def share(points, centres):
        inside = 0
        for point in points:
            for i, centre in enumerate(centres):
                others = sorted((centre - o).norm() for j, o in enumerate(centres) if j != i)
                if (point - centre).norm() <= others[k - 1]:
                    inside += 1
                    break
        return inside / len(points)

    got = precision_recall(real, drawn, k)
    assert got == pytest.approx((share(drawn, real), share(real, drawn)))


@pytest.mark.parametrize(
    ("caption", "complete"),
    [
        ("a red car on the grass", True),
        ("two red cars on the grass", True),
        ("a red car left of a blue dog at night", True),
        ("一只红色的汽车停在草地上", True),
        ("a car on the grass", False),
        ("a red car", False),
        ("a red car and a blue dog at night", False),
    ],
)
def test_a_complete_caption_states_all_it_can(caption, complete):
    assert is_complete(parse(caption)) == complete
