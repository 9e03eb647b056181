"""Drawing against exact probabilities: every code sequence of a tiny prior is enumerated."""

import functools
import itertools
import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from minidalle import sampling as module
from minidalle.errors import MinidalleError
from minidalle.prior import Prior, PriorConfig
from minidalle.sampling import SamplingConfig, candidate_generators, filter_logits, sample_codes

WORDS, T, K, GRID = 5, 3, 4, 2
N, MANY = GRID**2, 2000
ALL = torch.tensor(list(itertools.product(range(K), repeat=N)))  # every picture there is: Kᴺ N
TEXT, NULL = torch.tensor([[3, 1, WORDS + 2]]), torch.arange(WORDS, WORDS + T)[None]
CONFIGS = [
    SamplingConfig(),
    SamplingConfig(temperature=0.5),
    SamplingConfig(temperature=2.0),
    SamplingConfig(top_k=2),
    SamplingConfig(top_p=0.7),
    SamplingConfig(guidance=3.0),
    SamplingConfig(temperature=1.5, top_k=3, top_p=0.9, guidance=2.0),
]


@functools.cache
def prior():
    """Tiny, and far from uniform."""
    config = PriorConfig(vocab_size=WORDS, text_length=T, codes=K, grid=GRID, width=16, layers=2,
                         heads=2, kernel=3)  # fmt: skip
    torch.manual_seed(0)
    model = Prior(config).double().eval()
    for p in model.parameters():
        nn.init.normal_(p.requires_grad_(False), std=0.5)
    model.text_token.weight.mul_(3)  # the caption has much to say
    return model


@functools.cache
def drawn(config, n=MANY, seed=0):
    *_, codes = sample_codes(prior(), TEXT, NULL, config, candidate_generators(seed, n))
    return codes


# The slow references -----------------------------------------------------------------------------
def slow_filter(logits, config):
    """Go down from the likeliest code, and stop when there are k or the probabilities reach p."""
    scaled = [x / config.temperature for x in logits]
    order = sorted(range(len(scaled)), key=lambda i: -scaled[i])[: config.top_k]
    total, kept, mass = sum(math.exp(scaled[i] - scaled[order[0]]) for i in order), [], 0.0
    for i in order:
        kept.append(i)
        mass += math.exp(scaled[i] - scaled[order[0]]) / total
        if config.top_p is not None and mass >= config.top_p:
            break
    return [x if i in kept else -math.inf for i, x in enumerate(scaled)]


def guided(text, null, codes, guidance):
    """Uncached logits of every position: B N K."""
    n = len(codes)
    with_caption, without = (
        prior().logits(prompt.expand(n, -1), codes)[1] for prompt in (text, null)
    )
    return without + guidance * (with_caption - without)


@functools.cache
def exact(config):
    """The probability of each picture in ALL."""
    logits = guided(TEXT, NULL, ALL, config.guidance).flatten(0, 1).tolist()
    kept = torch.tensor([slow_filter(row, config) for row in logits], dtype=torch.float64)
    return kept.softmax(-1).gather(1, ALL.flatten()[:, None]).reshape(-1, N).prod(1)


def slow_greedy(guidance, prime=()):
    codes = list(prime)
    while len(codes) < N:
        padded = torch.tensor([codes + [0] * (N - len(codes))])
        codes.append(guided(TEXT, NULL, padded, guidance)[0, len(codes)].argmax().item())
    return codes


def surprise(counts, p):
    """χ² as a standard normal (Wilson and Hilferty 1931); impossible events must not occur."""
    assert counts.sum() > 0 and not counts[p == 0].any()
    expected = p * counts.sum()
    rare = expected < 5
    observed = torch.cat([counts[~rare], counts[rare].sum()[None]]).double()
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    observed, expected = observed[expected > 0], expected[expected > 0]
    freedom = len(expected) - 1
    chi2 = ((observed - expected) ** 2 / expected).sum().item()
    middle = 1 - 2 / (9 * freedom)
    return ((chi2 / freedom) ** (1 / 3) - middle) / (2 / (9 * freedom)) ** 0.5


def count(codes):
    """How often each picture of ALL was drawn."""
    index = (codes * K ** torch.arange(N - 1, -1, -1)).sum(1)
    return torch.bincount(index, minlength=K**N)


# The filter --------------------------------------------------------------------------------------
@given(
    logits=st.lists(st.integers(-12, 12).map(lambda x: x / 4), min_size=1, max_size=9),
    temperature=st.sampled_from([0.3, 0.5, 1.0, 1.7, 4.0]),
    top_k=st.none() | st.integers(1, 10),
    top_p=st.none()
    | st.sampled_from([0.01, 0.3017, 0.5013, 0.7731, 0.9907, 1.0]),  # no sum of ties
)
@example(logits=[1.0] * 5, temperature=1.0, top_k=2, top_p=None)  # ties: k are kept, not all
@example(logits=[0.0, 3.0, 1.0], temperature=1.0, top_k=9, top_p=1.0)  # nothing is cut
@example(logits=[0.0, 3.0, 1.0], temperature=1.0, top_k=None, top_p=0.01)  # one is always kept
@settings(max_examples=200, deadline=None)
def test_filter_equals_the_loops(logits, temperature, top_k, top_p):
    """Catches top-k ignored, a share for a count, top-p one code short, and the wrong order."""
    config = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p)
    expected = slow_filter(logits, config)
    result = filter_logits(torch.tensor([logits[::-1], logits]), config)[1]
    torch.testing.assert_close(result.sort().values, torch.tensor(expected).sort().values)
    kept = result.isfinite()  # of equals, either may be kept; what is kept stays in its place
    torch.testing.assert_close(result[kept], (torch.tensor(logits) / temperature)[kept])


# Chance ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.temperature, c.top_k, c.top_p}")
def test_pictures_are_as_frequent_as_they_are_probable(config):
    """Catches settings that never reach the draw, noise of a wrong law, a forbidden code drawn."""
    counts = count(drawn(config))
    assert surprise(counts, exact(config)) < 4
    other = SamplingConfig(temperature=2.5) if config in (CONFIGS[0], CONFIGS[5]) else CONFIGS[0]
    assert surprise(counts, exact(other)) > 8  # the test can tell


def test_top_k_1_is_greedy():
    """Catches noise that is added before the cut, so that it chooses what is kept."""
    codes = drawn(SamplingConfig(top_k=1), n=50)
    assert codes.tolist() == [slow_greedy(1.0)] * 50


def test_candidates_are_independent():
    """Catches neighbouring seeds that draw alike, and chance that is shared or drawn once."""
    codes, p = drawn(CONFIGS[0]), exact(CONFIGS[0])
    first = torch.stack([p[ALL[:, 0] == k].sum() for k in range(K)])
    pairs = torch.bincount(codes[::2, 0] * K + codes[1::2, 0], minlength=K * K)
    assert surprise(pairs, torch.outer(first, first).flatten()) < 4


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[-1]])
def test_a_candidate_is_the_same_in_any_company(config):
    """Catches one generator for all, whose candidate 3 depends on how many are asked for."""
    codes = drawn(config, n=40)
    for n in (1, 3, 17):
        assert torch.equal(drawn(config, n=n), codes[:n])
    assert not torch.equal(drawn(config, n=40, seed=1), codes)
    assert not torch.equal(drawn(config, n=40, seed=1)[:-1], codes[1:])


# Guidance ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_each_candidate_may_have_a_caption_of_its_own(guidance):
    """Catches captions that are mixed up, and a guidance that pairs one with another's empty."""
    config, generators = SamplingConfig(guidance=guidance), lambda: candidate_generators(5, 6)
    texts = torch.tensor([[3, 1, 7], [0, 6, 7], [2, 2, 2], [4, 1, 7], [1, 6, 7], [5, 6, 7]])
    *_, together = sample_codes(prior(), texts, NULL, config, generators())
    for row, (text, generator) in enumerate(zip(texts, generators(), strict=True)):
        *_, alone = sample_codes(prior(), text[None], NULL, config, [generator])
        assert torch.equal(together[row], alone[0])
    assert len(together.unique(dim=0)) > 1
    with pytest.raises(MinidalleError, match="2 captions and 6 candidates: give one caption, or 6"):
        next(sample_codes(prior(), texts[:2], NULL, config, generators()))


def test_guidance_1_is_no_guidance():
    """Catches the convention in which 0 is none: with it, 1 already leans away."""
    near = drawn(SamplingConfig(guidance=1 + 1e-9), n=200)
    assert torch.equal(near, drawn(SamplingConfig(), n=200))
    assert not torch.equal(drawn(SamplingConfig(guidance=2), n=200), near)


def test_guidance_0_forgets_the_caption():
    """Catches the caption and the empty caption taken for each other."""
    codes = drawn(SamplingConfig(guidance=0), n=200)
    *_, unconditional = sample_codes(
        prior(), NULL, NULL, SamplingConfig(), candidate_generators(0, 200)
    )
    assert torch.equal(codes, unconditional)


def test_guidance_changes_every_step_and_no_tensor_of_the_caller(monkeypatch):
    """Catches guidance that skips the first code, or that zeroes the caller's caption in place."""
    seen = []

    def spy(logits, config):
        seen.append(logits.clone())
        return filter_logits(logits, config)

    monkeypatch.setattr(module, "filter_logits", spy)
    text, null = TEXT.clone(), NULL.clone()
    *_, codes = sample_codes(
        prior(), text, null, SamplingConfig(guidance=3), candidate_generators(0, 5)
    )
    assert torch.equal(text, TEXT) and torch.equal(null, NULL)
    logits = torch.stack(seen, dim=1)  # n N K
    expected = guided(TEXT, NULL, codes, 3)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
    assert ((logits - guided(TEXT, NULL, codes, 1)).abs().amax(-1) > 1e-3).all()


@pytest.mark.parametrize("guidance", [0.0, 1.0, 3.0])
def test_temperature_0_is_greedy(guidance):
    """Catches a cache that drifts from the uncached model, and 0 that divides by zero."""
    codes = drawn(SamplingConfig(temperature=0, guidance=guidance), n=2)
    assert codes.tolist() == [slow_greedy(guidance)] * 2


# Priming -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("p", range(N + 1))
def test_primes_are_kept_and_gone_on_from(guidance, p):
    """Catches given codes that are shown but not read, and candidates dealt to others' primes."""
    prime = torch.tensor([[3, 0, 2, 1], [0, 1, 1, 3], [2, 2, 0, 0]])[:, :p]
    config = SamplingConfig(temperature=0, guidance=guidance)
    *_, codes = sample_codes(prior(), TEXT, NULL, config, candidate_generators(0, 3), prime)
    assert codes.tolist() == [slow_greedy(guidance, row) for row in prime.tolist()]


def test_primed_pictures_are_as_frequent_as_among_those_drawn():
    """Catches a prime that shifts positions: the rest must be drawn given what was kept."""
    prime, config = torch.tensor([[1, 2]]), SamplingConfig()
    *_, codes = sample_codes(
        prior(), TEXT, NULL, config, candidate_generators(0, MANY), prime.expand(MANY, -1)
    )
    p = exact(config) * (ALL[:, :2] == prime).all(1)
    assert surprise(count(codes), p / p.sum()) < 4


def test_codes_come_one_at_a_time():
    """Catches a progress bar that counts wrongly, and codes changed once shown."""
    steps = list(sample_codes(prior(), TEXT, NULL, SamplingConfig(), candidate_generators(0, 3)))
    assert [tuple(step.shape) for step in steps] == [(3, i + 1) for i in range(N)]
    assert all(torch.equal(step, steps[-1][:, : i + 1]) for i, step in enumerate(steps))


# A prior that is broken -------------------------------------------------------------------------
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("row", ["caption", "empty caption", "candidate"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("step", [0, 2])
def test_logits_that_are_not_finite_are_refused(monkeypatch, value, row, temperature, step):
    """Catches NaN, of which argmax draws one code for ever, in the first step or a later one."""

    def spoil(logits):
        rows = {"caption": 0, "empty caption": -1, "candidate": len(logits) // 2 - 1}
        logits[rows[row], 1] = value
        return logits

    prefill, decode_step = Prior.prefill, Prior.decode_step

    def first(prior, text):
        caches, logits = prefill(prior, text)
        return caches, spoil(logits) if step == 0 else logits

    def later(prior, code, position, caches):
        logits = decode_step(prior, code, position, caches)
        return spoil(logits) if position + 1 == step else logits

    monkeypatch.setattr(Prior, "prefill", first)
    monkeypatch.setattr(Prior, "decode_step", later)
    config = SamplingConfig(temperature=temperature, guidance=2)
    steps = sample_codes(prior(), TEXT, NULL, config, candidate_generators(0, 3))
    with pytest.raises(MinidalleError, match=f"logits are not finite at code {step + 1} of {N}"):
        list(steps)


# What a user can get wrong -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1), ("temperature", math.nan),
        ("top_k", 0), ("top_k", 0.9),
        ("top_p", 0), ("top_p", 1.1), ("top_p", math.nan),
        ("guidance", -1), ("guidance", math.nan),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused(name, value):
    """Catches "top-k 0.9", a nucleus of nothing, and NaN, which draws code 0 for ever."""
    with pytest.raises(MinidalleError, match=name):
        SamplingConfig(**{name: value})
