"""Run directories read back: their preset, their world, and what must not be compared."""

import json
import shutil

import pytest
import torch

from minidalle.errors import MinidalleError
from minidalle.evaluation.runs import open_run, open_runs, storybook
from minidalle.training.presets import PRESETS, preset
from minidalle.training.run import TrainingRun
from minidalle.world.storybook import Storybook

CPU = torch.device("cpu")


def begun(out, name="smoke", book=None, **sizes):
    """A run with nothing trained but its tokenizer, of which only the file is needed here."""
    chosen = preset(name)
    chosen = chosen.with_text_length(sizes.pop("text_length", None))
    TrainingRun(chosen, book or Storybook(), out, CPU).check_identity()
    (out / "tokenizer.json").write_text("{}")
    return out


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("book", [Storybook(), Storybook(seed=12, lone=True)], ids=str)
def test_a_run_is_found_again(tmp_path, name, book):
    """Catches two presets that cannot be told apart, and a world without its seed."""
    run = open_run(begun(tmp_path / "run", name, book), CPU)
    assert run.preset == preset(name) and storybook(run) == book


def test_runs_of_several_seeds_are_opened(tmp_path):
    outs = [begun(tmp_path / str(seed), book=Storybook(seed=seed)) for seed in (3, 0, 1)]
    assert [storybook(run).seed for run in open_runs(outs, CPU)] == [3, 0, 1]


@pytest.mark.parametrize(
    ("name", "book", "message"),
    [
        ("class", Storybook(seed=1), "at preset smoke and .*/b at class: compare runs of one"),
        ("smoke", Storybook(seed=1, lone=True), "lone things: compare runs of one world, all with"),
        ("smoke", Storybook(24, seed=1), "24 pixels.*: compare runs of one world"),
        ("smoke", Storybook(), "have the same seed, 0: leave one out, or train it with another"),
    ],
)
def test_what_differs_in_more_than_the_seed_is_refused(tmp_path, name, book, message):
    """Catches a table whose rows were trained on other pictures, or for longer."""
    good = begun(tmp_path / "a"), begun(tmp_path / "c", book=Storybook(seed=2))
    with pytest.raises(MinidalleError, match=message):
        open_runs([*good, begun(tmp_path / "b", name, book)], CPU)


def test_what_is_no_run_is_named(tmp_path):
    run = begun(tmp_path / "run")
    for name in ("run.json", "tokenizer.json"):
        copy = tmp_path / f"without {name}"
        shutil.copytree(run, copy)
        (copy / name).unlink()
        with pytest.raises(MinidalleError, match=f"is no run to compare, it has no {name}: name"):
            open_run(copy, CPU)
        assert not (copy / name).exists()  # nothing is written
    with pytest.raises(MinidalleError, match=r"has no run\.json"):
        open_run(tmp_path / "nowhere", CPU)
    with pytest.raises(MinidalleError, match=r"sizes of no preset: .* without --init, --text"):
        open_run(begun(tmp_path / "long", text_length=99), CPU)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"source": "x"', "[" * 5000])
def test_a_damaged_record_is_named(tmp_path, text):
    run = begun(tmp_path / "run")
    (run / "run.json").write_text(text)
    with pytest.raises(MinidalleError, match=r"run.json is damaged: delete it, and minidalle"):
        open_run(run, CPU)


@pytest.mark.parametrize(
    "source",
    [
        "12 captioned pictures (0123abcd)",
        "the storybook, first edition, 48 pixels, seed 0",
        "the storybook, second edition, 048 pixels, seed 0",
        "the storybook, second edition, 48 pixels, seed 0, augmented",
        "12 captioned pictures, and 0.25 of the storybook, second edition, 48 pixels, seed 0",
    ],
)
def test_other_pictures_cannot_be_judged(tmp_path, source):
    """Catches a run of one's own pictures that is compared on captions it never saw."""
    run = begun(tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "source": source}))
    with pytest.raises(MinidalleError, match="cannot read: compare runs of the storybook"):
        open_run(run, CPU)
