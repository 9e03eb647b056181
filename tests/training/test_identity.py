"""A run directory holds what belongs together: one source, one preset, stages that learnt from each
other."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from minidalle.bundle import load_bundle
from minidalle.errors import MinidalleError
from minidalle.training.identity import check_identity
from minidalle.training.presets import preset
from minidalle.training.run import TrainingRun
from minidalle.world.storybook import Storybook

SMOKE, CPU = preset("smoke"), torch.device("cpu")


def new(out, chosen=SMOKE, init=None):
    return TrainingRun(chosen, Storybook(), out, CPU, init)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = new(tmp_path_factory.mktemp("run"))
    for stage in ("dvae", "prior", "clip"):
        list(run.train(stage))
    return run


@pytest.fixture
def copy(trained, tmp_path):
    shutil.copytree(trained.out, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("stage", ["prior", "clip"])
def test_a_stage_that_learnt_from_another_dvae_is_refused(copy, stage):
    """Catches the prior of one dVAE in a bundle with another: codes that mean other things."""
    shutil.rmtree(copy / "dvae")
    list(new(copy, SMOKE.with_training("dvae", lr=5e-4)).train("dvae"))
    run = new(copy)
    for attempt in (lambda: list(run.train(stage, resume=True)), lambda: run.model(stage)):
        with pytest.raises(MinidalleError, match=f"trained on another dvae .* train {stage} again"):
            attempt()
    with pytest.raises(MinidalleError, match="another dvae"):
        run.assemble()


def test_a_stage_that_learnt_from_another_tokenizer_is_refused(copy):
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    merges = tokenizer["merges"]
    i = next(i for i in range(1, len(merges)) if 255 + i not in merges[i])  # it stands alone
    merges[i - 1 : i + 1] = merges[i], merges[i - 1]
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(MinidalleError, match="another tokenizer"):
        new(copy).model("prior")


def test_the_same_inputs_are_accepted(copy):
    """Catches a digest that changes when a directory is copied, or read twice."""
    run = new(copy)
    assert list(run.train("prior", resume=True)) == []
    assert run.assemble().is_dir()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"vocab_size": 300}, "vocab_size was 400 and is 300"),
        ({"captions": 9}, "captions was 500 and is 9"),
        ({"models": {**SMOKE.models, "prior": replace(SMOKE.models["prior"], width=64)}},
         "prior.width was 32 and is 64"),
    ],
)  # fmt: skip
def test_another_preset_is_refused(copy, change, says):
    """Catches a mixture of two presets in one directory."""
    for stage in ("tokenizer", "dvae", "prior", "clip"):
        with pytest.raises(MinidalleError, match=f"{says}.*--preset"):
            list(new(copy, replace(SMOKE, **change)).train(stage, resume=True))


def test_other_settings_of_training_are_no_other_preset(copy):
    """Catches a refusal of --lr for a stage that has not begun."""
    shutil.rmtree(copy / "clip")
    assert len(list(new(copy, SMOKE.with_training("clip", lr=1e-4)).train("clip"))) == 6


def test_sizes_are_compared_as_json_gives_them_back(tmp_path):
    """Catches tuples that differ from the lists in the file."""
    check_identity(tmp_path, "a source", {"widths": (16, 32)})
    check_identity(tmp_path, "a source", {"widths": (16, 32)})
    with pytest.raises(MinidalleError, match=r"widths was \[16, 32\] and is \[16\]"):
        check_identity(tmp_path, "a source", {"widths": (16,)})


def test_a_run_starts_from_a_bundle(trained, tmp_path):
    """Catches weights, sizes or a tokenizer that are not the bundle's, and another bundle later."""
    bundle = load_bundle(trained.assemble(tmp_path / "bundle"))
    run = new(tmp_path / "run", init=bundle)
    assert run.tokenizer().to_json() == bundle.tokenizer.to_json()
    for stage in ("dvae", "clip"):
        model, _ = run.build(stage) if stage == "dvae" else (None, None)
        if model is not None:
            for name, value in model.state_dict().items():
                assert torch.equal(value, getattr(bundle, stage).state_dict()[name])
    list(run.train("dvae"))
    with pytest.raises(MinidalleError, match="at other sizes"):
        new(tmp_path / "run").tokenizer()


@pytest.mark.filterwarnings("ignore:caption cut")
@pytest.mark.parametrize("length", [8, 40])
def test_a_run_starts_from_a_bundle_of_another_text_length(tmp_path, length):
    """Catches captions as long as the preset's, which the bundle's models cannot read."""
    first = new(tmp_path / "first", SMOKE.with_text_length(length))
    for stage in ("dvae", "prior", "clip"):
        list(first.train(stage))
    run = new(tmp_path / "run", init=load_bundle(first.assemble()))
    for stage in ("dvae", "prior", "clip"):
        list(run.train(stage))
    bundle = load_bundle(run.assemble())
    assert bundle.prior.config.text_length == bundle.clip.config.text_length == length


def test_a_users_own_folder_among_the_checkpoints_is_left_alone(tmp_path):
    """Catches `step-old` taken for a checkpoint, and junk in the log that ends a resume."""
    (tmp_path / "dvae" / "step-old").mkdir(parents=True)
    (tmp_path / "dvae" / "step-old" / "notes.txt").write_text("mine")
    run = new(tmp_path)
    records = run.train("dvae")
    next(records)
    records.close()
    (tmp_path / "dvae.jsonl").write_bytes(b'junk\n[]\n{"step": "x"}\n\xff\xfe\n{"step": 1}\n')
    assert [r.step for r in run.train("dvae", resume=True)] == [2, 3, 4, 5, 6]
    assert (tmp_path / "dvae.jsonl").read_text() == '{"step": 1}\n'
    assert (tmp_path / "dvae" / "step-old" / "notes.txt").read_text() == "mine"
