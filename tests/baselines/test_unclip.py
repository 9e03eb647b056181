"""unCLIP: each condition reaches the picture where it should and nowhere else."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from minidalle.baselines import unclip as module
from minidalle.baselines.denoisers import (
    AdaptiveBlock,
    PictureDenoiser,
    TextEncoder,
    VectorDenoiser,
    adaptive,
)
from minidalle.baselines.flow import euler
from minidalle.baselines.unclip import UnCLIP, UnCLIPConfig, slerp
from minidalle.bundle import load_bundle
from minidalle.errors import MinidalleError
from minidalle.sampling import candidate_generators
from minidalle.tensors import to_tensor
from minidalle.training import baseline_stages
from minidalle.training.presets import preset
from minidalle.training.run import TrainingRun
from minidalle.world.storybook import Storybook

WORDS, T, E = 11, 5, 6
TINY = UnCLIPConfig(
    vocab_size=WORDS, text_length=T, embedding=E, image_size=8, patch=4, width=16, layers=2,
    text_layers=1, heads=2, context=2, channels=8, prior_width=16, prior_layers=2,
)  # fmt: skip
CPU = torch.device("cpu")


def loud(model):
    """Every weight random and far from zero."""
    torch.manual_seed(0)
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    return model.eval()


@pytest.fixture
def model():
    model = loud(UnCLIP(TINY))
    model.set_vector_statistics(nn.functional.normalize(torch.randn(50, E) + 1, dim=1))
    return model


def captions(*lengths):
    """Captions of so many words, then padding of its own at each position."""
    generator = torch.Generator().manual_seed(1)
    text = torch.arange(WORDS, WORDS + T).repeat(len(lengths), 1)
    for row, n in zip(text, lengths, strict=True):
        row[:n] = torch.randint(WORDS, (n,), generator=generator)
    return text


def vectors(n, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(n, E, generator=generator), dim=1)


# The networks ------------------------------------------------------------------------------------
def test_adaptive_norm_starts_as_the_identity():
    """Catches a modulation that starts at random, which a deep stack amplifies."""
    torch.manual_seed(0)
    block, x = AdaptiveBlock(16, 2), torch.randn(3, 7, 16)
    assert torch.equal(block(x, torch.randn(3, 1, 16), torch.randn(7, 4)), x)
    picture, vector = PictureDenoiser(8, 4, 16, 2, 2, 2, 8), VectorDenoiser(E, 16, 2, 16)
    for network, shape in ((picture, (3, 3, 8, 8)), (vector, (3, E))):
        assert not network(torch.randn(shape), torch.rand(3), torch.randn(3, 2, 16)).any()


def test_adaptive_norm_equals_the_formula():
    """Catches shift, scale and gate taken for one another, and a norm that is left out."""
    torch.manual_seed(0)
    x, modulation = torch.randn(4, 5, 8), torch.randn(4, 1, 24)
    norm, layer = nn.LayerNorm(8), nn.Linear(8, 8)
    y = adaptive(x, norm, layer, modulation)
    for b in range(4):
        shift, scale, gate = modulation[b, 0, :8], modulation[b, 0, 8:16], modulation[b, 0, 16:]
        for s in range(5):
            row = (x[b, s] - x[b, s].mean()) / (x[b, s].var(correction=0) + norm.eps) ** 0.5
            expected = x[b, s] + gate * layer(row * (1 + scale) + shift)
            torch.testing.assert_close(y[b, s], expected)


def test_folding_and_unfolding_are_inverses():
    """Catches cells or patches in another order, or with their rows and columns exchanged."""
    network, images = PictureDenoiser(12, 4, 16, 1, 2, 2, 8), torch.rand(2, 3, 12, 12)
    cells = network.fold(images)
    assert cells.shape == (2, 12, 6, 6)
    assert torch.equal(cells[1, :, 4, 1], images[1, :, 8:10, 2:4].flatten())
    assert torch.equal(network.unfold(cells), images)
    patches = network.merge(cells)
    assert patches.shape == (2, 9, 48)
    assert torch.equal(patches[1, 6], cells[1, :, 4:, :2].flatten())  # row 2, column 0
    assert torch.equal(network.split(patches), cells)


def test_the_denoisers_see_input_time_and_context():
    """Catches a network that ignores one of the three, and rows that mix."""
    torch.manual_seed(0)
    picture, vector = (
        loud(PictureDenoiser(8, 4, 16, 2, 2, 2, 8)),
        loud(VectorDenoiser(E, 16, 2, 16)),
    )
    for network, shape in ((picture, (3, 3, 8, 8)), (vector, (3, E))):
        inputs = [torch.randn(shape), torch.rand(3), torch.randn(3, 2, 16)]
        y = network(*inputs)
        assert y.shape == shape
        for i in range(3):
            changed = [x.clone() for x in inputs]
            changed[i][1] += 0.5
            difference = (network(*changed) - y).flatten(1).abs().max(1).values
            assert difference[1] > 1e-3 and difference[[0, 2]].max() < 1e-5


def test_padding_does_not_reach_the_context_tokens():
    """Catches a caption whose tokens depend on the longest caption of its batch."""
    encoder = loud(TextEncoder(WORDS, T, 16, 2, 2, 3))
    text = captions(3, 5, 0)
    together = encoder(text)
    assert together.shape == (3, 3, 16)
    for b in range(3):
        torch.testing.assert_close(encoder(text[b : b + 1])[0], together[b], rtol=0, atol=1e-5)
    for position in range(3):  # and every word does
        changed = text.clone()
        changed[0, position] = (changed[0, position] + 1) % WORDS
        assert ((encoder(changed)[0] - together[0]).abs().amax(-1) > 1e-3).all()


def test_context_tokens_are_standardised_over_a_batch():
    """Catches tokens whose mean hides what differs from one caption to the next."""
    torch.manual_seed(0)
    encoder, text = TextEncoder(WORDS, T, 16, 2, 2, 3), torch.randint(WORDS, (64, T))
    tokens = encoder(text)
    torch.testing.assert_close(tokens.mean(0), torch.zeros(3, 16), rtol=0, atol=1e-5)
    torch.testing.assert_close(tokens.var(0, correction=0), torch.ones(3, 16), rtol=0, atol=0.05)
    for _ in range(150):  # and in use by the running statistics
        encoder(text)
    torch.testing.assert_close(encoder.eval()(text), tokens, rtol=0, atol=0.05)


# What is left out in training --------------------------------------------------------------------
def contexts(monkeypatch, shares, n=6000):
    """The contexts of prior and decoder in one training batch: tokens of captions, and of both."""
    model = loud(UnCLIP(replace(TINY, shares=shares)))
    seen = {}

    def flow_loss(denoiser, x):
        seen[denoiser.func] = denoiser.keywords["context"]
        return x.sum()

    monkeypatch.setattr(module, "flow_loss", flow_loss)
    text, z = captions(4).expand(n, -1), vectors(1).expand(n, -1)
    model(torch.rand(n, 3, 8, 8), text, z)
    tokens, empty = model.encode_text(text[:1])
    with_vector, without = (model.vector_context(v)[0] for v in (z[:1], torch.zeros(1, E)))
    both = seen[model.decoder]
    return {
        "prior": is_near(seen[model.prior], tokens, empty),
        "caption": is_near(both[:, :2], tokens, empty),
        "vector": is_near(both[:, 2:].flatten(1), with_vector, without),
    }


def is_near(rows, yes, no):
    """Which rows are `yes`; all others must be `no`."""
    distances = [(rows - value).flatten(1).abs().amax(1) for value in (yes, no)]
    assert (torch.minimum(*distances) < 1e-4).all()
    return distances[0] < distances[1]


def test_conditions_are_left_out_in_the_shares_asked_for(monkeypatch):
    """Catches shares in another order, caption and vector dropped at once, and a prior that is
    shown the empty caption where only the decoder should be."""
    shares = (0.4, 0.3, 0.2, 0.1)
    kept = contexts(monkeypatch, shares)
    caption, vector = kept["caption"], kept["vector"]
    cases = [caption & vector, ~caption & vector, caption & ~vector, ~caption & ~vector]
    for case, share in zip(cases, shares, strict=True):
        spread = (share * (1 - share) / len(case)) ** 0.5
        assert case.float().mean().item() == pytest.approx(share, abs=4 * spread)
    assert torch.equal(kept["prior"], caption | vector)


def test_losses_are_summed_and_both_networks_learn():
    """Catches a loss that is not in the sum, and a part without a gradient."""
    torch.manual_seed(0)
    model = loud(UnCLIP(replace(TINY, prior_weight=0.25)))
    losses = model(torch.rand(64, 3, 8, 8), captions(*[4] * 64), vectors(64))
    torch.testing.assert_close(losses.total, 0.25 * losses.prior + losses.decoder)
    losses.total.backward()
    lacking = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not lacking


def test_vectors_are_standardised_and_back(model):
    """Catches statistics of the wrong axis, and a sampler that forgets to undo them."""
    z = vectors(400, seed=7) * 0.3 + torch.linspace(-1, 1, E)
    model.set_vector_statistics(z)
    torch.testing.assert_close(model.standardise(z).mean(0), torch.zeros(E), rtol=0, atol=1e-5)
    torch.testing.assert_close(model.standardise(z).std(0), torch.ones(E))
    again = UnCLIP(TINY)
    again.load_state_dict(model.state_dict())  # saved with the weights
    assert torch.equal(again.standardise(z), model.standardise(z))
    wanted = nn.functional.normalize(torch.arange(1.0, E + 1), dim=0)
    model.prior.forward = lambda x, t, context: model.standardise(wanted).expand(len(x), -1)
    drawn = model.sample_vectors(captions(3), candidate_generators(0, 4), steps=3)
    torch.testing.assert_close(drawn, wanted.expand(4, -1))


# Drawing -----------------------------------------------------------------------------------------
def test_guidance_1_equals_no_guidance_bit_for_bit(model):
    """Catches a picture that depends on the unconditional prediction without guidance."""
    text, z = captions(4), vectors(1)
    drawn = model.draw(text, candidate_generators(0, 2), steps=3, guidance=1.0, vector=z)
    noise = torch.stack([torch.randn(3, 8, 8, generator=g) for g in candidate_generators(0, 2)])
    context = model.decoder_context(
        model.encode_text(text)[0].expand(2, -1, -1), model.standardise(z).expand(2, -1)
    )
    with torch.no_grad():
        expected = euler(lambda x, t: model.decoder(x, t, context), noise, 3)
    assert torch.equal(drawn, ((expected + 1) / 2).clamp(0, 1))
    guided = model.draw(text, candidate_generators(0, 2), steps=3, guidance=3.0, vector=z)
    assert not torch.equal(guided, drawn)


def test_a_condition_that_is_not_used_changes_nothing(model):
    """Catches a vector or a caption that leaks into a drawing without it."""

    def draw(text, **settings):
        return model.draw(text, candidate_generators(0, 2), steps=2, **settings)

    one, other, a, b = captions(4), captions(2), vectors(1), vectors(1, seed=3)
    assert torch.equal(draw(one, use_vector=False, vector=a), draw(one, use_vector=False))
    assert not torch.equal(draw(one, use_vector=False), draw(other, use_vector=False))
    assert torch.equal(
        draw(one, vector=a, use_caption=False), draw(other, vector=a, use_caption=False)
    )
    assert not torch.equal(draw(one, vector=a), draw(one, vector=b))
    assert not torch.equal(draw(one, vector=a), draw(other, vector=a))
    # By default the prior samples the vector from the caption, whether the decoder reads it or not.
    assert not torch.equal(draw(one), draw(one, use_vector=False))
    assert not torch.equal(draw(one, use_caption=False), draw(other, use_caption=False))


def test_a_picture_is_the_same_in_any_company(model):
    """Catches noise that depends on how many pictures are drawn, and captions that mix."""
    text = captions(4, 2, 5)
    many = model.draw(text, candidate_generators(0, 3), steps=3)
    assert many.shape == (3, 3, 8, 8) and many.min() >= 0 and many.max() <= 1
    for i in range(3):
        one = model.draw(text[i : i + 1], candidate_generators(0, 3)[i : i + 1], steps=3)
        torch.testing.assert_close(one[0], many[i], rtol=0, atol=1e-4)
    with pytest.raises(MinidalleError, match="give 1 or 4, not 3"):
        model.draw(text, candidate_generators(0, 4), steps=1)
    with pytest.raises(MinidalleError, match="give 1 or 4, not 2"):
        model.variations(vectors(2), candidate_generators(0, 4), steps=1)


def test_variations_are_of_the_vector_alone(model):
    """Catches a variation that a caption has a part in; noise alone tells two of them apart."""
    z = vectors(1)[0]
    drawn = model.variations(z, candidate_generators(0, 3), steps=3)
    expected = model.draw(
        captions(5), candidate_generators(0, 3), steps=3, vector=z, use_caption=False
    )
    assert torch.equal(drawn, expected) and not torch.equal(drawn[0], drawn[1])


def test_slerp_goes_along_the_circle_at_equal_angles():
    """Catches a straight line in place of the arc, and ends that are left out."""
    for degrees in (30, 90, 170):
        angle = math.radians(degrees)
        a, b = torch.tensor([1.0, 0.0]), torch.tensor([math.cos(angle), math.sin(angle)])
        angles = torch.linspace(0, angle, 5)
        expected = torch.stack([angles.cos(), angles.sin()], dim=1)
        torch.testing.assert_close(slerp(2 * a, 3 * b, 5), expected, rtol=0, atol=1e-5)
    a, b = vectors(2).double()
    share, angle = 0.25, torch.acos(a @ b)  # Shoemake 1985
    expected = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()
    torch.testing.assert_close(slerp(a, b, 5)[1], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(slerp(a, a, 3), a.expand(3, -1))


def test_an_interpolation_ends_at_its_two_pictures(model):
    """Catches noise that changes along the way, which would hide what the vectors do."""
    a, b = vectors(2)
    way = model.interpolate(a, b, 4, seed=5, steps=3)
    for image, vector in ((way[0], a), (way[-1], b)):
        end = model.variations(vector, [torch.Generator().manual_seed(5)], steps=3)[0]
        torch.testing.assert_close(image, end, rtol=0, atol=1e-4)
    assert all(not torch.equal(x, y) for x, y in pairwise(way))


def test_captions_and_vectors_are_learnt_by_heart():
    """Catches pixels of another range, targets that no input predicts, and flows run backwards."""
    torch.manual_seed(0)
    model = UnCLIP(replace(TINY, layers=1, shares=(0.2, 0.4, 0.3, 0.1), prior_weight=1.0))
    text, z = captions(2, 5), vectors(2)
    images = torch.tensor([[1.0, 0.0, 0.2], [0.1, 0.6, 1.0]])[..., None, None].expand(2, 3, 8, 8)
    model.set_vector_statistics(z)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        batch = [x.repeat_interleave(16, 0) for x in (images, text, z)]
        model(*batch).total.backward()
        optimizer.step()
    model.eval()
    drawn = model.sample_vectors(text, candidate_generators(0, 2))
    assert (drawn - z).norm(dim=1).max() < 0.3
    for settings in ({"use_vector": False}, {"vector": z, "use_caption": False}, {}):
        drawn = model.draw(text, candidate_generators(0, 2), guidance=1.5, **settings)
        assert (drawn - images).abs().mean((1, 2, 3)).max() < 0.1, settings


# The stage ---------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:caption cut")
def test_the_stage_trains_on_the_vectors_of_its_own_pictures(smoke_bundle, tmp_path, monkeypatch):
    """Catches vectors or captions of other pictures, and vectors that are never standardised."""
    monkeypatch.setattr(baseline_stages, "STATISTICS_IMAGES", 32)
    book = Storybook(lone=True)
    run = TrainingRun(preset("smoke"), book, tmp_path, CPU, init=load_bundle(smoke_bundle))
    calls, forward = [], UnCLIP.forward

    def recorded(self, images, text, vectors):
        calls.append((images, text, vectors))
        return forward(self, images, text, vectors)

    monkeypatch.setattr(UnCLIP, "forward", recorded)
    records = list(run.train("unclip"))
    assert [r.step for r in records] == list(range(1, run.steps("unclip") + 1))
    clip, tokenizer, n = run.model("clip"), run.tokenizer(), 4
    for step in (0, 5):
        examples = range(step * n, (step + 1) * n)
        images = to_tensor([book.training_image(i, colour_jitter=False) for i in examples], CPU)
        text = [book.training_caption(i, colour_jitter=False) for i in examples]
        assert torch.equal(calls[step][0], images)
        assert torch.equal(calls[step][1], tokenizer.batch(text, 48))
        torch.testing.assert_close(calls[step][2], clip.encode_image(images))
        assert not calls[step][2].requires_grad
    trained = run.model("unclip")
    images = to_tensor([book.training_image(i, colour_jitter=False) for i in range(32)], CPU)
    torch.testing.assert_close(trained.vector_mean, clip.encode_image(images).mean(0))
    assert trained.config.embedding == clip.config.embedding
    drawn = trained.draw(tokenizer.batch(["a red car"], 48), candidate_generators(0, 2), steps=2)
    assert drawn.shape == (2, 3, 48, 48)


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 9},
        {"patch": 1},
        {"heads": 3},
        {"shares": (0.5, 0.5)},
        {"shares": (0.5, 0.5, 0.5, 0.5)},
    ],
)
def test_a_wrong_shape_is_refused(change):
    with pytest.raises(MinidalleError, match=r"image_size|patch|width|shares"):
        replace(TINY, **change)
