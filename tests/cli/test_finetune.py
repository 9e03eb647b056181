"""`minidalle finetune`, and the switches against over-fitting, at the terminal."""

import json

import numpy as np
import pytest
from PIL import Image

from minidalle.bundle import load_bundle
from minidalle.cli.main import main
from minidalle.pipeline import MiniDALLE

QUICK = ["--steps", "4", "--batch-size", "4", "--validate-every", "2", "--patience", "9"]


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """Forty pictures with captions."""
    folder, rng = tmp_path_factory.mktemp("mine"), np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), np.uint8)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"a hedgehog of number {i}\n")
    return folder


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_finetune_goes_on_from_a_bundle(mine, smoke_bundle, tmp_path, capsys):
    """The second command of one's own pictures: a bundle that knows both worlds' words."""
    out = tmp_path / "mine"
    command = ["finetune", str(mine), "--bundle", str(smoke_bundle), "--out", str(out), *QUICK]
    assert main([*command, "--tensorboard"]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip().endswith(f"bundle: {out / 'bundle'}")
    assert f"tensorboard --logdir {out / 'tensorboard'}" in printed.err
    before, after = load_bundle(smoke_bundle), load_bundle(out / "bundle")
    assert after.dvae.config.codes == before.dvae.config.codes + 1024
    assert after.tokenizer.vocab_size > before.tokenizer.vocab_size
    run = json.loads((out / "run.json").read_text())
    assert "0.25 of the storybook" in run["source"]
    assert MiniDALLE.load(out, device="cpu").generate("a hedgehog", 2).images.shape[0] == 2
    assert main([*command, "--resume"]) == 0  # finished: nothing is trained again
    # The curves and the pictures are there, as TensorBoard itself reads them.
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for stage, picture in (
        ("dvae", "reconstructions"), ("prior", "drawings"), ("clip", "similarity"),
    ):  # fmt: skip
        events = EventAccumulator(str(out / "tensorboard" / stage))
        events.Reload()
        steps = [point.step for point in events.Scalars("loss/total")]
        assert steps == [1, 2, 3, 4]
        assert [point.step for point in events.Scalars("loss/validation")] == [2, 4]
        assert picture in events.Tags()["images"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--replay", "1"], "--replay must be ≥ 0 and below 1, got 1.0"),
        (["--replay", "nan"], "--replay must be ≥ 0 and below 1"),
        (["--dropout", "2"], "dropout must be from 0 to 1, got 2"),
        (["--weight-decay", "-1"], "weight_decay must be from 0"),
        (["--patience", "-1"], "patience must be from 0"),
    ],
)
def test_switches_out_of_range(options, message, mine, smoke_bundle, tmp_path, capsys):
    command = ["finetune", str(mine), "--bundle", str(smoke_bundle), "--out", str(tmp_path / "x")]
    assert main([*command, *QUICK, *options]) == 2
    assert message in last_line(capsys)
    assert not (tmp_path / "x" / "dvae").exists()


def test_replay_is_for_pictures_of_ones_own(tmp_path, capsys):
    assert main(["train", "dvae", "--preset", "smoke", "--replay", ".5", "--out", str(tmp_path)])
    assert "--replay is for your own pictures" in last_line(capsys)


def test_a_switch_that_changes_the_training_is_not_changed_by_resuming(tmp_path, capsys):
    """Catches half a training with augmentation or sampled codes, and half without."""
    command = ["train", "tokenizer", "--preset", "smoke", "--out", str(tmp_path)]
    assert main([*command, "--sampled-codes", "--augment", "--dropout", "0.1"]) == 0
    for kept in (["--sampled-codes", "--augment"], ["--augment", "--dropout", "0.1"],
                 ["--sampled-codes", "--dropout", "0.1"]):  # fmt: skip
        capsys.readouterr()
        assert main([*command, *kept, "--resume"]) == 2
        assert str(tmp_path) in last_line(capsys)
