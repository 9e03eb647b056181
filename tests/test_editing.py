"""Editing against exact posteriors: every code sequence of a tiny prior is enumerated."""

import numpy as np
import pytest
import torch

from minidalle.dvae import DVAE, DVAEConfig
from minidalle.editing import (
    blend,
    cells_of,
    edit,
    estimate_noise,
    keep,
    log_weight,
    observe,
    repair,
)
from minidalle.errors import MinidalleError
from minidalle.sampling import SamplingConfig, candidate_generators, sample_codes
from tests.test_sampling import ALL, GRID, MANY, NULL, TEXT, K, N, exact, prior

PLAIN = SamplingConfig()


def posterior(evidence):
    """p(codes | caption, evidence) of each picture in ALL, from the definition."""
    known = evidence[torch.arange(N), ALL].sum(1).exp()
    p = exact(PLAIN) * known
    return p / p.sum()


def drawn(evidence, n=MANY):
    generators = candidate_generators(0, n)
    *_, codes = sample_codes(prior(), TEXT, NULL, PLAIN, generators, evidence=evidence)
    return codes


def index(codes):
    return (codes * K ** torch.arange(N - 1, -1, -1)).sum(1)


SOFT = torch.randn(N, K, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
KEPT = keep(torch.tensor([[0, 3], [1, 2]]), torch.tensor([[True, False], [True, False]]), K)


@pytest.mark.parametrize("evidence", [SOFT, KEPT], ids=["soft", "kept"])
def test_weighted_candidates_are_samples_of_the_posterior(evidence):
    """Catches evidence of another cell, and a weight that counts the drawn code instead of all."""
    codes, exactly = drawn(evidence), posterior(evidence)
    weights = log_weight(prior(), TEXT, codes, evidence).double().softmax(0)
    estimate = torch.zeros(len(ALL), dtype=torch.float64).index_add_(0, index(codes), weights)
    effective = 1 / weights.square().sum()
    assert effective > 100  # samples that count, of MANY
    assert (estimate - exactly).abs().sum() < 0.35
    plain = torch.bincount(index(codes), minlength=len(ALL)) / len(codes)
    assert (estimate - exactly).abs().sum() < (plain - exactly).abs().sum()


def test_kept_codes_stay_and_free_ones_vary():
    codes = drawn(KEPT, 200).view(-1, GRID, GRID)
    assert (codes[:, :, 1] == torch.tensor([3, 2])).all()
    assert len(codes[:, :, 0].unique(dim=0)) > 4


def test_evidence_wins_over_top_k():
    """Catches a kept code that top-k has removed, and then no code at all."""
    config = SamplingConfig(top_k=1, temperature=0.3)
    *_, codes = sample_codes(prior(), TEXT, NULL, config, candidate_generators(0, 4), evidence=KEPT)
    assert (codes.view(-1, GRID, GRID)[:, :, 1] == torch.tensor([3, 2])).all()


@pytest.mark.parametrize("broken", [torch.zeros(N, K + 1), torch.full((N, K), -torch.inf)])
def test_evidence_that_does_not_fit_is_refused(broken):
    with pytest.raises(MinidalleError, match="evidence is"):
        drawn(broken, 1)


@pytest.fixture(scope="module")
def dvae():
    torch.manual_seed(0)
    small = DVAEConfig(
        image_size=12, codes=9, widths=(8,), blocks=1, prototypes=True, code_width=48
    )
    model = DVAE(small).eval().requires_grad_(False)
    model.set_prototypes(torch.rand(8, 3, 12, 12))
    return model


def test_observation_is_a_gaussian_of_the_visible_pixels(dvae):
    """Against loops over cells, codes and pixels."""
    image, sigma = torch.rand(3, 12, 12), 0.2
    visible = torch.rand(12, 12) < 0.7
    looks = dvae.looks().view(-1, 3, 4, 4)
    got = observe(dvae, image, sigma, visible)
    for cell in range(9):
        y, x = 4 * (cell // 3), 4 * (cell % 3)
        here = np.s_[y : y + 4, x : x + 4]
        for code in range(9):
            apart = (image[:, *here] - looks[code]).square() * visible[here]
            expected = -apart.sum().item() / (2 * sigma**2)
            assert got[cell, code].item() == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert (observe(dvae, image, sigma, torch.zeros(12, 12, dtype=torch.bool)) == 0).all()


def test_noise_is_estimated(dvae):
    codes = torch.randint(9, (1, 3, 3))
    looks = dvae.looks().view(-1, 3, 4, 4)[codes[0]]  # 3 3 3 4 4: rows columns channels
    image = looks.permute(2, 0, 3, 1, 4).reshape(3, 12, 12)
    assert estimate_noise(dvae, image) < 0.01
    noise = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(0))
    assert estimate_noise(dvae, image + 0.05 * noise) == pytest.approx(0.05, rel=0.35)


def test_a_region_is_the_cells_that_it_touches(dvae):
    assert cells_of((0, 0, 12, 12), dvae).all()
    assert cells_of((4, 8, 8, 12), dvae).nonzero().tolist() == [[2, 1]]
    assert cells_of((3, 7, 5, 9), dvae).sum() == 4
    for wrong in ((4, 4, 4, 8), (0, 0, 13, 4), (-1, 0, 4, 4), (8, 0, 4, 4)):
        with pytest.raises(MinidalleError, match=r"region .* not inside the picture"):
            cells_of(wrong, dvae)


def test_blending_keeps_the_pixels_outside():
    before, after = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 9, np.uint8)
    mixed = blend(before, after, torch.tensor([[True, False], [False, False]]), 4)
    assert (mixed[:4, :4] == 9).all() and mixed.sum() == 9 * 16 * 3


def test_an_edit_changes_the_region_alone(smoke_model):
    """Catches codes of the caption's picture outside the region, and a decoder that bleeds."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 48, 3)).astype(np.uint8)
    edited = edit(smoke_model, image, "a red car", (8, 8, 24, 24), candidates=4)
    outside = np.ones((48, 48), bool)
    outside[8:24, 8:24] = False
    for after in edited.images:
        assert (after[outside] == image[outside]).all()
        assert (after[8:24, 8:24] != image[8:24, 8:24]).any()
    assert (np.diff(edited.scores) <= 0).all()
    with pytest.raises(MinidalleError, match="resize it to 48 × 48"):
        edit(smoke_model, image[:40], "a red car", (8, 8, 24, 24))


def test_a_picture_without_noise_is_repaired_to_its_own_codes(smoke_model):
    """Catches evidence that is weaker than an untrained prior."""
    codes = torch.randint(64, (1, 12, 12), generator=torch.Generator().manual_seed(0))
    looks = smoke_model.dvae.looks().view(-1, 3, 4, 4)[codes[0]]
    image = looks.permute(2, 0, 3, 1, 4).reshape(3, 48, 48)
    picture = (image * 255).round().byte().permute(1, 2, 0).numpy()
    repaired = repair(smoke_model, picture)
    again = smoke_model.dvae.looks()[torch.from_numpy(repaired.codes[0])]
    assert (again - smoke_model.dvae.looks()[codes[0]]).square().mean() < 1e-3
