"""The GAN: each network learns from its own loss only, and captions and noise reach the picture."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from minidalle.baselines.gan import GAN, GANConfig, ModulatedGroupNorm, TextEncoder
from minidalle.errors import MinidalleError
from minidalle.sampling import candidate_generators
from minidalle.tokenizer import Tokenizer
from minidalle.training.baseline_objectives import gan_objective
from minidalle.training.config import TrainConfig
from minidalle.training.presets import preset
from minidalle.training.run import TrainingRun
from minidalle.training.trainer import TrainState, fit
from minidalle.world.storybook import Storybook

B, T, SIZE = 6, 5, 16
TINY = GANConfig(
    vocab_size=12, text_length=T, image_size=SIZE, noise=4, width=8, text_width=16, text_layers=1,
    heads=2, r1_weight=0.3, r1_every=4,
)  # fmt: skip


@pytest.fixture
def gan():
    torch.manual_seed(0)
    return GAN(TINY)


def pairs(seed=0):
    """Images, captions and wrong captions; each ends in the padding of its positions."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(B, 3, SIZE, SIZE, generator=generator)
    text, wrong = torch.randint(12, (2, B, T), generator=generator)
    for ids in (text, wrong):
        ids[::2, 3:] = 12 + torch.arange(3, T)
    return images, text, wrong


def losses_of(gan, with_r1=False):
    torch.manual_seed(1)
    return gan(*pairs(), with_r1=with_r1)


def step_of(gan):
    """Vectors of captions and wrong captions, and fakes, as in `losses_of`."""
    _, text, wrong = pairs()
    captions, wrong_captions = gan.text_encoder(torch.cat([text, wrong])).split(B)
    torch.manual_seed(1)
    return captions, wrong_captions, gan.generator(captions.detach(), torch.randn(B, 4))


# The two losses ----------------------------------------------------------------------------------
def test_the_losses_are_those_of_their_definitions(gan):
    """Catches wrong shares of fakes and mismatches, a wrong caption that is scored as right, and
    a penalty on fakes."""
    images, losses = pairs()[0], losses_of(gan, with_r1=True)
    captions, wrong, fakes = step_of(gan)
    real, fake, mismatched = (
        [gan.discriminator(x[b : b + 1], t[b : b + 1]).item() for b in range(B)]
        for x, t in ((images, captions), (fakes, captions), (images, wrong))
    )
    expected = sum(
        max(0, 1 - real[b]) + 0.7 * max(0, 1 + fake[b]) + 0.3 * max(0, 1 + mismatched[b])
        for b in range(B)
    )
    assert losses.discriminator.item() == pytest.approx(expected / B, rel=1e-4)
    assert losses.generator.item() == pytest.approx(-sum(fake) / B, rel=1e-4)
    means = [np.mean(scores) for scores in (real, fake, mismatched)]
    assert [losses.real.item(), losses.fake.item(), losses.mismatched.item()] == pytest.approx(
        means, rel=1e-4
    )
    parts = losses.generator + losses.discriminator + losses.r1
    assert losses.total.item() == pytest.approx(parts.item())


def test_each_network_learns_from_its_own_loss_alone(gan):
    """Catches a discriminator that helps the generator, and a generator that learns to be found
    out."""
    losses = losses_of(gan)
    g = list(gan.generator.parameters())
    d = [*gan.discriminator.parameters(), *gan.text_encoder.parameters()]

    def gradient(loss, parameters):
        return torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)

    assert all(x is None for x in gradient(losses.generator, d))
    assert all(x is None for x in gradient(losses.discriminator, g))
    own = gradient(losses.generator, g), gradient(losses.discriminator, d)
    both = gradient(losses.total, [*g, *d])
    for one, other in zip(both, [*own[0], *own[1]], strict=True):
        torch.testing.assert_close(one, other)
    captions, _, fakes = step_of(gan)
    plain = -gan.discriminator(fakes, captions).mean()
    for one, other in zip(own[0], gradient(plain, g), strict=True):
        torch.testing.assert_close(one, other)


def test_the_penalty_is_the_slope_at_real_pairs(gan):
    """Catches a penalty without its weight, at every step, or on the wrong pictures."""
    images, epsilon = pairs()[0], 1e-3
    assert losses_of(gan).r1.item() == 0
    captions, _, _ = step_of(gan)
    with torch.no_grad():
        slopes = []
        generator = torch.Generator().manual_seed(5)
        for _ in range(200):  # E[ (u · ∇)² ] = ‖∇‖² for directions u of unit variance
            u = epsilon * torch.randn(B, 3, SIZE, SIZE, generator=generator)
            up, down = (gan.discriminator(images + s * u, captions) for s in (1, -1))
            slopes.append(((up - down) / (2 * epsilon)).square())
        total = torch.stack(slopes).mean().item()
    losses = losses_of(gan, with_r1=True)
    assert losses.r1.item() == pytest.approx(4 * 0.3 * total / 2, rel=0.15)
    (felt,) = torch.autograd.grad(losses.r1, gan.discriminator.features[0].weight)
    assert felt.abs().max() > 0


# The parts ---------------------------------------------------------------------------------------
def test_modulated_norm_against_a_loop():
    """Catches gains shared by channels or by pictures, and a gain around zero."""
    torch.manual_seed(0)
    norm, x, style = ModulatedGroupNorm(6, 5, groups=2), torch.randn(3, 6, 4, 4), torch.randn(3, 5)
    y = norm(x, style)
    for b in range(3):
        gain, bias = norm.modulation(style[b]).split(6)
        for c in range(6):
            group = x[b, 3 * (c // 3) : 3 * (c // 3) + 3]
            centred = (x[b, c] - group.mean()) / (group.var(unbiased=False) + 1e-5).sqrt()
            torch.testing.assert_close(y[b, c], (1 + gain[c]) * centred + bias[c])


def test_the_text_encoder_takes_the_mean_over_words():
    """Catches padding in the mean, an empty caption that is divided by zero, and captions that
    share most of their vector."""
    torch.manual_seed(0)
    encoder, (_, text, _) = TextEncoder(TINY), pairs()
    common = encoder(text)
    torch.testing.assert_close(common.mean(0), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(common.std(0, unbiased=False), torch.ones(16), atol=1e-3, rtol=0)
    encoder.norm = nn.Identity()
    seen = []
    encoder.transformer.register_forward_hook(lambda _, inputs, y: seen.append(y))
    vectors = encoder(text)
    for b in range(B):
        words = [seen[0][b, t] for t in range(T) if text[b, t] < 12]
        torch.testing.assert_close(vectors[b], torch.stack(words).mean(0))
    assert torch.equal(encoder(12 + torch.arange(T)[None]), torch.zeros(1, 16))


def test_scores_are_a_judgement_and_a_projection(gan):
    """Catches a projection on another caption of the batch."""
    d, f, e = gan.discriminator, *torch.randn(2, B, 16)
    scores = d.score(f, e)
    assert scores.dtype == torch.float32 and scores.shape == (B,)
    for b in range(B):
        expected = d.is_real.weight[0] @ f[b] + d.is_real.bias[0] + e[b] @ f[b] / math.sqrt(16)
        assert scores[b].item() == pytest.approx(expected.item(), rel=1e-5)


def test_drawings_follow_caption_and_noise():
    """Catches noise that reaches nothing, and a candidate that depends on how many there are."""
    torch.manual_seed(0)
    gan = GAN(TINY).eval()
    _, text, _ = pairs()
    noise = gan.sample_noise(candidate_generators(0, B))
    images = gan.draw(text, noise)
    assert images.shape == (B, 3, SIZE, SIZE) and not images.requires_grad
    assert images.min() >= 0 and images.max() <= 1
    assert torch.equal(noise[:2], gan.sample_noise(candidate_generators(0, 2)))
    torch.testing.assert_close(gan.draw(text[:2], noise[:2]), images[:2])
    assert (gan.draw(text[:1].expand(B, -1), noise).std(0).mean()) > 1e-3
    assert (gan.draw(text, noise[:1].expand(B, -1)).std(0).mean()) > 1e-3


def test_sizes_that_do_not_fit_are_refused():
    for sizes in ({"image_size": 20}, {"width": 12}):
        with pytest.raises(MinidalleError, match="multiple of 8"):
            replace(TINY, **sizes)


# Training ----------------------------------------------------------------------------------------
class Flags:
    """A source of two captions and pictures of one colour each."""

    size, epoch = SIZE, None

    def training_image(self, i, *, colour_jitter):
        return np.full((SIZE, SIZE, 3), (220, 30, 30) if i % 2 else (30, 30, 220), np.uint8)

    def training_caption(self, i, *, colour_jitter):
        return "red" if i % 2 else "blue"

    def mismatched_caption(self, i):
        return self.training_caption(i + 1, colour_jitter=False)


def flags(steps, lr=2e-3):
    """A GAN to be trained on flags."""
    tokenizer = Tokenizer.train(["red", "blue"] * 4, 270)
    config = replace(TINY, vocab_size=tokenizer.vocab_size, r1_every=16)
    training = TrainConfig(
        steps=steps, batch_size=8, lr=lr, betas=(0.0, 0.99), weight_decay=0.0, warmup_steps=1,
        max_grad_norm=100.0, ema_decay=0.9,
    )  # fmt: skip
    torch.manual_seed(0)
    state = TrainState.start(GAN(config), training)
    objective = gan_objective(Flags(), tokenizer, training, torch.device("cpu"))
    return state, objective, tokenizer


def test_one_step_changes_both_networks_the_discriminator_by_half():
    """Catches a network that stands still, and one learning rate for both."""
    state, objective, _ = flags(steps=4, lr=1e-3)
    before = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    next(fit(state, objective))
    changes = {n: (p.detach() - before[n]).abs() for n, p in state.model.named_parameters()}
    largest = {
        part: max(c.max().item() for n, c in changes.items() if n.startswith(part))
        for part in ("generator.", "discriminator.")
    }  # of Adam's first step: the learning rate
    assert largest == pytest.approx({"generator.": 1e-3, "discriminator.": 5e-4}, rel=1e-2)
    assert all(c.max() > 0 for n, c in changes.items() if "features" in n or "blocks" in n)


def test_it_learns_which_colour_a_caption_means():
    """Catches a generator that does not read, and a training that falls apart."""
    state, objective, tokenizer = flags(steps=96, lr=4e-3)
    records = list(fit(state, objective))
    text = tokenizer.batch(["red", "blue"], T)
    noise = state.ema.sample_noise(candidate_generators(0, 2))
    red, blue = state.ema.draw(text, noise).mean((2, 3))  # 3 each
    assert red[0] - blue[0] > 0.05 and blue[2] - red[2] > 0.05
    assert records[-1].losses["real"] - records[-1].losses["mismatched"] > 1
    assert [r.step for r in records if r.losses["r1"] > 0] == [16, 32, 48, 64, 80, 96]


def test_examples_are_read_by_their_number():
    """Catches a microbatch that reads the rows of another, and a wrong caption that is right."""
    state, objective, tokenizer = flags(steps=4)
    seen = []
    state.model.forward = lambda *inputs, with_r1: seen.append((*inputs, with_r1))
    objective(state.model, 5, 0.0, range(3, 5))
    (images, text, wrong, with_r1) = seen[0]
    assert images[:, 0].mean((1, 2)).tolist() == pytest.approx([220 / 255, 30 / 255])
    assert torch.equal(text, tokenizer.batch(["red", "blue"], T))
    assert torch.equal(wrong, text.flip(0)) and not with_r1
    objective(state.model, 15, 0.0, range(2))
    assert seen[1][3]


@pytest.mark.filterwarnings("ignore:caption cut")
def test_the_stage_trains_and_loads(tmp_path):
    """Catches a row of the table that cannot be built, and sizes that do not follow the source."""
    run = TrainingRun(preset("smoke"), Storybook(size=24, lone=True), tmp_path)
    records = list(run.train("gan"))
    assert len(records) == preset("smoke").training["gan"].steps
    gan = run.model("gan")
    assert gan.config.image_size == 24 and gan.config.vocab_size == run.tokenizer().vocab_size
    text = run.tokenizer().batch(["a red car"], gan.config.text_length)
    assert gan.draw(text, gan.sample_noise(candidate_generators(0, 1))).shape == (1, 3, 24, 24)
