"""Quantisers: chances are what softmax says, gradients go where they should, codes stay alive."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from minidalle.errors import MinidalleError
from minidalle.quantize import (
    QUANTIZERS,
    FiniteScalarQuantizer,
    GumbelQuantizer,
    VectorQuantizer,
    build_quantizer,
    fsq_levels,
    gumbel_noise,
    gumbel_softmax,
    straight_through,
    usage,
)

K, N = 6, 20_000
LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0, 0.5])
MANY = LOGITS.expand(N, K)
CHI2_5 = 20.5  # a right sampler stays below it 999 times in 1000 (5 degrees of freedom)


@pytest.fixture(autouse=True)
def dice():
    torch.manual_seed(0)


def transparent(quantizer):
    """Make the codebook the identity, so that the vectors show the mixture of codes."""
    quantizer.codebook.data = torch.eye(K)
    return quantizer


def cells(x):
    """Every cell of B C h w, as a list of numbers."""
    return [x[b, :, i, j].tolist() for b, i, j in product(*map(range, (len(x), *x.shape[2:])))]


# Gumbel ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "draw",
    [
        lambda: (MANY + gumbel_noise(MANY)).argmax(1),
        lambda: gumbel_softmax(MANY, tau=0.3).argmax(1),
        lambda: gumbel_softmax(MANY.T, tau=3.0, dim=0).argmax(0),
        lambda: GumbelQuantizer(K, 2).sample(MANY[:, :, None, None]).flatten(),
        lambda: (
            transparent(GumbelQuantizer(K, K, hard=True))(MANY[..., None, None], 0.5)
            .vectors.argmax(1)
            .flatten()
        ),
    ],
    ids=["noise", "relaxed", "relaxed over another axis", "sample", "straight-through"],
)
def test_drawn_codes_have_the_chances_of_softmax(draw):
    """Catches noise that is not Gumbel's (a sign, a log, one draw for all cells) or comes late."""
    expected = N * LOGITS.softmax(0)
    counts = torch.bincount(draw(), minlength=K)
    assert ((counts - expected).square() / expected).sum() < CHI2_5


def test_noise_follows_its_generator_and_is_finite():
    """Catches a generator that is ignored, and the infinities of u = 0 and u = 1."""
    a, b, c = (gumbel_noise(MANY, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)

    for u in (0.0, 1 - 2**-24):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "rand", lambda *_, u=u, **__: torch.tensor(u))
            assert gumbel_noise(torch.zeros(())).isfinite()


def test_temperature_goes_from_one_hot_to_uniform():
    """Catches a product where τ divides, and τ that divides the logits but not the noise."""
    cold, warm, hot = (gumbel_softmax(MANY, tau) for tau in (1e-4, 1.0, 1e4))
    assert (cold.amax(1) > 0.999).float().mean() > 0.99
    assert 0.4 < warm.amax(1).mean() < 0.9
    torch.testing.assert_close(hot, torch.full_like(hot, 1 / K), atol=1e-3, rtol=0)


def test_straight_through_is_hard_forwards_and_soft_backwards():
    """Catches a forward pass that is only nearly one-hot, and a gradient of anything but soft."""
    soft = torch.randn(8, K, 5, 3).softmax(1).requires_grad_()
    one_hot = torch.zeros_like(soft).scatter(1, soft.argmax(1, keepdim=True), 1.0)
    hard = straight_through(soft)
    assert torch.equal(hard, one_hot)

    weight = torch.randn_like(soft)
    (hard * weight).sum().backward()
    assert torch.equal(soft.grad, weight)


@pytest.mark.parametrize("hard", [False, True])
def test_gumbel_quantizer_mixes_in_training_and_chooses_in_use(hard):
    """Catches dice in use, argmax in training, and a decoder that is fed the wrong rows."""
    quantizer, logits = transparent(GumbelQuantizer(K, K, hard)), torch.randn(40, K, 3, 2)
    one_hot = F.one_hot(logits.argmax(1), K).movedim(-1, 1).float()
    mixed = quantizer(logits, 1.0)
    assert torch.equal(mixed.codes, logits.argmax(1))
    assert not torch.equal(mixed.vectors, quantizer(logits, 1.0).vectors)
    assert (mixed.vectors.amax(1) > 0.999).all() == hard
    torch.testing.assert_close(mixed.vectors.sum(1), torch.ones(40, 3, 2))

    assert torch.equal(quantizer.eval()(logits, 1.0).vectors, one_hot)
    assert torch.equal(quantizer.embed(logits.argmax(1)), one_hot)


# KL and entropy ----------------------------------------------------------------------------------
def test_kl_and_entropy_equal_the_loops():
    """Catches a sum for a mean, the wrong direction of KL, and the mean taken after the entropy."""
    logits = 2 * torch.randn(3, K, 2, 4)
    kl, mean_q = [], [0.0] * K
    for cell in cells(logits):
        norm = sum(math.exp(x) for x in cell)
        q = [math.exp(x) / norm for x in cell]
        kl.append(sum(p * math.log(p * K) for p in q))
        mean_q = [m + p / 24 for m, p in zip(mean_q, q, strict=True)]
    z = GumbelQuantizer(K, 2)(logits, 1.0)
    assert z.kl.item() == pytest.approx(sum(kl) / 24, rel=1e-5)
    assert z.entropy.item() == pytest.approx(-sum(p * math.log(p) for p in mean_q), rel=1e-5)

    twice = GumbelQuantizer(K, 2)(torch.cat([logits, logits]), 1.0)
    torch.testing.assert_close((twice.kl, twice.entropy), (z.kl, z.entropy))


def test_kl_and_entropy_at_their_ends():
    """Catches a KL that misses ln K, or is NaN where a probability is zero."""
    quantizer, ln_k = GumbelQuantizer(K, 2), math.log(K)
    all_codes = torch.eye(K)[..., None, None]  # K pictures of one cell, each of another code
    for logits, kl, entropy in (
        (torch.zeros(2, K, 3, 3), 0.0, ln_k),  # uniform: nothing is said
        (1e4 * all_codes, ln_k, ln_k),  # every code serves, and is certain: ln K nats a cell
        (1e4 * all_codes[:1], ln_k, 0.0),  # collapse: always the same code
        (1e4 * all_codes[:2], ln_k, math.log(2)),
    ):
        z = quantizer(logits, 1.0)
        assert z.kl.item() == pytest.approx(kl, abs=1e-5)
        assert z.entropy.item() == pytest.approx(entropy, abs=1e-5)


# VQ ----------------------------------------------------------------------------------------------
def test_vq_takes_the_nearest_code():
    """Catches a distance with a lost term (a dot product favours long vectors), or a wrong axis."""
    vq, features = VectorQuantizer(7, 3).eval(), torch.randn(2, 3, 4, 5)
    vq.codebook *= torch.linspace(0.2, 3, 7)[:, None]
    distances = [[math.dist(cell, v) for v in vq.codebook.tolist()] for cell in cells(features)]
    z = vq(features)
    assert z.codes.flatten().tolist() == [d.index(min(d)) for d in distances]
    torch.testing.assert_close(z.vectors, vq.codebook[z.codes].movedim(-1, 1))
    squares = [min(d) ** 2 for d in distances]
    assert z.commitment.item() == pytest.approx(sum(squares) / len(squares) / 3, rel=1e-5)
    assert z.kl.item() == pytest.approx(math.log(7))


def test_vq_gradient_skips_the_choice():
    """Catches an encoder that gets no gradient, and commitment that moves the wrong side."""
    vq, features = VectorQuantizer(7, 3).eval(), torch.randn(2, 3, 4, 5, requires_grad=True)
    weight = torch.randn_like(features)
    z = vq(features)
    (straight,) = torch.autograd.grad((z.vectors * weight).sum(), features)
    assert torch.equal(straight, weight)
    (pull,) = torch.autograd.grad(z.commitment, features)
    chosen = vq.codebook[z.codes].movedim(-1, 1)
    torch.testing.assert_close(pull, 2 * (features - chosen).detach() / features.numel())


def test_vq_codebook_is_a_running_mean():
    """Catches a decay turned round, sums and counts out of step, and learning while in use."""
    vq = VectorQuantizer(K, 3, decay=0.8)
    counts, sums = [1.0] * K, [row.double() for row in vq.codebook]
    for _ in range(3):
        features = torch.randn(2, 3, 1, 3)  # six cells for six codes: a fair share is one
        codes = vq.codes(features)
        assert torch.equal(vq(features).codes, codes)  # chosen before the codebook moves
        for k in range(K):
            chose = [
                f for f, code in zip(cells(features), codes.flatten(), strict=True) if code == k
            ]
            counts[k] = 0.8 * counts[k] + 0.2 * len(chose)
            sums[k] = 0.8 * sums[k] + 0.2 * torch.tensor(chose or [[0.0] * 3]).double().sum(0)
        expected = torch.stack([s / n for s, n in zip(sums, counts, strict=True)])
        torch.testing.assert_close(vq.codebook.double(), expected, atol=1e-5, rtol=1e-5)

    before = vq.codebook.clone()
    vq.eval()(features)
    assert torch.equal(vq.codebook, before)


def test_vq_dead_code_is_reborn_among_the_features():
    """Catches collapse: a code that nothing is near to would be lost for ever."""
    vq = VectorQuantizer(4, 3, decay=0.1)
    vq.codebook[0] = vq.sums[0] = 1e3
    for _ in range(3):
        vq(torch.randn(2, 3, 4, 4))
    assert vq.codebook[0].norm() < 10


@pytest.mark.parametrize("n", [4, 4000])
def test_vq_leaves_codes_alone_that_serve(n):
    """Catches a threshold in cells: in a big batch each newborn code would die at its next step."""
    vq = VectorQuantizer(2, 4)
    centres = torch.tensor([[5.0], [-5.0]]).expand(2, 4)
    vq.codebook.copy_(centres)
    vq.sums.copy_(centres * vq.counts[:, None])
    for _ in range(5):
        features = centres.repeat(n // 2, 1) + torch.randn(n, 4)
        vq(features.T[None, :, None])
    assert (vq.codebook - centres).norm(dim=1).max() < 0.5  # a random feature is 2 away


def test_vq_gives_the_vectors_that_were_chosen():
    """Catches a rare code that is reborn elsewhere in the step in which a cell still holds it."""
    vq = VectorQuantizer(64, 4)
    vq.counts[0], vq.sums[0] = 0.0, 0.0
    codes = torch.tensor([0, *(1 + i % 63 for i in range(639))])
    features = vq.codebook[codes].T[None, :, None].clone()  # every cell sits on its code
    z = vq(features)
    assert torch.equal(z.codes.flatten(), codes)
    torch.testing.assert_close(z.vectors, features)
    assert z.commitment < 1e-9


def test_vq_codes_are_the_same_under_autocast():
    """Catches distances in half precision, which choose wrong neighbours."""
    vq, features = VectorQuantizer(256, 16).eval(), torch.randn(2, 16, 16, 16)
    expected = vq.codes(features)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(vq(features).codes, expected)
        assert torch.equal(vq.codes(features), expected)  # as DVAE.encode calls it


# FSQ ---------------------------------------------------------------------------------------------
def axis(levels):
    """The numbers that one coordinate can be."""
    return [2 * n / (levels - 1) - 1 for n in range(levels)]


@pytest.mark.parametrize("levels", [(8, 8, 8), (4, 4), (3, 2, 5), (7,), (2, 2, 2, 2)], ids=str)
def test_fsq_codes_are_the_points_of_a_grid(levels):
    """Catches two codes of one point, a point without a code, and digits in another order."""
    fsq, k = FiniteScalarQuantizer(levels), torch.arange(math.prod(levels))
    points = fsq.embed(k[None, None])[0, :, 0].T  # K d
    expected = [point[::-1] for point in product(*map(axis, levels[::-1]))]  # the first is fastest
    torch.testing.assert_close(points, torch.tensor(expected))
    features = torch.atanh(points.clamp(-0.9999, 0.9999)).T[None, :, None]
    assert torch.equal(fsq.codes(features).flatten(), k)
    assert torch.equal(fsq.sample(features), fsq.codes(features))


def test_fsq_takes_the_nearest_level_of_each_number():
    """Catches numbers without a bound, floor for round, and the levels of another axis."""
    levels = (5, 2, 8)
    fsq, features = FiniteScalarQuantizer(levels), 2 * torch.randn(2, 3, 4, 5)
    z, codes = fsq(features), []
    for cell, vector in zip(cells(features), cells(z.vectors), strict=True):
        digits = []
        for h, value, n in zip(cell, vector, levels, strict=True):
            distances = [abs(math.tanh(h) - level) for level in axis(n)]
            digits.append(distances.index(min(distances)))
            assert value == pytest.approx(axis(n)[digits[-1]])
        codes.append(digits[0] + 5 * digits[1] + 10 * digits[2])
    assert z.codes.flatten().tolist() == codes
    assert torch.equal(z.vectors, fsq.embed(z.codes))  # the decoder sees in training what in use
    shares = [codes.count(k) / len(codes) for k in set(codes)]
    assert z.entropy.item() == pytest.approx(-sum(p * math.log(p) for p in shares), rel=1e-5)
    assert z.kl.item() == pytest.approx(math.log(80)) and z.commitment == 0


def test_fsq_gradient_skips_the_rounding_alone():
    """Catches an encoder without a gradient, and one whose bound has none."""
    fsq, features = FiniteScalarQuantizer((8, 3)), torch.randn(2, 2, 4, 5, requires_grad=True)
    weight = torch.randn_like(features)
    (gradient,) = torch.autograd.grad((fsq(features).vectors * weight).sum(), features)
    torch.testing.assert_close(gradient, weight * (1 - features.tanh() ** 2))


def test_fsq_uses_all_codes_and_no_others():
    """Catches a level too many at the ends, and levels that no number is rounded to."""
    fsq = FiniteScalarQuantizer((8, 8, 8))
    ends = torch.tensor([[-1e6, 1e6]]).expand(3, 2)[None, :, None]
    assert fsq.codes(ends).flatten().tolist() == [0, 511]
    assert fsq(ends).vectors.flatten().tolist() == [-1, 1] * 3
    counts = torch.bincount(fsq.codes(torch.randn(1, 3, 1, N)).flatten(), minlength=512)
    used, perplexity = usage(counts)
    assert len(counts) == 512 and used == 1 and perplexity > 0.9 * 512


@pytest.mark.parametrize(
    ("codes", "levels"),
    [(2, (2,)), (6, (6,)), (16, (4, 4)), (240, (8, 6, 5)), (512, (8, 8, 8)), (4096, (8,) * 4)],
)
def test_fsq_levels_are_few_and_alike(codes, levels):
    """Catches (8, 2) for 16 codes, and a grid that is not of this size."""
    assert fsq_levels(codes) == levels
    assert build_quantizer("fsq", codes, width=99).width == len(levels)


def test_no_levels_for_eleven():
    """Catches a codebook that is silently smaller than was asked for."""
    with pytest.raises(MinidalleError, match=r"22 codes are no product .* a power of 2"):
        fsq_levels(22)


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_every_quantizer_says_how_wide_its_vectors_are(kind):
    """Catches a decoder that is built for vectors of another width."""
    quantizer = build_quantizer(kind, 64, width=5)
    z = quantizer(torch.randn(2, quantizer.features, 3, 4), 0.5)
    assert z.vectors.shape == (2, quantizer.width, 3, 4) and z.codes.shape == (2, 3, 4)
    assert quantizer.embed(z.codes).shape == z.vectors.shape and z.codes.max() < 64


# Usage -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("counts", "used", "perplexity"),
    [([5, 5, 5, 5], 1.0, 4.0), ([7, 0, 0, 0], 0.25, 1.0), ([1, 1, 2, 0], 0.75, 2**1.5)],
)
def test_usage_has_known_answers(counts, used, perplexity):
    """Catches 0 · ln 0, bits for nats, and a share of the cells instead of the codes."""
    assert usage(torch.tensor(counts)) == pytest.approx((used, perplexity))
