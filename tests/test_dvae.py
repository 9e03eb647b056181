"""The dVAE: a density that sums to one, a bound that bounds, and codes that carry a picture."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Laplace, SigmoidTransform, TransformedDistribution

from minidalle.dvae import (
    DVAE,
    DVAEConfig,
    beta_at,
    from_unit,
    logit_laplace_nll,
    min_b_at,
    tau_at,
    to_unit,
)
from minidalle.errors import MinidalleError
from minidalle.quantize import QUANTIZERS, k_means
from minidalle.residual import Block

TINY = DVAEConfig(image_size=8, patch=2, widths=(8, 16), blocks=1, codes=16, code_width=5)


@pytest.fixture(autouse=True)
def dice():
    torch.manual_seed(0)


# Likelihood --------------------------------------------------------------------------------------
@pytest.mark.parametrize("b", [0.1, 0.3, 0.8])
@pytest.mark.parametrize("mu", [-2.0, 0.0, 1.3])
def test_density_integrates_to_one(mu, b):
    """Catches a lost factor (2 b, or x (1 − x)): a density that may be large everywhere."""
    x = torch.sigmoid(torch.linspace(mu - 20, mu + 20, 40_001, dtype=torch.float64))
    nll = logit_laplace_nll(x, torch.tensor(mu).double(), torch.tensor(math.log(b)).double())
    assert torch.trapezoid((-nll).exp(), x).item() == pytest.approx(1, abs=1e-3)


def test_density_is_a_laplace_through_a_sigmoid():
    """Catches any slip in the formula: PyTorch builds the same density from its definition."""
    mu, ln_b = 2 * torch.randn(2, 1000, dtype=torch.float64)
    x = to_unit(torch.rand(1000, dtype=torch.float64))
    reference = TransformedDistribution(Laplace(mu, ln_b.exp()), SigmoidTransform())
    torch.testing.assert_close(logit_laplace_nll(x, mu, ln_b), -reference.log_prob(x))


def test_pixels_are_mapped_into_the_tame_part_and_back():
    """Catches pixels at 0 and 1, where the logit is infinite, and pictures out of range."""
    x = torch.linspace(0, 1, 256)
    assert to_unit(x)[[0, -1]].tolist() == pytest.approx([0.1, 0.9])
    torch.testing.assert_close(from_unit(to_unit(x)), x)
    assert from_unit(torch.tensor([0.0, 0.05, 0.95, 1.0])).tolist() == [0, 0, 1, 1]


# Schedules ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("schedule", "ramp", "start", "end"), [(tau_at, 0.45, 1, 1 / 16), (beta_at, 0.1, 0, 6.6)]
)
def test_schedules_go_from_end_to_end_in_half_a_cosine(schedule, ramp, start, end):
    """Catches ends mixed up, a ramp that overshoots or comes back, and a linear one."""
    values = torch.tensor([schedule(i / 1000) for i in range(1001)])
    assert schedule(0) == pytest.approx(start)
    assert schedule(ramp / 2) == pytest.approx((start + end) / 2)
    assert schedule(ramp / 4) == pytest.approx(end + (start - end) * (1 + math.sqrt(0.5)) / 2)
    assert schedule(ramp) == pytest.approx(end) == schedule(1) == schedule(1.1)
    assert ((values.diff() * math.copysign(1, end - start)) >= -1e-6).all()


# The loss ----------------------------------------------------------------------------------------
def losses(dvae, images, progress=1.0, **changes):
    dvae.config = replace(dvae.config, **changes)
    return dvae(images, progress=progress)


@pytest.mark.parametrize(("patch", "widths"), [(2, (8, 16)), (1, (4, 4, 8, 8)), (4, (8,))])
def test_kl_weighs_beta_over_three_f_squared(patch, widths):
    """Catches a KL summed over positions, or priced as if a position were one subpixel."""
    dvae = DVAE(replace(TINY, patch=patch, widths=widths)).eval()
    images, f = torch.rand(3, 3, 8, 8), patch * 2 ** (len(widths) - 1)
    low, high = losses(dvae, images, beta=1.0), losses(dvae, images, beta=5.0)
    assert low.kl > 0.1
    assert (high.total - low.total).item() == pytest.approx(
        4 / (3 * f**2) * low.kl.item(), rel=1e-3
    )
    start = [losses(dvae, images, progress=0.0, beta=b).total for b in (1.0, 5.0)]
    assert torch.equal(*start)  # β warms up from zero


def test_bonus_pays_for_information_and_fades():
    """Catches a bonus that pays for noise, has its sign turned, or never gets smaller."""
    dvae, images = DVAE(TINY).eval(), torch.rand(3, 3, 8, 8)
    for progress, certain, spread in ((0.0, 1.0, 1.0), (0.3, 0.6, 0.5), (1.0, 0.6, 0.3)):
        none = losses(dvae, images, progress, information_bonus=0.0)
        paid = losses(dvae, images, progress, information_bonus=0.7)
        expected = 0.7 * (certain * none.kl + spread * none.entropy)
        assert (none.total - paid.total).item() == pytest.approx(expected.item(), rel=1e-4)


def test_loss_is_the_bound_found_by_enumeration():
    """Catches an ELBO that is none: above ln p(x), or with a gap other than KL(q ‖ posterior)."""
    config = DVAEConfig(
        image_size=2, patch=2, widths=(8,), blocks=1, codes=3, code_width=4,
        quantizer="straight-through", beta=1.0, information_bonus=0.0,
    )  # fmt: skip
    dvae = DVAE(config).eval().requires_grad_(False)
    dvae.encoder[-1].weight.fill_(0.3)  # so that q is neither uniform nor a point
    image = torch.rand(1, 3, 2, 4)  # 24 subpixels, two positions
    log_q = F.log_softmax(dvae.encoder(2 * image - 1), dim=1)[0, :, 0]  # K positions

    z = torch.cartesian_prod(torch.arange(3), torch.arange(3))  # all nine pictures in code
    mu, spread = dvae.decoder(dvae.quantizer.embed(z[:, None])).chunk(2, dim=1)
    ln_b = math.log(0.3) + F.softplus(spread)
    log_p_x_given_z = -logit_laplace_nll(to_unit(image), mu, ln_b).sum((1, 2, 3))
    log_q_z = log_q[z[:, 0], 0] + log_q[z[:, 1], 1]
    log_p_xz = log_p_x_given_z - 2 * math.log(3)
    log_p_x = log_p_xz.logsumexp(0)
    q = log_q_z.exp()
    assert q.sum().item() == pytest.approx(1, abs=1e-5) and 0.05 < q.max() < 0.95

    elbo = (q * log_p_x_given_z).sum() - 2 * dvae(image).kl  # KL is a mean over two positions
    gap = (q * (log_q_z - (log_p_xz - log_p_x))).sum()
    assert gap > 0.1
    assert (log_p_x - elbo).item() == pytest.approx(gap.item(), abs=1e-3)

    # In training, straight-through samples draw z from q: the loss is the bound on average.
    n, deviation = 20_000, (q * log_p_x_given_z.square()).sum() - (q * log_p_x_given_z).sum() ** 2
    dvae.quantizer.train()
    estimate = -24 * dvae(image.expand(n, -1, -1, -1), tau=0.5).total
    assert abs(estimate - elbo) < 4 * (deviation / n).sqrt() + 1e-3

    # In use there is no chance: the codes are q's largest, and the picture is as good as they say.
    best = q.argmax()
    assert torch.equal(dvae.encode(image).flatten(), z[best])
    dvae.quantizer.eval()
    torch.testing.assert_close(-24 * dvae(image).nll, log_p_x_given_z[best])


# The network -------------------------------------------------------------------------------------
@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_pictures_become_codes_and_codes_pictures(quantizer):
    """Catches wrong shapes, codes out of the codebook, and a picture that its batch changes."""
    dvae, images = DVAE(replace(TINY, quantizer=quantizer)).eval(), torch.rand(5, 3, 8, 8)
    codes = dvae.encode(images)
    assert codes.shape == (5, TINY.grid, TINY.grid) == (5, 2, 2) and codes.dtype == torch.int64
    assert set(codes.unique().tolist()) <= set(range(TINY.codes)) and len(codes.unique()) > 1
    assert torch.equal(dvae.encode(images[2:3]), codes[2:3])
    assert dvae.decode(codes).shape == images.shape
    with torch.no_grad():
        dvae.decoder[-2].weight.mul_(100)  # as sure of black and white as can be
    picture = dvae.decode(codes)
    assert picture.min() == 0 and picture.max() == 1


def test_decoded_picture_is_the_median():
    """Catches μ and ln b swapped, and a picture left in [ε, 1 − ε]: washed out."""
    dvae = DVAE(TINY).eval()
    head = dvae.decoder[-2]
    nn.init.zeros_(head.weight)
    with torch.no_grad():
        head.bias[: len(head.bias) // 2] = torch.logit(to_unit(torch.tensor(0.7)))
        head.bias[len(head.bias) // 2 :] = -5.0
    picture = dvae.decode(torch.zeros(1, 2, 2, dtype=torch.int64))
    torch.testing.assert_close(picture, torch.full((1, 3, 8, 8), 0.7))


def test_patches_unfold_as_they_were_folded():
    """Catches rows and columns swapped within a patch, which a network would learn around."""
    dvae, images = DVAE(replace(TINY, patch=4, widths=(8,))), torch.rand(2, 3, 8, 12)
    folded = dvae.encoder[0](images)
    assert folded.shape == (2, 48, 2, 3)
    unfolded = dvae.decoder[-1](torch.cat([folded, -folded], dim=1))
    assert torch.equal(unfolded, torch.cat([images, -images], dim=1))


def test_patch_one_and_four_widths_is_the_papers_network():
    """Catches a layout that drifts from appendix A.1 while its docstring says it is the paper's."""
    config = DVAEConfig(
        image_size=16, patch=1, widths=(4, 8, 16, 32), blocks=2, codes=8, code_width=4,
        encoder_num_3x3=3, decoder_num_3x3=3,
    )  # fmt: skip
    dvae = DVAE(config)
    assert (config.factor, config.grid) == (8, 2)
    for half, kernels in ((dvae.encoder, (3, 3, 3, 1)), (dvae.decoder, (1, 3, 3, 3))):
        blocks = [m for m in half.modules() if isinstance(m, Block)]
        assert len(blocks) == 8  # four groups of two
        for block in blocks:
            convolutions = [m for m in block.path if isinstance(m, nn.Conv2d)]
            assert tuple(c.kernel_size[0] for c in convolutions) == kernels
            assert [type(m) for m in block.path] == [nn.ReLU, nn.Conv2d] * 4
        around = [m for m in half if isinstance(m, nn.Conv2d)]
        assert [c.kernel_size[0] for c in around] == ([7, 1] if half is dvae.encoder else [1, 1])
    pools = [m for m in dvae.encoder.modules() if isinstance(m, nn.MaxPool2d)]
    ups = [m for m in dvae.decoder.modules() if isinstance(m, nn.Upsample)]
    assert len(pools) == len(ups) == 3 and {up.mode for up in ups} == {"nearest"}
    assert dvae.decode(dvae.eval().encode(torch.rand(1, 3, 16, 16))).shape == (1, 3, 16, 16)


@pytest.mark.parametrize(("patch", "widths"), [(4, (8,)), (2, (8, 16))])
def test_without_sight_a_code_knows_its_own_square_alone(patch, widths):
    """Catches a padding, a kernel or a normalisation through which a neighbour's pixels get in."""
    blind = replace(TINY, image_size=16, patch=patch, widths=widths, encoder_num_3x3=0)
    image = torch.rand(1, 3, 16, 16)
    for config, alone in ((blind, True), (replace(blind, encoder_num_3x3=1), False)):
        encoder, pixels = DVAE(config).eval().encoder, image.clone().requires_grad_()
        logits = encoder(pixels)  # 1 K 4 4: each square is 4 × 4 pixels
        (gradient,) = torch.autograd.grad(logits[0, :, 1, 2].square().sum(), pixels)
        reached = gradient.abs().sum((0, 1)) > 0
        square = torch.zeros(16, 16, dtype=torch.bool)
        square[4:8, 8:12] = True
        assert reached[square].any() and (not (reached & ~square).any()) == alone


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_every_quantizer_learns(quantizer):
    """Catches a gradient cut at the codes: a decoder that learns alone from a dead encoder."""
    dvae = DVAE(replace(TINY, quantizer=quantizer))
    images = torch.rand(16, 3, 1, 1).expand(16, 3, 8, 8).contiguous()  # each of one colour
    dvae(images, tau=0.5).nll.backward()
    assert dvae.encoder[1].weight.grad.norm() > 1e-4

    optimizer, history = torch.optim.AdamW(dvae.parameters(), lr=2e-2), []
    for step in range(30):
        loss = dvae(images, tau=0.5, progress=step / 30)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        history.append(loss.nll.item())
    assert sum(history[-5:]) / 5 < history[0] - 0.5
    with torch.no_grad():
        pictures = dvae.eval().decode(dvae.encode(images))
    own, others = ((pictures - images.roll(n, 0)).square().mean() for n in (0, 1))
    assert own < 0.85 * others  # what the codes say of a picture is true of it


def test_fsq_begins_with_its_codes_in_use():
    """Catches numbers so large that tanh gives only its ends, where it has no slope either."""
    dvae = DVAE(replace(TINY, quantizer="fsq", codes=64))
    z = dvae.quantizer(dvae.features(torch.rand(200, 3, 8, 8)), 0.5)
    assert z.entropy > 0.8 * math.log(64)


def test_small_pictures_have_small_grids():
    """Catches a layer that is bound to one size: a picture of half the side has half the grid."""
    dvae = DVAE(TINY).eval()
    for side in (4, 8, 16):
        codes = dvae.encode(torch.rand(1, 3, side, side))
        assert codes.shape == (1, side // 4, side // 4)
        assert dvae.decode(codes).shape == (1, 3, side, side)


# What a user can get wrong -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 10}, r"image_size 10 is not a multiple of 4"),
        ({"quantizer": "gumble"}, r"'gumble'; choose one of: gumbel, straight-through, vq, fsq"),
        ({"quantizer": "fsq", "codes": 22}, r"22 codes are no product of levels from 2 to 8"),
    ],
)
def test_a_wrong_config_is_refused(change, message):
    """Catches a fault that would show as a shape error deep inside the network."""
    with pytest.raises(MinidalleError, match=message):
        replace(TINY, **change)


def test_the_floor_under_b_falls_late():
    """Catches a floor that is low from the start, under which codes are lost to a perfect sky."""
    assert min_b_at(0.0) == min_b_at(0.6) == pytest.approx(1.0)
    assert min_b_at(0.9) == min_b_at(1.0) == pytest.approx(0.3)
    assert 0.3 < min_b_at(0.75) < 1.0


# Prototypes --------------------------------------------------------------------------------------
PROTOTYPES = DVAEConfig(
    image_size=8, patch=2, widths=(8,), blocks=1, codes=6, code_width=16, prototypes=True,
    information_bonus=0.0,
)  # fmt: skip


def test_k_means_finds_the_groups():
    """Catches centres that do not move, weights that are ignored, and an empty centre lost."""
    torch.manual_seed(0)
    groups = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = (groups[:, None] + 0.1 * torch.randn(3, 50, 2)).flatten(0, 1)
    found = [k_means(points, torch.ones(150), 3, seed=seed) for seed in range(8)]
    errors = [torch.cdist(groups, centres).min(1).values.max().item() for centres in found]
    assert min(errors) < 0.1  # chance begins badly now and then
    heavy = torch.tensor([[0.0], [1.0]])
    assert k_means(heavy, torch.tensor([3.0, 1.0]), 1).item() == pytest.approx(0.25)


def test_a_dvae_of_prototypes_begins_as_k_means():
    """Catches prototypes laid out in another order than squares, and a decoder that begins anew."""
    torch.manual_seed(0)
    tiles = torch.rand(6, 3, 2, 2)
    which = torch.randint(6, (40, 4, 4))
    images = tiles[which].permute(0, 3, 1, 4, 2, 5).reshape(40, 3, 8, 8)
    dvae = DVAE(PROTOTYPES).eval()
    dvae.set_prototypes(images)
    codes = dvae.encode(images)
    squares = images.unflatten(2, (4, 2)).unflatten(4, (4, 2)).permute(0, 2, 4, 1, 3, 5)
    prototypes = (dvae.quantizer.codebook[:, :12] + 1) / 2
    nearest = torch.cdist(squares.flatten(3).flatten(0, 2), prototypes).argmin(1)
    assert torch.equal(codes.flatten(), nearest)  # likeness is nearness
    assert len(codes.unique()) >= 4
    with torch.no_grad():
        for p in dvae.decoder.parameters():
            p.zero_()
    decoded = dvae.decode(codes)
    looks = prototypes[codes].unflatten(3, (3, 2, 2)).permute(0, 3, 1, 4, 2, 5).reshape(40, 3, 8, 8)
    torch.testing.assert_close(decoded, looks.clamp(0, 1), rtol=0, atol=1e-4)


def test_vectors_learn_and_prototypes_stay():
    """Catches a codebook that the decoder does not train, and codes that change their meaning."""
    torch.manual_seed(0)
    dvae, images = DVAE(PROTOTYPES), torch.rand(8, 3, 8, 8)
    dvae.set_prototypes(images)
    before, codes = dvae.prototypes.clone(), dvae.encode(images)
    optimizer = torch.optim.SGD(dvae.parameters(), lr=0.1)
    dvae(images, tau=1.0).total.backward()
    gradient = dvae.quantizer.codebook.grad
    assert (gradient[:, :12].abs().sum(1) > 0).all() and (gradient[:, 12:].abs().sum() > 0)
    assert dvae.log_sharpness.grad.abs() > 0
    optimizer.step()
    assert torch.equal(dvae.prototypes, before) and torch.equal(dvae.encode(images), codes)


def test_looks_are_the_middle_of_nine():
    """Catches looks of the border, and codes in another order."""
    torch.manual_seed(0)
    dvae = DVAE(PROTOTYPES).eval()
    looks = dvae.looks()
    assert looks.shape == (6, 12)
    picture = dvae.decode(torch.full((1, 3, 3), 4))
    torch.testing.assert_close(looks[4], picture[0, :, 2:4, 2:4].flatten())


def test_few_squares_still_make_all_prototypes():
    """Catches a k-means of more centres than there are points."""
    dvae = DVAE(PROTOTYPES)
    dvae.set_prototypes(torch.zeros(2, 3, 8, 8))
    assert (dvae.quantizer.codebook[:, :12] == -1).all()


@pytest.mark.parametrize(
    "change",
    [{"widths": (4, 8)}, {"quantizer": "vq"}, {"quantizer": "fsq", "codes": 8}, {"code_width": 11}],
    ids=str,
)
def test_prototypes_need_room(change):
    with pytest.raises(MinidalleError, match="prototypes need one width, Gumbel codes"):
        replace(PROTOTYPES, **change)
