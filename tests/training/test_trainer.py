"""The loop: a record a step, and a run that was stopped goes on as if it never had been."""

import copy
import json
import math
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from minidalle.errors import MinidalleError
from minidalle.prior import Prior, PriorConfig
from minidalle.tensors import pick_device
from minidalle.training import checkpoint
from minidalle.training.config import TrainConfig
from minidalle.training.trainer import TrainState, fit, lr_at

CONFIG = TrainConfig(steps=8, batch_size=4, lr=1e-2, warmup_steps=3)


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    width: int = 8


class Toy(nn.Module):
    """Small, with all that a resumed run can lose: dice (dropout) and buffers (BatchNorm)."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.net = nn.Sequential(
            nn.Linear(3, config.width), nn.BatchNorm1d(config.width), nn.Dropout(0.5),
            nn.GELU(), nn.Linear(config.width, 1),
        )  # fmt: skip


class ToyLosses(NamedTuple):
    total: Tensor
    error: Tensor
    size: Tensor


def losses(model, step, progress, rows=None, scale=1.0):
    x = scale * torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
    y = model.net(x)
    error, size = (y - x.sum(1, keepdim=True)).square().mean(), y.abs().mean()
    return ToyLosses(error + 0.1 * progress * size, error, size)


def fresh(seed=0, config=CONFIG):
    torch.manual_seed(seed)
    return TrainState.start(Toy(ToyConfig()), config)


def photo(state):
    """Weights, their mean and the optimiser's moments, as they are now."""
    return copy.deepcopy(state.dump()[0])


def assert_same(a, b):
    assert a.keys() == b.keys()
    for part in a:
        assert a[part].keys() == b[part].keys()
        for name in a[part]:
            assert torch.equal(a[part][name], b[part][name]), f"{part} {name}"


# Records and schedules ---------------------------------------------------------------------------
def test_a_record_a_step():
    """Catches a step too many or too few, and a learning rate that is told but not used."""
    state, records = fresh(), []
    for record in fit(state, losses):
        records.append(record)
        rates = {group["lr"] for group in state.optimizers[0].param_groups}
        assert list(rates) == pytest.approx([record.lr])
        assert record.step == state.step
    assert [r.step for r in records] == list(range(1, 9)) and {r.steps for r in records} == {8}
    assert [r.lr for r in records] == [lr_at(step, CONFIG) for step in range(8)]
    assert all(set(r.losses) == set(ToyLosses._fields) for r in records)
    assert all(r.grad_norm > 0 and r.images_per_second > 0 for r in records)
    assert records[0].losses["total"] == records[0].losses["error"]  # progress starts at 0
    assert list(fit(state, losses)) == []


def test_fit_learns():
    """Catches a step up the slope, and gradients that pile up from step to step."""
    state = fresh(config=replace(CONFIG, steps=40, lr=0.03))
    state.model.net[2].p = 0.0
    records = list(fit(state, lambda model, step, progress, rows: losses(model, 0, progress)))
    assert records[-1].losses["error"] < 0.05 * records[0].losses["error"]


def test_learning_rate_warms_up_and_falls():
    """Catches a warm-up that starts at zero or ends late, and a cosine that misses its end."""
    config = TrainConfig(steps=1000, lr=0.5, warmup_steps=100, final_lr_ratio=0.02)
    rates = torch.tensor([lr_at(step, config) for step in range(1001)])
    assert rates[0].item() == pytest.approx(0.5 / 100, rel=1e-3)
    assert rates[99].item() == pytest.approx(0.5, rel=0.03) and rates.argmax() == 99
    assert rates[500].item() == pytest.approx(0.5 * (1 + 0.02) / 2, rel=1e-3)
    assert rates[1000].item() == pytest.approx(0.5 * 0.02, rel=1e-3)
    assert (rates[:100].diff() > 0).all() and (rates[100:].diff() < 0).all()
    assert lr_at(0, replace(config, warmup_steps=0)) == pytest.approx(0.5)


def test_only_matrices_decay():
    """Catches biases and norms that are pulled to zero, and a parameter left out."""
    state = fresh(config=replace(CONFIG, weight_decay=0.3))
    decay = {
        p: group["weight_decay"]
        for group in state.optimizers[0].param_groups
        for p in group["params"]
    }
    assert {name: decay[p] for name, p in state.model.named_parameters()} == {
        name: 0.3 if name in ("net.0.weight", "net.4.weight") else 0.0
        for name, _ in state.model.named_parameters()
    }


def test_muon_takes_the_matrices_of_the_blocks():
    """Catches embeddings and heads given to Muon, and a rate that does not follow the schedule."""
    torch.manual_seed(0)
    prior = Prior(PriorConfig(vocab_size=8, text_length=2, codes=8, grid=2, width=8, heads=2))
    config = replace(CONFIG, muon_lr=0.02, weight_decay=0.3)
    adamw, muon = TrainState.start(prior, config).optimizers
    name_of = {p: name for name, p in prior.named_parameters()}
    names = {name_of[p] for group in muon.param_groups for p in group["params"]}
    assert names == {n for n, p in prior.named_parameters() if ".blocks." in n and p.ndim == 2}
    assert len(names) == 4 * prior.config.layers
    others = [p for group in adamw.param_groups for p in group["params"]]
    assert len(others) + len(names) == len(name_of)
    assert {g["weight_decay"] for g in adamw.param_groups} == {0.0}
    assert {g["weight_decay"] for g in muon.param_groups} == {0.3}

    def objective(model, step, progress, rows):
        ids = torch.arange(4 * 6).view(4, 6) * (step + 1) % 8
        return model(ids[:, :2], ids[:, 2:])

    state = TrainState.start(prior, config)
    for record in fit(state, objective):
        rates = [group["lr"] for optimizer in state.optimizers for group in optimizer.param_groups]
        assert rates == pytest.approx([record.lr, record.lr, 0.02 * record.lr / CONFIG.lr])


def test_a_model_may_ask_for_a_lower_rate_for_some_of_its_parts():
    """Catches ratios that are lost in the schedule or in a checkpoint, and a part left out."""
    state = fresh(config=replace(CONFIG, weight_decay=0.3))
    plain = [len(group["params"]) for group in state.optimizers[0].param_groups]
    state.model.lr_ratios = {"net.0.": 0.5, "net.4.": 0.25}
    state = TrainState.start(state.model, state.config)
    groups = state.optimizers[0].param_groups
    assert sum(len(group["params"]) for group in groups) == sum(plain)
    for record in fit(state, losses):
        rate = {p: group["lr"] for group in groups for p in group["params"]}
        decay = {p: group["weight_decay"] for group in groups for p in group["params"]}
        for name, p in state.model.named_parameters():
            ratio = {"net.0": 0.5, "net.4": 0.25}.get(name.rpartition(".")[0], 1.0)
            assert rate[p] == pytest.approx(ratio * record.lr), name
            assert decay[p] == (0.3 if p.ndim == 2 else 0.0)
        if record.step == 3:
            tensors, metadata = copy.deepcopy(state.dump())
            break
    other = fresh(seed=9, config=state.config)
    other.model.lr_ratios = state.model.lr_ratios
    other = TrainState.start(other.model, state.config)
    other.restore(tensors, json.loads(json.dumps(metadata)), file=Path("here"))
    deque(fit(state, losses), maxlen=0)
    deque(fit(other, losses), maxlen=0)
    assert_same(photo(state), photo(other))


def test_gradients_are_clipped_and_told_unclipped():
    """Catches clipping that is left out, or done before the gradients are there."""
    state = fresh(config=replace(CONFIG, max_grad_norm=1e-3))
    record = next(fit(state, losses))
    left = torch.stack([p.grad.norm() for p in state.model.parameters()]).norm()
    assert record.grad_norm > 0.01
    assert left.item() == pytest.approx(1e-3, rel=1e-2)


def test_mean_of_the_weights_follows():
    """Catches a decay turned round, a mean that lags a step, and buffers left behind."""
    state = fresh(config=replace(CONFIG, steps=12, ema_decay=0.5))
    expected = [p.clone() for p in state.model.parameters()]
    for record in fit(state, losses):
        decay = min(0.5, (1 + record.step) / (10 + record.step))
        now = list(state.model.parameters())
        expected = [
            decay * e + (1 - decay) * p.detach() for e, p in zip(expected, now, strict=True)
        ]
        torch.testing.assert_close(list(state.ema.parameters()), expected)
        for kept, buffer in zip(state.ema.buffers(), state.model.buffers(), strict=True):
            assert torch.equal(kept, buffer)
    assert not state.ema.training and not any(p.requires_grad for p in state.ema.parameters())


# Resume ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stops", [(1,), (4,), (2, 5), (8,)], ids=str)
def test_a_resumed_run_is_bit_identical(stops, tmp_path):
    """Catches anything a checkpoint forgets: moments, mean, buffers, the step, the dice."""
    unbroken = fresh()
    expected = [(r.losses, r.lr, r.grad_norm) for r in fit(unbroken, losses)]

    state, records = fresh(), []
    for stop in stops:
        for record in fit(state, losses):
            records.append((record.losses, record.lr, record.grad_norm))
            if record.step == stop:
                break
        file = checkpoint.save(tmp_path / f"step-{stop}.safetensors", *state.dump())
        state = fresh(seed=99)  # as in a new process: other weights, other dice
        state.restore(*checkpoint.load(file), file=file)
        assert state.step == stop
    records += [(r.losses, r.lr, r.grad_norm) for r in fit(state, losses)]

    assert records == expected
    assert_same(photo(state), photo(unbroken))
    assert state.dump()[1] == unbroken.dump()[1]


def test_who_looks_on_changes_nothing():
    """Catches a run that depends on what its caller draws, or on the mode the model is left in."""
    alone, watched = fresh(), fresh()
    expected = [r.losses for r in fit(alone, losses)]
    seen = []
    for record in fit(watched, losses):
        seen.append(record.losses)
        watched.model.eval()
        torch.rand(record.step)
    assert seen == expected
    assert_same(photo(watched), photo(alone))


def test_each_step_casts_new_dice_and_each_seed_others():
    """Catches one dropout mask for the whole run, and a seed without effect."""
    dice = []

    def watch(model, step, progress, rows):
        dice.append(torch.rand(()).item())
        return losses(model, step, progress)

    for seed in (0, 1):
        list(fit(fresh(config=replace(CONFIG, seed=seed)), watch))
    assert len(set(dice)) == 16


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    """Catches weights loaded half, or a crash that names no cause."""
    file = checkpoint.save(tmp_path / "step-1.safetensors", *fresh().dump())
    other = TrainState.start(Toy(ToyConfig(width=5)), CONFIG)
    before = photo(other)
    with pytest.raises(MinidalleError, match="width is 8 in the file and 5 in the model"):
        other.restore(*checkpoint.load(file), file=file)
    assert_same(photo(other), before)


# Faults ------------------------------------------------------------------------------------------
def nan_batch(model, step, progress, rows):
    return losses(model, step, progress, scale=math.nan if step == 2 else 1.0)


def nan_part(model, step, progress, rows):
    total, error, size = losses(model, step, progress)
    size = size * (math.inf if step == 2 else 1)
    return ToyLosses(total + size, error, size)


def nan_gradient(model, step, progress, rows):
    total, error, size = losses(model, step, progress)
    steep = (size - size.detach()).abs().sqrt()  # zero, with a slope of 0 · ∞
    return ToyLosses(total + steep if step == 2 else total, error, size)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (nan_batch, "step 3: error is nan"),
        (nan_part, "step 3: size is inf"),
        (nan_gradient, "step 3: gradient is nan"),
    ],
)
def test_a_loss_that_is_not_finite_stops_the_run_unharmed(bad, told):
    """Catches NaN weights, NaN running statistics, and a message that only blames the total."""
    state = fresh()
    with pytest.raises(MinidalleError, match=told):
        for record in fit(state, bad):
            if record.step == 2:
                before = photo(state)
    assert state.step == 2
    assert_same(photo(state), before)
    assert all(t.isfinite().all() for part in before.values() for t in part.values())


def test_an_absurd_learning_rate_is_told():
    """Catches a run that goes on for hours after it has gone to infinity."""
    state = fresh(config=replace(CONFIG, lr=1e20))
    with pytest.raises(MinidalleError, match=r"step \d: \w+ is (nan|inf).*lower learning rate"):
        list(fit(state, losses))
    assert state.step < 8


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
], ids=["GPU", "CPU"])  # fmt: skip
def test_out_of_memory_suggests_a_batch_size(error):
    """Catches a traceback of the allocator's, and a batch size that shrinks in silence."""
    state = fresh(config=replace(CONFIG, batch_size=64))
    before = photo(state)

    def full(model, step, progress, rows):
        raise error

    with pytest.raises(MinidalleError, match=r"size 64: .*--accumulate 2.*--batch-size 32"):
        next(fit(state, full))
    assert state.step == 0 and state.config.batch_size == 64
    assert_same(photo(state), before)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_parts_of_a_batch_change_nothing(accumulate):
    """Catches gradients of parts that are not averaged, and a part that is drawn twice."""

    def mean_over_rows(model, step, progress, rows):
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))[list(rows)]
        with torch.autocast("cpu", enabled=False):  # bfloat16 rounds parts otherwise
            error = (model.net[0](x).sum(1) - x.sum(1)).square().mean()
        return ToyLosses(error, error, error)

    whole, parts = fresh(), fresh(config=replace(CONFIG, accumulate=accumulate))
    for a, b in zip(fit(whole, mean_over_rows), fit(parts, mean_over_rows), strict=True):
        assert a.losses == pytest.approx(b.losses, rel=1e-5)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-4)
    for p, q in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)


def test_going_on_in_parts_says_that_it_is_not_bit_exact(tmp_path):
    """Catches a remedy for too little memory that then refuses the run it is meant to save."""
    state = fresh()
    tensors, metadata = state.dump()
    metadata = json.loads(json.dumps(metadata))
    with pytest.warns(UserWarning, match="in 1 microbatches and now there are 2"):
        fresh(config=replace(CONFIG, accumulate=2)).restore(tensors, metadata, file=tmp_path)


def test_a_batch_that_has_no_such_parts_is_refused():
    state = fresh(config=replace(CONFIG, accumulate=3))
    with pytest.raises(MinidalleError, match="a batch of 4 does not divide among 1 processes in 3"):
        next(fit(state, losses))


def test_a_missing_device_lists_those_there_are(monkeypatch):
    """Catches a fall back to the CPU in silence, and PyTorch's own traceback."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(MinidalleError, match=r"'cuda:7'.*cpu, cuda:0, cuda:1.*--device cpu"):
        pick_device("cuda:7")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MinidalleError, match="no device 'cuda' here"):
        pick_device("cuda")
    assert pick_device() == pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch_size": 0}])
def test_a_run_of_nothing_is_refused(change):
    """Catches zero steps, or steps on nothing, in silence."""
    with pytest.raises(MinidalleError, match="must be from 1 to"):
        replace(CONFIG, **change)


def test_another_number_of_threads_says_that_it_is_not_bit_exact(tmp_path):
    """Catches `train prior --resume` after `train all`, where the prior had half of the threads."""
    tensors, metadata = fresh().dump()
    metadata = {**json.loads(json.dumps(metadata)), "threads": 96}
    with pytest.warns(UserWarning, match="by 96 threads and now there are"):
        fresh().restore(tensors, metadata, file=tmp_path)
