"""A run directory holds what belongs together: one source, one preset, stages that learnt from each
other."""

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch

from minidalle.bundle import load_bundle
from minidalle.cli.main import main
from minidalle.errors import MinidalleError
from minidalle.training import checkpoint
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


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A run of the same preset whose tokenizer, dVAE and CLIP are others."""
    chosen = replace(SMOKE, captions=300).with_training("dvae", lr=5e-4)
    run = new(tmp_path_factory.mktemp("other"), chosen)
    for stage in ("dvae", "clip"):
        list(run.train(stage))
    return run


def files(out):
    """All that is in a run, but for what every training writes."""
    passing = ("lock", "owner")
    return {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name not in passing}


def put(part, source, target):
    """A file or folder of one run in place of another's."""
    shutil.rmtree(target / part) if (target / part).is_dir() else (target / part).unlink()
    copy = shutil.copytree if (source / part).is_dir() else shutil.copy
    copy(source / part, target / part)


def train(out, stage, capsys):
    """The exit status of the command that continues a stage, and its last line."""
    command = ["train", stage, "--preset", "smoke", "--device", "cpu", "--out", str(out)]
    return main([*command, "--resume"]), capsys.readouterr().err.strip().rpartition("\n")[2]


@pytest.mark.parametrize(
    ("part", "stage", "needed"),
    [("dvae", "prior", "dvae"), ("dvae", "clip", "dvae"), ("tokenizer.json", "clip", "tokenizer"),
     ("tokenizer.json", "prior", "tokenizer"), ("clip", "clip", "tokenizer")],
)  # fmt: skip
def test_a_part_that_was_copied_from_another_run_is_refused(copy, trained, other, part, stage,
                                                            needed, capsys):  # fmt: skip
    """Catches words and codes that mean other things, in a run of the same preset and source."""
    put(part, other.out, copy)
    before = files(copy)
    status, said = train(copy, stage, capsys)
    assert status == 2 and said.startswith(f"minidalle: {copy / stage}/step-00000006.safetensors")
    assert f"another {needed} than the one in {copy}: move {copy / stage} away" in said
    with pytest.raises(MinidalleError, match=f"another {needed}"):
        new(copy).assemble()
    assert files(copy) == before
    put(part, trained.out, copy)
    assert train(copy, stage, capsys)[0] == 0


def test_a_stage_half_way_when_its_dvae_is_exchanged(copy, trained, other, capsys):
    """Catches a prior that learns the codes of one dVAE, and from the middle on those of another;
    with the old one back, it ends as it would have."""
    shutil.rmtree(copy / "prior")
    records = new(copy).train("prior")
    next(records)
    records.close()
    put("dvae", other.out, copy)
    status, said = train(copy, "prior", capsys)
    assert status == 2 and "step-00000001.safetensors was trained on another dvae" in said
    put("dvae", trained.out, copy)
    assert train(copy, "prior", capsys)[0] == 0
    name = "prior/step-00000006.safetensors"
    assert checkpoint.digest(copy / name) == checkpoint.digest(trained.out / name)


@pytest.mark.filterwarnings("ignore:.*passed over")
def test_a_byte_of_the_dvae_is_changed_under_a_finished_prior(copy, capsys):
    """Catches damage taken for another dVAE: trained again, it is the same, and so all fits."""
    file = copy / "dvae" / "step-00000006.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    for stage in ("prior", "clip"):
        status, said = train(copy, stage, capsys)
        assert status == 2 and f"{file} is damaged: " in said and "delete it, and --resume" in said
    for stage in ("dvae", "prior", "clip"):
        assert train(copy, stage, capsys)[0] == 0
    assert new(copy).assemble().is_dir()


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


WIDTHS = {"dvae": {"widths": (24,)}, "prior": {"width": 16}, "clip": {"width": 16}}
NARROW = replace(
    SMOKE, models={k: replace(v, **WIDTHS.get(k, {})) for k, v in SMOKE.models.items()}
)


def assert_refused(out, chosen, says, source=None):
    """No stage goes on, and nothing in the directory has changed."""
    before = files(out)
    for stage in ("tokenizer", "dvae", "prior", "clip"):
        with pytest.raises(MinidalleError, match=says):
            list(TrainingRun(chosen, source or Storybook(), out, CPU).train(stage, resume=True))
    assert files(out) == before


@pytest.mark.parametrize("is_old", [False, True])
def test_a_run_whose_record_was_deleted(copy, is_old):
    """Catches another preset, or other pictures, that take over a run without its `run.json`; a run
    of an older release never had one, nor sources in its checkpoints."""
    record = (copy / "run.json").read_bytes()
    (copy / "run.json").unlink()
    if is_old:
        for file in copy.glob("*/step-*"):
            tensors, metadata = checkpoint.load(file)
            del metadata["source"]
            checkpoint.save(file, tensors, metadata)
        for stage in ("prior", "clip"):
            shutil.rmtree(copy / stage)
    assert_refused(copy, NARROW, r"dvae/step-00000006\.safetensors is .* \(dvae\.widths was \[32\]")
    if not is_old:
        small = Storybook(24)
        assert_refused(copy, SMOKE, "is trained on the storybook, second edition, 48 pixels", small)
    list(new(copy).train("prior", resume=True))
    assert (copy / "run.json").read_bytes() == record


@pytest.mark.parametrize("sizes", [{}, {"captions": 500, "vocab_size": 400}])
def test_a_run_whose_record_was_edited(copy, sizes):
    """Catches a record that says too little to refuse anything: the checkpoints still know."""
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "sizes": sizes}))
    for stage in ("dvae", "prior", "clip"):
        with pytest.raises(
            MinidalleError, match=rf"{stage}\.widths? was .*the same --preset again"
        ):
            list(new(copy, NARROW).train(stage, resume=True))
    assert list(new(copy).train("prior", resume=True)) == []


@pytest.mark.parametrize("kind", ["null", "list", "deep", "latin", "cut", "folder", "link", "pipe"])
def test_a_record_that_is_none(copy, kind):
    """Catches a traceback, a pipe that is read for ever, and a message of a hundred fields."""
    file = copy / "run.json"
    record = file.read_bytes()
    file.unlink()
    texts = {
        "null": b'{"source": "x", "sizes": null}', "list": b'{"source": "x", "sizes": [1]}',
        "deep": b"[" * 100_000, "latin": b'{"source": "\xe9"}', "cut": record[:99],
    }  # fmt: skip
    if kind in texts:
        file.write_bytes(texts[kind])
    elif kind == "link":
        file.symlink_to(copy / "tokenizer.json")
    else:
        os.mkfifo(file) if kind == "pipe" else file.mkdir()
    with pytest.raises(MinidalleError, match=r"run\.json is damaged: delete it") as caught:
        list(new(copy).train("prior", resume=True))
    assert len(str(caught.value)) < 300
    file.rmdir() if kind == "folder" else file.unlink()
    assert list(new(copy).train("prior", resume=True)) == [] and file.read_bytes() == record


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
