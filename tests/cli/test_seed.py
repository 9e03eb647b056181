"""`minidalle train STAGE … --seed N --lone`: several stages, another seed, the easier world."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from minidalle.cli.main import main, parser
from minidalle.cli.train import _names, _training_run
from minidalle.training import checkpoint
from minidalle.world.storybook import Storybook
from tests.cli.test_commands import last_line

SMOKE = ["--preset", "smoke", "--device", "cpu"]


def train(*stages_and_options, out):
    return main(["train", *stages_and_options, *SMOKE, "--out", str(out)])


def newest(out, stage):
    return checkpoint.load(checkpoint.steps(out / stage)[0])


def test_stages_are_trained_in_the_order_in_which_they_learn():
    assert _names(["masked", "prior", "dvae", "prior"]) == ["dvae", "prior", "masked"]
    assert _names(["gan", "all"]) == ["tokenizer", "dvae", "prior", "clip", "gan"]
    assert _names(["tokenizer"]) == ["tokenizer"]


def test_options_reach_the_source_and_every_stage(tmp_path):
    """Catches a seed that reaches the weights but not the data, or the other way round."""
    command = ["train", "gan", "--seed", "3", "--lone", *SMOKE, "--out", str(tmp_path)]
    run = _training_run(parser().parse_args(command), torch.device("cpu"), is_main=True)
    assert run.source == Storybook(48, seed=3, lone=True)
    assert {config.seed for config in run.preset.training.values()} == {3}


@pytest.fixture(scope="module")
def lone(tmp_path_factory):
    """Three stages at seed 1, named in another order."""
    out = tmp_path_factory.mktemp("runs") / "lone"
    assert train("gan", "prior", "dvae", "--seed", "1", "--lone", out=out) == 0
    return out


def test_every_stage_follows_the_seed_and_the_run_records_it(lone, tmp_path):
    """Catches a stage of its own seed, and a run that does not say which it is."""
    source = json.loads((lone / "run.json").read_text())["source"]
    assert source.endswith("seed 1, lone things")
    assert train("dvae", "gan", "--lone", out=tmp_path) == 0
    for stage in ("dvae", "prior", "gan"):
        tensors, metadata = newest(lone, stage)
        assert metadata["train_config"]["seed"] == 1 and metadata["source"] == source
        if stage != "prior":
            other, theirs = newest(tmp_path, stage)
            assert theirs["train_config"]["seed"] == 0
            weights = [name for name, w in tensors["ema"].items() if w.is_floating_point()]
            changed = [n for n in weights if not torch.equal(tensors["ema"][n], other["ema"][n])]
            assert len(changed) > len(weights) / 2
    tokens = [(out / "tokenizer.json").read_bytes() for out in (lone, tmp_path)]
    assert tokens[0] != tokens[1]


@pytest.mark.parametrize("options", [["--lone"], ["--seed", "1"], ["--lone", "--seed", "2"], []])
def test_another_seed_or_world_is_refused(lone, capsys, options):
    """Catches a run that goes on with other data than it began with."""
    for stage in ("prior", "clip"):  # finished, and not begun
        assert train(stage, "--resume", *options, out=lone) == 2
        line = last_line(capsys)
        assert "is trained on the storybook" in line and "--seed and --lone" in line
    assert not (lone / "clip").exists()
    assert train("prior", "dvae", "--resume", "--lone", "--seed", "1", out=lone) == 0


def test_a_folder_is_read_in_another_order(tmp_path, capsys):
    folder, rng = tmp_path / "mine", np.random.default_rng(0)
    folder.mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), np.uint8)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"picture {i}")
    data = ["--data", str(folder), "--augment"]
    outs = [tmp_path / "a", tmp_path / "b"]
    assert train("dvae", *data, out=outs[0]) == 0
    assert train("dvae", *data, "--seed", "1", out=outs[1]) == 0
    names = [json.loads((out / "run.json").read_text())["source"] for out in outs]
    assert "seed" not in names[0] and names[1] == names[0].replace(", aug", ", seed 1, aug")
    assert train("dvae", *data, "--resume", out=outs[1]) == 2
    assert "is trained on" in last_line(capsys)
    assert train("dvae", *data, "--lone", out=tmp_path / "c") == 2
    assert "--lone is of the storybook: leave --data or it out" in last_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dvae", "prior", "--lr", "1e-3"], "--lr is for one stage: leave it out, or train each"),
        (["dvae", "--seed", "-1"], "seed must be from 0 to"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, arguments, message):
    assert train(*arguments, out=tmp_path / "run") == 2
    assert message in last_line(capsys) and not (tmp_path / "run").exists()


def test_steps_are_those_of_each_stage_named(tmp_path):
    assert train("dvae", "gan", "--steps", "3", out=tmp_path) == 0
    assert [newest(tmp_path, stage)[1]["step"] for stage in ("dvae", "gan")] == [3, 3]
