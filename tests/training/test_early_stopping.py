"""Early stopping: the lowest validation loss decides, also after an interruption."""

import json

import pytest
import torch
from torch import nn

from minidalle.errors import MinidalleError
from minidalle.training import checkpoint
from minidalle.training import run as module
from minidalle.training.config import TrainConfig
from minidalle.training.early_stopping import EarlyStopping, validation_loss
from minidalle.training.presets import preset
from minidalle.training.run import TrainingRun
from minidalle.training.stages import STAGES
from minidalle.training.trainer import Record
from minidalle.world.storybook import Storybook

SMOKE, CPU = preset("smoke"), torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:caption cut")


def record(step):
    return Record(step, 100, {"total": 0.0}, 0.1, 1.0, 1.0)


def looked(losses, patience, every=1):
    """An EarlyStopping after looks at a model whose weight is the step, and where it stopped."""
    config = TrainConfig(steps=100, validate_every=every, patience=patience)
    model, left = nn.Linear(1, 1), iter(losses)
    stopping = EarlyStopping(lambda _: next(left), config)
    for step in range(1, len(losses) * every + 1):
        nn.init.constant_(model.weight, step)
        seen = stopping.look(record(step), model)
        assert (seen.validation is None) == (step % every != 0)
        if stopping.is_over:
            break
    return stopping, step


def test_it_stops_after_as_many_looks_as_patience_says():
    stopping, step = looked([5, 4, 3, 3, 3.5, 2, 9], patience=2)
    assert step == 5 and stopping.best_step == 3 and stopping.best["weight"] == 3
    stopping, step = looked([5, 4, 3, 3, 2, 2.5, 2.1, 1], patience=3, every=10)
    assert step == 80 and stopping.best_step == 80 and not stopping.is_over


def test_without_patience_the_best_is_remembered_all_the_same():
    stopping, step = looked([5, 2, 3, 4, 5], patience=0)
    assert step == 5 and stopping.best_step == 2 and stopping.best["weight"] == 2


def test_patience_needs_looks():
    with pytest.raises(MinidalleError, match="set validate_every"):
        TrainConfig(steps=10, patience=2)


@pytest.mark.parametrize("stage", ["dvae", "prior", "clip"])
def test_the_validation_loss_is_that_of_held_out_examples(stage, smoke_bundle, monkeypatch):
    """Catches a loss that changes between two looks, that trains, or that reads the training."""
    run = TrainingRun(SMOKE, Storybook(), smoke_bundle.parent, CPU)
    asked = set()
    image = Storybook.image

    def watched(self, split, i):
        asked.add(split)
        return image(self, split, i)

    monkeypatch.setattr(Storybook, "image", watched)
    model = run.build(stage)[0]
    asked.clear()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    loss = validation_loss(STAGES[stage], run._inputs(stage), SMOKE.training[stage])
    state = torch.random.get_rng_state()
    assert loss(model) == loss(model)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert asked == {"validation"}
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert loss(run.model(stage)) < loss(model)


def test_a_run_that_ends_early_is_finished_with_its_best_weights(tmp_path, monkeypatch):
    """Catches the last weights in place of the best, a run that can never be assembled, and a
    resumed run that stops elsewhere than an unbroken one."""
    losses = {1: 5.0, 2: 3.0, 3: 4.0, 4: 3.5, 5: 1.0, 6: 0.5}
    monkeypatch.setattr(module, "SAVE_EVERY", 1)

    def fake(stage, given, config):
        return lambda model: losses[next(steps)]

    monkeypatch.setattr(module, "validation_loss", fake)
    chosen = SMOKE.with_training("dvae", validate_every=1, patience=2)
    ends = {}
    for name, breaks in (("unbroken", ()), ("broken", (1, 3))):
        run = TrainingRun(chosen, Storybook(), tmp_path / name, CPU)
        for stop in (*breaks, 100):
            done = checkpoint.steps(run.out / "dvae")
            steps = iter(range(1 + (checkpoint.step_of(done[0]) if done else 0), 7))
            for seen in run.train("dvae", resume=True):
                if seen.step == stop:
                    break
        ends[name] = checkpoint.load(checkpoint.steps(run.out / "dvae")[0])
        assert seen.step == 4 and seen.validation == 3.5
        assert list(run.train("dvae", resume=True)) == []
        best = checkpoint.load(run.out / "dvae" / "step-00000004.safetensors")[0]["best"]
        for key, value in run.model("dvae").state_dict().items():
            assert torch.equal(value, best[key])
        logged = [json.loads(line) for line in (run.out / "dvae.jsonl").read_text().splitlines()]
        assert [line["validation"] for line in logged] == [5.0, 3.0, 4.0, 3.5]
    (tensors, metadata), (other, other_metadata) = ends.values()
    assert metadata["best"] == other_metadata["best"] == {"loss": 3.0, "step": 2, "looks_since": 2}
    for group, named in tensors.items():
        for key, value in named.items():
            assert torch.equal(value, other[group][key]), (group, key)
    assert any(not torch.equal(v, tensors["ema"][k]) for k, v in tensors["best"].items())


def test_a_checkpoint_without_these_fields_goes_on(tmp_path):
    """Catches a training of last week that an update makes impossible to resume."""
    run = TrainingRun(SMOKE, Storybook(), tmp_path, CPU)
    for seen in run.train("dvae"):
        if seen.step == 2:
            break
    [file] = checkpoint.steps(tmp_path / "dvae")
    tensors, metadata = checkpoint.load(file)
    for field in ("validate_every", "patience"):
        del metadata["train_config"][field]
    with checkpoint.CheckpointDirectory(tmp_path / "dvae") as directory:
        directory.save(2, tensors, metadata)
    assert [r.step for r in run.train("dvae", resume=True)] == [3, 4, 5, 6]
