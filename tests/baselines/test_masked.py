"""The masked model: nothing hidden is seen, and drawing has exactly the model's probabilities.

A tiny model has few pictures. Their exact probabilities are found by following every way in which
drawing can go, one state of hidden and visible codes after the other.
"""

import functools
import itertools
import math
import random

import pytest
import torch
from torch import nn

from minidalle.baselines.masked import Masked, MaskedConfig, MaskedLosses, hidden_cells, window_mask
from minidalle.baselines.masked_sampling import (
    CONFIDENCE_NOISE,
    HIDDEN,
    even_order,
    sample_masked,
    schedule,
)
from minidalle.errors import MinidalleError
from minidalle.sampling import SamplingConfig, candidate_generators
from minidalle.training.baseline_objectives import masked_objective
from minidalle.training.config import TrainConfig
from minidalle.training.presets import preset
from minidalle.training.run import TrainingRun
from minidalle.world.storybook import Storybook
from tests.test_prior import nll
from tests.test_sampling import slow_filter, surprise

WORDS, T, K, GRID = 5, 3, 3, 2
N, MANY = GRID**2, 1000
TINY = MaskedConfig(
    vocab_size=WORDS, text_length=T, codes=K, grid=GRID, width=16, layers=2, heads=2, window=3
)
SMALL = MaskedConfig(**{**vars(TINY), "codes": 7, "grid": 4, "look_size": 12})
TEXT, NULL = torch.tensor([[3, 1, WORDS + 2]]), torch.arange(WORDS, WORDS + T)[None]


def loud(config):
    """A model far from uniform, whose codes depend on each other and on the caption."""
    torch.manual_seed(0)
    model = Masked(config).double().eval().requires_grad_(False)
    for name, p in model.named_parameters():
        if "norm" not in name:
            nn.init.normal_(p, std=1.5 if "token" in name else 0.5)
        elif "q_norm" in name:
            p.fill_(3.0)  # attention to a few positions
    if config.look_size:
        model.set_looks(torch.randn(config.codes, config.look_size))
    return model


def batch(config, n, share=0.5):
    """Captions of any words, codes, and which of them are hidden."""
    generator = torch.Generator().manual_seed(1)
    text = torch.randint(WORDS, (n, T), generator=generator)
    codes = torch.randint(config.codes, (n, config.grid**2), generator=generator)
    return text, codes, torch.rand(codes.shape, generator=generator) < share


# What is hidden, and what is seen -----------------------------------------------------------------
@pytest.mark.parametrize(("text", "grid", "window"), [(0, 3, 1), (2, 4, 3), (3, 6, 5), (1, 3, 9)])
def test_the_window_equals_the_loops(text, grid, window):
    """Catches a window that wraps around an edge, a text that is hidden, one code too many."""
    mask = window_mask(text, grid, window)
    assert mask.shape == (text + grid**2,) * 2
    for i, j in itertools.product(range(len(mask)), repeat=2):
        seen = j < text
        if min(i, j) >= text:
            (y, x), (v, u) = divmod(i - text, grid), divmod(j - text, grid)
            seen = abs(y - v) <= window // 2 and abs(x - u) <= window // 2
        assert mask[i, j] == seen


def test_hidden_shares_have_the_right_distribution():
    """Catches another law of u, a share of 1 that never comes, and a picture with nothing hidden.

    ⌈cos(πu/2) · N⌉ ≤ h exactly where u ≥ 2/π · arccos(h / N) (Kolmogorov and Smirnov's test).
    """
    rng, n, cells = random.Random(0), 2000, 100
    counts = [int(hidden_cells(rng.random(), cells, rng).sum()) for _ in range(n)]
    for h in range(1, cells + 1):
        found, law = sum(c <= h for c in counts) / n, 1 - 2 / math.pi * math.acos(h / cells)
        assert abs(found - law) < 1.63 / n**0.5  # one in a hundred
    assert hidden_cells(0.0, 9, rng).all() and hidden_cells(1 - 1e-9, 9, rng).sum() == 1


def test_every_cell_is_hidden_as_often_as_any_other():
    """Catches cells hidden in raster order, or always the same ones."""
    rng, n, cells, h = random.Random(0), 2000, 16, 8
    hidden = torch.stack([hidden_cells(0.67, cells, rng) for _ in range(n)]).double()
    assert (hidden.sum(1) == h).all()
    apart = (hidden.mean(0) - h / cells).abs().max()
    assert apart < 5 * 0.5 / n**0.5
    together = (hidden.T @ hidden / n)[~torch.eye(cells, dtype=torch.bool)]
    expected = h / cells * (h - 1) / (cells - 1)
    assert (together - expected).abs().max() < 5 * 0.5 / n**0.5


def test_a_hidden_code_is_not_seen_and_a_visible_one_is():
    """Catches a target that leaks into the input, and the trap: visible codes without influence."""
    model, (text, codes, hidden) = loud(SMALL), batch(SMALL, 3)
    logits = model.logits(text, codes, hidden)
    for p in range(codes.shape[1]):
        changed = codes.clone()
        changed[:, p] = (changed[:, p] + 1) % SMALL.codes
        new = model.logits(text, changed, hidden)
        for b, (old_row, new_row) in enumerate(
            zip(*(x.split(hidden.sum(1).tolist()) for x in (logits, new)), strict=True)
        ):
            if hidden[b, p]:
                assert torch.equal(old_row, new_row)
            else:
                assert ((old_row - new_row).abs().amax(1) > 1e-6).all()


@pytest.mark.parametrize("layers", [1, 2])
def test_the_first_layer_looks_through_a_window_and_the_second_everywhere(layers):
    """Catches masks in the wrong layers, and text that is not read."""
    model = loud(MaskedConfig(**{**vars(SMALL), "layers": layers, "grid": 5}))
    text, codes, _ = batch(model.config, 1)
    hidden = torch.zeros_like(codes, dtype=torch.bool)
    hidden[0, 12] = True  # the middle of 5 × 5
    logits = model.logits(text, codes, hidden)
    reached = set()
    for p in set(range(25)) - {12}:
        changed = codes.clone()
        changed[0, p] = (changed[0, p] + 1) % SMALL.codes
        if not torch.equal(model.logits(text, changed, hidden), logits):
            reached.add(p)
    around = {6, 7, 8, 11, 13, 16, 17, 18}
    assert reached == (around if layers == 1 else set(range(25)) - {12})
    for t in range(T):
        changed = text.clone()
        changed[0, t] = (changed[0, t] + 1) % WORDS
        assert not torch.equal(model.logits(changed, codes, hidden), logits)


def test_codes_are_embedded_one_by_one():
    """Catches rows taken for columns, the MASK vector at another place, looks left out."""
    model, (text, codes, hidden) = loud(SMALL), batch(SMALL, 3)
    x = model.embed(text, codes, hidden)
    for b, p in itertools.product(range(3), range(16)):
        vector = model.mask if hidden[b, p] else model.code_vectors()[codes[b, p]]
        place = model.row.weight[p // 4] + model.column.weight[p % 4]
        torch.testing.assert_close(x[b, T + p], vector + place)
    for b, t in itertools.product(range(3), range(T)):
        word = model.text_token.weight[text[b, t]] + model.text_position.weight[t]
        torch.testing.assert_close(x[b, t], word)


# The loss -----------------------------------------------------------------------------------------
def test_the_loss_is_that_of_hidden_codes_and_no_others():
    """Catches a loss on visible codes, which are read off the input, and a mean over all."""
    model, (text, codes, hidden) = loud(SMALL), batch(SMALL, 4, share=0.3)
    seen = []
    model.transformer.register_forward_hook(lambda _, __, y: seen.append(y.requires_grad_()))
    losses = model(text, codes, hidden)
    (gradient,) = torch.autograd.grad(losses.total, seen[-1])
    assert torch.equal(gradient[:, T:].abs().sum(-1) > 0, hidden)
    assert not gradient[:, :T].any()
    logits = (seen[-1][:, T:] @ model.head_vectors().T).tolist()
    terms = [nll(logits[b][p], codes[b, p]) for b, p in hidden.nonzero().tolist()]
    assert losses.total.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert losses.hidden.item() == pytest.approx(len(terms) / hidden.numel())


def test_a_row_is_the_same_in_any_company():
    """Catches anything that is averaged or masked over the batch."""
    model, (text, codes, hidden) = loud(SMALL), batch(SMALL, 5)
    together = model.logits(text, codes, hidden).split(hidden.sum(1).tolist())
    for b in range(5):
        alone = model.logits(text[b : b + 1], codes[b : b + 1], hidden[b : b + 1])
        torch.testing.assert_close(alone, together[b], rtol=0, atol=1e-12)


def test_one_batch_is_learned_by_heart_and_by_its_captions():
    """Catches gradients that are cut, and captions unread."""
    torch.manual_seed(0)
    model = Masked(MaskedConfig(**{**vars(SMALL), "width": 32}))
    model.set_looks(torch.randn(SMALL.codes, SMALL.look_size))
    text, codes, _ = batch(SMALL, 4)
    hidden = torch.ones_like(codes, dtype=torch.bool)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(120):
        losses = model(text, codes, hidden)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert losses.total < 0.6 and losses.hidden == 1
    assert model(text.roll(1, 0), codes, hidden).total > 2


# What it is trained on ----------------------------------------------------------------------------
def objective(n, seed=0):
    """The masked model's objective, on captions and codes that are numbers of rows."""

    def batch(step, progress, rows):
        return (
            torch.arange(n)[:, None],
            torch.arange(rows.start, rows.stop)[:, None].expand(-1, 144),
        )

    config = TrainConfig(steps=9, batch_size=n, seed=seed)
    return masked_objective(batch, config, torch.device("cpu"))


class Spy:
    """Stands in for the model: keeps what it is given. Its loss is a mean over hidden cells."""

    def __init__(self):
        self.given = []

    def __call__(self, text, codes, hidden):
        assert torch.equal(text[:, 0], codes[:, 0])  # each row its own caption
        self.given.append(hidden)
        where = torch.arange(144) * (1 + codes[:, :1]).double()
        return MaskedLosses(where[hidden].mean(), hidden.float().mean())


def test_shares_are_stratified_over_the_batch():
    """Catches shares drawn one by one, strata tied to rows, and the same cells at every step."""
    n, spy = 16, Spy()
    given = objective(n)
    for step in range(40):
        given(spy, step, 0.0, range(n))
    counts = torch.stack(spy.given).sum(-1)  # steps n
    for row in counts.sort(1, descending=True).values.tolist():
        for k, count in enumerate(row):
            share = [math.cos(math.pi * u / 2) * 144 for u in (k / n, (k + 1) / n)]
            assert share[1] <= count <= share[0] + 1
    assert len({tuple(row) for row in counts.argsort(1).tolist()}) == 40
    assert (counts[:, ::2].double().mean() / counts.double().mean() - 1).abs() < 0.1
    other = Spy()
    objective(n, seed=1)(other, 0, 0.0, range(n))
    assert not torch.equal(other.given[0], spy.given[0])


def test_microbatches_add_up_to_the_batch():
    """Catches a hidden code that weighs more in a picture with few of them, and masks that depend
    on which process makes the rows."""
    whole, parts = Spy(), Spy()
    given = objective(8)
    total = given(whole, 3, 0.0, range(8)).total
    pieces = [given(parts, 3, 0.0, range(i, i + 2)).total for i in range(0, 8, 2)]
    assert torch.equal(torch.cat(parts.given), whole.given[0])
    assert torch.stack(pieces).mean().item() == pytest.approx(total.item(), rel=1e-6)


@pytest.mark.filterwarnings("ignore:caption cut")  # smoke's tokenizer is a small one
def test_the_stage_trains_and_draws(tmp_path):
    """Catches sizes that two stages disagree on, and a stage that its table does not know."""
    run = TrainingRun(preset("smoke"), Storybook(lone=True), tmp_path, torch.device("cpu"))
    model, dvae = run.load_or_train("masked"), run.model("dvae")
    assert (model.config.codes, model.config.grid) == (dvae.config.codes, dvae.config.grid)
    assert model.config.look_size == 48 and model.looks.any()
    text = run.tokenizer().batch(["a red car", ""], model.config.text_length)
    *_, codes = sample_masked(
        model, text[:1], text[1:], SamplingConfig(guidance=2.0), candidate_generators(0, 2)
    )
    assert codes.shape == (2, model.config.grid**2) and codes.min() >= 0
    assert codes.max() < dvae.config.codes
    again = TrainingRun(preset("smoke"), Storybook(lone=True), tmp_path, torch.device("cpu"))
    assert torch.equal(again.load_or_train("masked").mask, model.mask)


# Orders and schedules -----------------------------------------------------------------------------
def discrepancies(order, grid):
    """For every prefix, by how many cells it differs from its share of any rectangle, at worst."""
    taken, found = torch.zeros(grid, grid, dtype=torch.float64), []
    for k, cell in enumerate(order, 1):
        taken[cell // grid, cell % grid] = 1
        sums = torch.zeros(grid + 1, grid + 1, dtype=torch.float64)
        sums[1:, 1:] = (taken - k / grid**2).cumsum(0).cumsum(1)
        rows = sums[:, None] - sums[None]
        found.append((rows[..., :, None] - rows[..., None, :]).abs().max().item())
    return found


def test_the_even_order_covers_the_grid_evenly_at_every_prefix():
    """Catches raster order, an order by chance, and two bases that go in step."""
    for grid in (1, 2, 5, 12):
        assert sorted(even_order(grid).tolist()) == list(range(grid**2))
    found = discrepancies(even_order(12).tolist(), 12)
    assert max(found) <= 4.5 and sum(found) / 144 < 3.3
    rng = random.Random(0)
    by_chance = [discrepancies(rng.sample(range(144), 144), 12) for _ in range(10)]
    assert max(found) < min(map(max, by_chance))
    assert all(sum(found) < 0.75 * sum(other) for other in by_chance)
    assert max(discrepancies(range(144), 12)) > 30  # raster order: the measure can tell


@pytest.mark.parametrize("cells", [1, 2, 7, 144])
@pytest.mark.parametrize("passes", [1, 2, 8, 143, 144, 500])
def test_every_pass_draws_and_the_last_leaves_nothing(cells, passes):
    """Catches a cosine that draws nothing at first, and a last code that stays hidden."""
    left = [cells, *schedule(cells, passes)]
    assert len(left) == min(passes, cells) + 1 and left[-1] == 0
    assert all(later < earlier for earlier, later in itertools.pairwise(left))
    if passes >= cells:
        assert left == list(range(cells, -1, -1))
    elif passes == 8 and cells == 144:
        expected = [math.floor(144 * math.cos(math.pi * t / 16)) for t in range(1, 8)]
        assert left[1:-1] == expected


def test_with_nothing_hidden_there_is_one_pass():
    """Catches a generator that yields nothing, so that nothing can be unpacked."""
    assert schedule(0, 8) == [0]
    full = torch.tensor([1, 0, 2, 2])
    (codes,) = drawings(SamplingConfig(), 2, given=full)
    assert torch.equal(codes, full.expand(2, -1))


# Chance -------------------------------------------------------------------------------------------
@functools.cache
def model():
    return loud(TINY)


def drawings(config, n=MANY, seed=0, **options):
    """The codes after every pass."""
    generators = candidate_generators(seed, n)
    return list(sample_masked(model(), TEXT, NULL, config, generators, **options))


def guided(state, guidance):
    """Logits of the hidden codes of a state, in Python."""
    codes = torch.tensor([state])
    hidden = codes == HIDDEN
    with_caption, without = (model().logits(text, codes, hidden) for text in (TEXT, NULL))
    return (without + guidance * (with_caption - without)).tolist()


def exact(config, passes, order, given=(HIDDEN,) * N):
    """The probability of each picture, by following all draws of all passes."""
    states, turn = {given: 1.0}, even_order(GRID).tolist()
    lefts = schedule(sum(code == HIDDEN for code in given), passes)
    for t, left in enumerate(lefts, 1):
        following: dict = {}
        for state, p_state in states.items():
            logits = guided(state, config.guidance)
            raw = [[-nll(row, k) for k in range(K)] for row in logits]
            rows = [slow_filter(row, config) for row in logits]
            p = [[math.exp(-nll(row, k)) for k in range(K)] for row in rows]
            cells = [i for i, code in enumerate(state) if code == HIDDEN]
            for draw in itertools.product(range(K), repeat=len(cells)):
                p_draw = p_state * math.prod(p[i][k] for i, k in enumerate(draw))
                sure = [raw[i][k] for i, k in enumerate(draw)]
                scale = CONFIDENCE_NOISE * (1 - t / len(lefts))
                firsts = {tuple(sorted(range(len(cells)), key=lambda i: turn.index(cells[i]))): 1.0}
                if order == "confidence":
                    firsts = without_replacement(sure, scale, len(cells) - left)
                for first, p_first in firsts.items():
                    new = list(state)
                    for i in first[: len(cells) - left]:
                        new[cells[i]] = draw[i]
                    new_p = following.get(tuple(new), 0.0) + p_draw * p_first
                    following[tuple(new)] = new_p
        states = following
    found = [states.get(codes, 0.0) for codes in itertools.product(range(K), repeat=N)]
    return torch.tensor(found, dtype=torch.float64)


def without_replacement(sure, scale, count):
    """The k largest of sure + scale · Gumbel noise are drawn one by one without replacement, with
    weights exp(sure / scale) (Vieira 2014; Kool et al. 2019): the probability of each order."""
    if scale == 0 or count == len(sure):
        return {tuple(sorted(range(len(sure)), key=lambda i: -sure[i])): 1.0}
    found = {}
    for order in itertools.permutations(range(len(sure)), count):
        p, weights = 1.0, [math.exp((x - max(sure)) / scale) for x in sure]
        for i in order:
            p *= weights[i] / sum(weights)
            weights[i] = 0.0
        found[order] = p
    return found


def count(codes):
    """How often each picture was drawn."""
    return torch.bincount((codes * K ** torch.arange(N - 1, -1, -1)).sum(1), minlength=K**N)


WAYS = [
    (SamplingConfig(), N, "even"),
    (SamplingConfig(), 2, "even"),
    (SamplingConfig(), 1, "even"),
    (SamplingConfig(), N, "confidence"),
    (SamplingConfig(temperature=0.7, guidance=2.0), 2, "confidence"),
    (SamplingConfig(temperature=1.5, top_k=2, guidance=2.0), N, "even"),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way[2]} {way[1]} {way[0].guidance:g}")
def test_pictures_are_as_frequent_as_they_are_probable(way):
    """Catches codes of a pass that depend on each other, passes that ignore the last one's codes,
    and settings that never reach the draw. One code a pass in an order fixed beforehand is the
    chain of the model's conditionals."""
    config, passes, order = way
    codes = drawings(config, passes=passes, order=order)[-1]
    assert surprise(count(codes), exact(config, passes, order)) < 4
    other = WAYS[2] if passes > 1 else WAYS[0]
    assert surprise(count(codes), exact(*other)) > 8  # the test can tell


def test_even_one_by_one_is_the_chain_of_conditionals():
    """Catches an enumeration that shares its mistake with the sampler: here, the bare product."""
    order, codes, p = even_order(GRID).tolist(), (2, 0, 1, 1), 1.0
    state = [HIDDEN] * N
    for cell in order:
        rows = [i for i in range(N) if state[i] == HIDDEN]
        logits = guided(tuple(state), 1.0)[rows.index(cell)]
        p *= math.exp(-nll(logits, codes[cell]))
        state[cell] = codes[cell]
    index = sum(code * K ** (N - 1 - i) for i, code in enumerate(codes))
    assert exact(SamplingConfig(), N, "even")[index].item() == pytest.approx(p)


@pytest.mark.parametrize("order", ["even", "confidence"])
def test_what_is_given_is_kept_and_the_rest_drawn_given_it(order):
    """Catches the fault of a published implementation, which draws given codes again; and given
    codes that are kept, but not seen."""
    given, config = (HIDDEN, 2, HIDDEN, 0), SamplingConfig()
    steps = drawings(config, passes=2, order=order, given=torch.tensor(given))
    assert all((step[:, 1] == 2).all() and (step[:, 3] == 0).all() for step in steps)
    p = exact(config, 2, order, given)
    assert surprise(count(steps[-1]), p) < 4
    mixed = torch.tensor([[HIDDEN] * N, given, [1, 1, 1, 1], [HIDDEN, 0, 0, 0]])
    steps = drawings(config, 4, order=order, given=mixed, passes=3)
    assert [(step == HIDDEN).sum(1).tolist() for step in steps] == [
        [3, 1, 0, 0],
        [2, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    kept = mixed != HIDDEN
    assert all(torch.equal(step[kept], mixed[kept]) for step in steps)
    assert (mixed[0] == HIDDEN).all()  # the caller's tensor is left alone


@pytest.mark.parametrize("order", ["even", "confidence"])
@pytest.mark.parametrize("passes", [1, 3, N])
def test_a_drawn_code_never_changes(order, passes):
    """Catches a pass that hides again what an earlier one drew, and steps that share memory."""
    steps = drawings(SamplingConfig(temperature=2.0), 200, passes=passes, order=order)
    assert [(step == HIDDEN).sum().item() // 200 for step in steps] == schedule(N, passes)
    for earlier, later in itertools.pairwise(steps):
        known = earlier != HIDDEN
        assert torch.equal(later[known], earlier[known])


def test_guidance_1_is_no_guidance_and_0_forgets_the_caption():
    """Catches the convention in which 0 is none, and the two captions taken for each other."""
    plain = drawings(SamplingConfig(), 200)[-1]
    generators = candidate_generators(0, 200)
    *_, alone = sample_masked(model(), TEXT, TEXT, SamplingConfig(), generators)
    assert torch.equal(alone, plain)  # bit for bit, whatever the empty caption is
    assert torch.equal(drawings(SamplingConfig(guidance=1 + 1e-9), 200)[-1], plain)
    assert not torch.equal(drawings(SamplingConfig(guidance=2.0), 200)[-1], plain)
    generators = candidate_generators(0, 200)
    *_, empty = sample_masked(model(), NULL, NULL, SamplingConfig(), generators)
    assert torch.equal(drawings(SamplingConfig(guidance=0.0), 200)[-1], empty)


@pytest.mark.parametrize("order", ["even", "confidence"])
def test_a_candidate_is_the_same_in_any_company(order):
    """Catches one generator for all, and captions dealt to others' candidates."""
    codes = drawings(SamplingConfig(), 40, order=order)[-1]
    assert torch.equal(drawings(SamplingConfig(), 7, order=order)[-1], codes[:7])
    assert not torch.equal(drawings(SamplingConfig(), 40, seed=1, order=order)[-1], codes)
    texts = torch.cat([TEXT, NULL]).repeat(20, 1)
    generators, config = candidate_generators(0, 40), SamplingConfig()
    *_, mixed = sample_masked(model(), texts, NULL, config, generators, order=order)
    assert torch.equal(mixed[::2], codes[::2]) and not torch.equal(mixed[1::2], codes[1::2])


def test_temperature_0_takes_the_likeliest():
    """Catches 0 that divides by zero, and noise that is added all the same."""
    codes = drawings(SamplingConfig(temperature=0), 3, passes=N)[-1]
    state = [HIDDEN] * N
    for _ in range(N):
        cells = [i for i in range(N) if state[i] == HIDDEN]
        rows = [[-nll(row, k) for k in range(K)] for row in guided(tuple(state), 1.0)]
        best = max(range(len(cells)), key=lambda i: max(rows[i]))
        state[cells[best]] = rows[best].index(max(rows[best]))
    assert codes.tolist() == [state] * 3


# What a user can get wrong ------------------------------------------------------------------------
@pytest.mark.parametrize(
    "options",
    [
        {"passes": 0},
        {"order": "raster"},
        {"given": torch.zeros(3, dtype=torch.int64)},
        {"given": torch.zeros(5, N, dtype=torch.int64)},
        {"given": torch.full((N,), K)},
        {"given": torch.full((N,), -2)},
    ],
)
def test_what_does_not_fit_is_refused(options):
    """Catches codes that there are not, and an order that is quietly another."""
    with pytest.raises(MinidalleError, match=r"passes 0|order 'raster'|given is"):
        drawings(SamplingConfig(), 2, **options)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_refused(monkeypatch, value):
    """Catches NaN, of which argmax draws one code for ever."""
    broken = loud(TINY)
    logits = torch.zeros(2 * N, K)
    logits[N + 1, 2] = value
    monkeypatch.setattr(broken, "logits", lambda *_: logits)
    steps = sample_masked(broken, TEXT, NULL, SamplingConfig(), candidate_generators(0, 2))
    with pytest.raises(MinidalleError, match="logits are not finite in pass 1"):
        next(steps)


@pytest.mark.parametrize("change", [{"window": 4}, {"heads": 3}, {"heads": 8}, {"codes": 0}])
def test_a_wrong_shape_is_refused(change):
    """Catches a window without a middle, and heads that rotary positions cannot turn."""
    with pytest.raises(MinidalleError, match=r"window|heads|codes"):
        Masked(MaskedConfig(**{**vars(TINY), **change}))
