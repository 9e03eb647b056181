"""Encoder and decoder: no code leaks, no padding counts, and drawing follows the probabilities."""

import functools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from minidalle.attention import layer_kinds, stream_mask
from minidalle.baselines.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from minidalle.errors import MinidalleError
from minidalle.prior import Prior
from minidalle.sampling import SamplingConfig, candidate_generators, sample_codes
from minidalle.training.presets import preset
from minidalle.training.run import TrainingRun
from minidalle.training.trainer import TrainState, fit
from minidalle.world.storybook import Storybook
from tests.test_prior import nll
from tests.test_sampling import ALL, MANY, count, slow_filter, surprise

WORDS, T, K, GRID = 11, 4, 7, 3
N = GRID**2
TINY = EncoderDecoderConfig(
    vocab_size=WORDS, text_length=T, codes=K, grid=GRID, width=16, encoder_layers=2,
    decoder_layers=3, heads=2, kernel=3, look_size=12,
)  # fmt: skip
LENGTHS = (4, 2, 0, 1, 3)  # words of the captions below


def shaken(config):
    """Every weight random and far from zero, in double precision."""
    torch.manual_seed(0)
    model = EncoderDecoder(config)
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    if config.look_size:
        model.set_looks(torch.randn(config.codes, config.look_size))
    return model.double().eval()


def pairs(batch=5):
    """Captions of LENGTHS words, then padding as the tokenizer has it; and codes."""
    generator = torch.Generator().manual_seed(1)
    text = torch.arange(WORDS, WORDS + T).repeat(batch, 1)
    for row, n in zip(text, LENGTHS, strict=False):
        row[:n] = torch.randint(WORDS, (n,), generator=generator)
    return text, torch.randint(K, (batch, N), generator=generator)


# The decoder -------------------------------------------------------------------------------------
def test_a_code_sees_the_past_only():
    """Catches a mask that leaks the future, and codes shifted by one."""
    model, (text, codes) = shaken(TINY), pairs()
    logits = model.logits(text, codes)
    assert logits.shape == (5, N, K)
    for p in range(N):
        changed = codes.clone()
        changed[:, p] = (changed[:, p] + 1) % K
        found = model.logits(text, changed)
        assert torch.equal(found[:, : p + 1], logits[:, : p + 1])
        if p + 1 < N:
            assert not torch.equal(found[:, p + 1], logits[:, p + 1])


def test_the_gradient_reaches_exactly_what_the_masks_allow():
    """Catches a leak that equal values hide, and masks laid one position beside the stream."""
    model, seen = shaken(TINY), []
    model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    rows = [row.square().sum() for row in model.logits(*pairs(1))[0]]
    gradients = [torch.autograd.grad(row, seen[0], retain_graph=True)[0][0] for row in rows]
    reached = torch.stack([g.abs().sum(-1) > 0 for g in gradients])  # outputs × inputs
    expected = torch.eye(N)
    for kind in layer_kinds(3):
        expected = stream_mask(kind, 1, GRID, 3)[:N, :N].float() @ expected
    assert torch.equal(reached, expected > 0)


def test_the_stream_is_a_start_and_the_codes_in_their_places():
    """Catches rows swapped with columns, another order, and a start that is the caption's."""
    model, (text, codes) = shaken(TINY), pairs(2)
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.logits(text, codes)
    vectors = model.code_vectors()
    for b in range(2):
        assert torch.equal(seen[0][b, 0], model.code_start)
        for p in range(N - 1):
            place = model.row.weight[p // GRID] + model.column.weight[p % GRID]
            torch.testing.assert_close(seen[0][b, 1 + p], vectors[codes[b, p]] + place)


# The encoder -------------------------------------------------------------------------------------
def test_every_code_and_every_word_sees_every_word():
    """Catches an encoder that is causal, a decoder that reads BOS alone, and captions unread."""
    model, (text, codes) = shaken(TINY), pairs(1)
    (context, mask), logits = model.encode(text), model.logits(text, codes)
    assert mask.all() and context.shape == (1, 1 + T, 16)
    for t in range(T):
        changed = text.clone()
        changed[:, t] = (changed[:, t] + 1) % WORDS
        assert (model.encode(changed)[0] != context).any(-1).all()
        assert (model.logits(changed, codes) != logits).any(-1).all()


@pytest.mark.parametrize("learned", [True, False])
def test_the_order_of_words_counts(learned):
    """Catches an encoder that reads a bag of words, by learned positions or by rotary ones."""
    model, (text, codes) = shaken(TINY), pairs(1)
    if learned:
        model.text_angles.zero_()
    else:
        model.text_position.weight.data.zero_()
    logits = model.logits(text, codes)
    assert (
        model.logits(text[:, [1, 0, 2, 3]], codes) - logits
    ).abs().max() > 1e-6  # else, rounding


def test_padding_has_no_influence():
    """Catches padding that is a key, of either attention; and a position that is counted twice."""
    model, (text, codes) = shaken(TINY), pairs()
    expected, padding = model.logits(text, codes), text >= WORDS
    other = torch.randint(WORDS, 10_000, text.shape).where(padding, text)
    assert torch.equal(model.logits(other, codes), expected)
    for row, n in enumerate(LENGTHS):
        for length in range(n, T + 1):
            alone = model.logits(text[row : row + 1, :length], codes[row : row + 1])
            torch.testing.assert_close(alone[0], expected[row], rtol=0, atol=1e-12)


def test_no_gradient_reaches_padding():
    """Catches padding that a comparison of values misses: its vectors must learn nothing."""
    model, (text, codes), read = shaken(TINY), pairs(), []
    model.text_token.register_forward_hook(lambda _, inputs, output: read.append(output))
    loss = model(text, codes).total
    (gradient,) = torch.autograd.grad(loss, read[0])
    assert torch.equal(gradient.abs().sum(-1) > 0, text < WORDS)


@pytest.mark.parametrize("training", [False, True])
def test_an_empty_caption_is_finite(training):
    """Catches NaN, the softmax of nothing, in the loss, in a gradient or while drawing."""
    model = shaken(replace(TINY, dropout=0.2)).train(training)
    empty, codes = torch.arange(WORDS, WORDS + T).repeat(2, 1), pairs(2)[1]
    losses = model(empty, codes)
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert model.text_start.grad.abs().sum() > 0  # BOS is all that there is
    *_, drawn = sample_codes(
        model.eval(), empty[:1], empty[:1], SamplingConfig(guidance=2), candidate_generators(0, 2)
    )
    assert drawn.shape == (2, N)


def test_a_row_is_the_same_in_any_company():
    """Catches a mask of one caption that another has, and anything averaged over the batch."""
    model, (text, codes) = shaken(TINY), pairs()
    together = model.logits(text, codes)
    for b in range(5):
        alone = model.logits(text[b : b + 1], codes[b : b + 1])
        torch.testing.assert_close(alone[0], together[b], rtol=0, atol=1e-12)


# Drawing -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [1, 3])
def test_cached_logits_equal_uncached(n):
    """Catches a cache, a mask row or an angle that is one step behind, and candidates that are
    dealt to others' captions."""
    model, (text, _) = shaken(TINY), pairs()
    codes = torch.randint(K, (5 * n, N))
    expected = model.logits(text.repeat_interleave(n, 0), codes)
    state, logits = model.prefill(text)
    torch.testing.assert_close(logits, expected[::n, 0], rtol=0, atol=1e-12)
    state.repeat(n)
    for p in range(N - 1):
        logits = model.decode_step(codes[:, p], p, state)
        torch.testing.assert_close(logits, expected[:, p + 1], rtol=0, atol=1e-12)


def test_the_caption_is_encoded_once():
    """Catches a context whose keys and values are computed at every step, or for each candidate."""
    model, (text, codes) = shaken(TINY), pairs(1)
    state, _ = model.prefill(text)
    state.repeat(6)
    kept = [cache.context for cache in state.decoding.caches]
    calls = []
    for block in model.decoder.blocks:
        block.cross_attention.k_norm.register_forward_hook(lambda *_: calls.append(1))
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    for p in range(N - 1):
        model.decode_step(codes[:, p].expand(6), p, state)
    assert not calls
    for cache, (keys, values) in zip(state.decoding.caches, kept, strict=True):
        assert cache.context[0] is keys and cache.context[1] is values
        assert keys.shape == (1, 2, 1 + T, 8)


SMALL = replace(TINY, vocab_size=5, text_length=3, codes=4, grid=2, decoder_layers=2)
TEXT, NULL = torch.tensor([[3, 1, 7]]), torch.arange(5, 8)[None]  # two words, and none


@functools.cache
def small():
    """Far from uniform, and the caption has much to say."""
    model = shaken(SMALL)
    model.text_token.weight.data.mul_(3)
    return model.requires_grad_(False)


def exact(config, evidence=None):
    """The probability of each picture of ALL, from uncached logits and the slow filter."""
    cond, uncond = (small().logits(text.expand(len(ALL), -1), ALL) for text in (TEXT, NULL))
    logits = uncond + config.guidance * (cond - uncond)
    logits = logits if evidence is None else logits + evidence
    kept = [slow_filter(row, config) for row in logits.flatten(0, 1).tolist()]
    p = torch.tensor(kept, dtype=torch.float64).softmax(-1)
    return p.gather(1, ALL.flatten()[:, None]).reshape(-1, 4).prod(1)


def drawn(config, evidence=None):
    generators = candidate_generators(0, MANY)
    *_, codes = sample_codes(small(), TEXT, NULL, config, generators, evidence=evidence)
    return count(codes)


@pytest.mark.parametrize(
    "config",
    [
        SamplingConfig(),
        SamplingConfig(guidance=3.0),
        SamplingConfig(temperature=1.5, top_k=3, top_p=0.9, guidance=2.0),
    ],
)
def test_pictures_are_as_frequent_as_they_are_probable(config):
    """Catches guidance with the contexts exchanged, candidates that share more than a caption, and
    a step that goes on from another code."""
    counts = drawn(config)
    assert surprise(counts, exact(config)) < 4
    other = SamplingConfig(guidance=0.0) if config.guidance == 1 else SamplingConfig()
    assert surprise(counts, exact(other)) > 8  # the test can tell


def test_evidence_is_weighed_in():
    """Catches a sampler that leaves evidence to the prior."""
    evidence = torch.randn(4, 4, generator=torch.Generator().manual_seed(3)).double() * 2
    counts = drawn(SamplingConfig(), evidence)
    assert surprise(counts, exact(SamplingConfig(), evidence)) < 4
    assert surprise(counts, exact(SamplingConfig())) > 8


def test_cross_attention_weights_are_shares_of_the_words():
    """Catches a figure of another attention, or of padding."""
    model, (text, codes) = shaken(TINY), pairs()
    weights = model.cross_attention_weights(text, codes)
    assert [w.shape for w in weights] == [(5, 2, N, 1 + T)] * 3
    for w in weights:
        torch.testing.assert_close(w.sum(-1), torch.ones(5, 2, N, dtype=torch.float64))
        for row, n in enumerate(LENGTHS):
            assert (w[row, :, :, 1 + n :] == 0).all() and (w[row, :, :, : 1 + n] > 0).all()


# The loss and the stage --------------------------------------------------------------------------
def test_loss_equals_the_loops():
    """Catches a target shifted by one, a sum for a mean, and a caption that is a target."""
    model, (text, codes) = shaken(TINY), pairs()
    logits = model.logits(text, codes).tolist()
    each = [nll(logits[b][p], codes[b, p]) for b in range(5) for p in range(N)]
    losses = model(text, codes)
    assert losses.total.item() == pytest.approx(sum(each) / len(each), rel=1e-5)
    assert losses.image.item() == losses.total.item()


def test_one_batch_is_learned_by_heart_and_by_its_captions():
    """Catches gradients that are cut, an encoder that does not learn, and captions unread."""
    torch.manual_seed(0)
    model = EncoderDecoder(replace(TINY, width=32, encoder_layers=1, decoder_layers=2))
    model.set_looks(torch.randn(K, 12))
    text, codes = pairs(4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(100):
        losses = model(text, codes)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
    assert model(text, codes).image < 0.01
    assert model(text.roll(1, 0), codes).image > 0.1


def test_it_has_as_many_parameters_as_the_prior_of_class():
    """Catches a comparison that size would decide. 797: the tokens of the storybook's captions."""
    models = preset("class").models
    sizes = {"vocab_size": 797, "codes": models["dvae"].codes}
    prior = Prior(replace(models["prior"], **sizes))
    model = EncoderDecoder(replace(models["encoder_decoder"], **sizes))
    ours, theirs = (sum(p.numel() for p in m.parameters()) for m in (model, prior))
    assert 0.95 < ours / theirs < 1.05


def test_the_stage_is_trained_on_the_priors_examples(tmp_path, monkeypatch):
    """Catches other pictures or captions than the prior's, looks that are never set, and
    microbatches that do not add up to their batch."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # float32: parts must add up
    smoke = replace(preset("smoke"), captions=60, caption_dropout=0.3).with_training(steps=2)
    run = TrainingRun(smoke, Storybook(), tmp_path, torch.device("cpu"))
    trained = run.load_or_train("encoder_decoder")
    assert isinstance(trained, EncoderDecoder) and trained.looks.abs().sum() > 0
    given = {}
    for stage in ("prior", "encoder_decoder"):
        model, config = run.build(stage)
        forward = type(model).forward

        def note(text, codes, model=model, stage=stage, forward=forward):
            given.setdefault(stage, []).append((text, codes))
            return forward(model, text, codes)

        model.forward = note
        objective = run.objective(stage, config)
        for step, progress in ((0, 0.0), (1, 0.9)):
            objective(model, step, progress, range(1, 3))
    for ours, theirs in zip(*given.values(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    found = []
    for accumulate in (1, 2):
        model, config = run.build("encoder_decoder")
        config = replace(config, accumulate=accumulate)
        records = fit(TrainState.start(model, config), run.objective("encoder_decoder", config))
        found.append([(r.losses, r.grad_norm) for r in records])
    for (losses, gradient), (in_parts, their_gradient) in zip(*found, strict=True):
        assert in_parts == pytest.approx(losses, rel=1e-4)
        assert their_gradient == pytest.approx(gradient, rel=1e-3)


# What a user can get wrong -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": 4}, "kernel must be odd"),
        ({"heads": 8}, "multiple of 4"),
        ({"heads": 3}, "heads"),
        ({"encoder_layers": 0}, "encoder_layers must be from 1"),
        ({"grid": 100}, "stream of more than 8192"),
        ({"dropout": math.nan}, "dropout"),
    ],
)
def test_a_wrong_shape_is_refused(change, message):
    """Catches a model that dies of its shape far from the cause."""
    with pytest.raises(MinidalleError, match=message):
        EncoderDecoder(replace(TINY, **change))
