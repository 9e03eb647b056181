"""`minidalle compare`: from trained runs to a table, a file of figures and a sheet."""

import json
import shutil
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from minidalle.cli.main import main
from minidalle.contact_sheet import enlarge
from minidalle.evaluation.compare import EXAMPLES
from minidalle.evaluation.runs import open_run
from minidalle.evaluation.systems import NAMES, trained_systems
from minidalle.tensors import to_uint8
from minidalle.training.stages import NAMES as STAGES
from minidalle.world.facts import SKILLS
from minidalle.world.storybook import Storybook
from tests.cli.test_commands import last_line

CPU = torch.device("cpu")
SMOKE = ["--preset", "smoke", "--device", "cpu"]
FEW = ["--captions", "4", "--candidates", "2", "--device", "cpu"]
pytestmark = pytest.mark.filterwarnings("ignore:caption cut")


@pytest.fixture(autouse=True)
def few_drawings(monkeypatch):
    """As few as will do: what is drawn here is noise."""
    for name, few in (("FEWEST", 4), ("NUM_DIVERSE", 1), ("REPEATS", 1)):
        monkeypatch.setattr(f"minidalle.evaluation.compare.{name}", few)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All stages at two seeds, as a reader would train them."""
    outs = [tmp_path_factory.mktemp("runs") / f"seed-{seed}" for seed in (0, 1)]
    for seed, out in enumerate(outs):
        assert main(["train", *STAGES, *SMOKE, "--seed", str(seed), "--out", str(out)]) == 0
    return outs


@pytest.fixture(scope="module")
def features(smoke_bundle):
    return ["--features", str(smoke_bundle)]


def files(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*") if p.is_file()}


def compare(*arguments):
    return main(["compare", *map(str, arguments), *FEW])


def test_the_whole_flow(runs, features, tmp_path, capsys):
    """Two seeds, all systems. Catches a system or a seed left out, a run that is written to."""
    before = [files(out) for out in runs]
    figures, sheet = tmp_path / "figures.json", tmp_path / "sheet.png"
    assert compare(*runs, *features, "--json", figures, "--picture", sheet) == 0
    assert [files(out) for out in runs] == before
    printed = capsys.readouterr()
    assert "note:" not in printed.err and "judging: drawing 80 of 80" in printed.err
    tables = printed.out.split("\n\n")
    for table in tables[:3]:
        header, *rows = table.splitlines()
        assert header.startswith("system ") and len(rows) == len(NAMES)
        assert len({len(line) for line in (header, *rows)}) == 1
        assert all(row.startswith(name) for row, name in zip(rows, NAMES.values(), strict=True))
    assert tables[1].splitlines()[0].split("  ")[-1] == SKILLS[-1]
    assert "intervals over 2 seeds and captions" in tables[3]
    assert "FID in the features of CLIP trained on the storybook" in tables[3]
    assert "dvae, which also goes into DALL·E, encoder–decoder, masked codes: " in tables[3]
    assert "clip, which also goes into unCLIP: " in tables[3]
    assert f"{sheet}: 8 captions × 5 systems" in printed.out
    check_schema(json.loads(figures.read_text(encoding="utf-8")), runs)
    check_sheet(sheet, runs[0])


def check_schema(document, runs):
    assert list(document) == [
        "preset", "source", "runs", "captions", "candidates", "seed", "features", "shared",
        "systems",
    ]  # fmt: skip
    assert document["preset"] == "smoke" and document["source"] == Storybook().name
    assert document["runs"] == [{"out": str(out), "seed": i} for i, out in enumerate(runs)]
    assert (document["captions"], document["candidates"], document["seed"]) == (4, 2, 0)
    assert set(document["shared"]) == {"dvae", "clip"}
    assert [row["stage"] for row in document["systems"]] == list(NAMES)
    for row in document["systems"]:
        assert list(row) == [
            "stage", "name", "seeds", "steps", "steps_of_preset", "unfinished", "needs",
            "validation", "compositions", "skills", "diversity", "fid", "parameters", "minutes",
            "pictures_per_second", "lines",
        ]  # fmt: skip
        assert row["seeds"] == [0, 1] and row["steps"] == [6, 6] and row["steps_of_preset"] == 6
        assert not row["unfinished"] and row["parameters"] > 1000 and row["lines"] > 50
        estimates = [row[key] for key in ("validation", "compositions", "diversity", "fid",
                                          "minutes", "pictures_per_second")]  # fmt: skip
        for estimate in [*estimates, *row["skills"].values()]:
            assert list(estimate) == ["mean", "low", "high", "seeds"]
            assert len(estimate["seeds"]) == 2
            assert estimate["mean"] == pytest.approx(np.mean(estimate["seeds"]), abs=1e-4)
            assert estimate["low"] <= estimate["mean"] <= estimate["high"]
        assert row["fid"]["mean"] > 0 and row["pictures_per_second"]["low"] > 0


def check_sheet(sheet, out):
    """Each cell is the drawing of its caption by its system, in whole pixels; each label is there.

    Catches rows and columns exchanged, and pictures of a seed that was picked.
    """
    with Image.open(sheet) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    systems = list(trained_systems(open_run(out, CPU)))
    left, top, side, gap = 190, 34, 144, 10
    assert pixels.shape == (top + 8 * (side + gap), left + 5 * (side + gap), 3)
    for i, system in enumerate(systems):
        x = left + i * (side + gap)
        assert (pixels[:top, x : x + side] < 200).any(), f"{system.name} has no label"
        for j, caption in enumerate(EXAMPLES):
            y = top + j * (side + gap)
            cell = pixels[y : y + side, x : x + side]
            if system.stage == "gan" or j in (i, 7):  # the others take their time
                drawn = to_uint8(system.draw(caption, 1, 0))[0]
                assert np.array_equal(cell, enlarge(drawn, side))
            assert (cell != cell[0, 0]).any(), f"{system.name} drew nothing of {caption}"
            assert (pixels[y : y + side, : left - gap] < 200).any(), f"{caption} has no label"


def test_a_system_that_is_not_trained_is_left_out_with_a_note(runs, features, tmp_path, capsys):
    """Catches a row of one seed that looks like one of two, and a remedy that cannot be typed."""
    part, figures = tmp_path / "part", tmp_path / "figures.json"
    shutil.copytree(runs[1], part)
    for stage in ("gan", "unclip"):
        shutil.rmtree(part / stage)
    systems = ["--systems", "prior", "gan"]
    assert compare(runs[0], part, *features, *systems, "--json", figures) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note:")]
    (note,) = notes
    assert f"GAN is not trained in {part} and left out there: run minidalle train gan" in note
    rows = json.loads(figures.read_text())["systems"]
    assert [(row["stage"], row["seeds"]) for row in rows] == [("prior", [0, 1]), ("gan", [0])]
    command = note.split("run minidalle ")[1].split()
    assert main([*command, "--steps", "2"]) == 0
    assert compare(part, *features, "--systems", "unclip") == 2
    line = last_line(capsys)
    assert line.startswith(f"minidalle: none of unclip is trained in {part}: run minidalle train")


def test_unfinished_training_is_named_in_the_row(runs, features, tmp_path, capsys):
    """Catches a table that holds half a training against a whole one: asked for fewer steps, or
    interrupted."""
    part, figures = tmp_path / "part", tmp_path / "figures.json"
    shutil.copytree(runs[0], part)
    for stage in ("masked", "prior"):
        shutil.rmtree(part / stage)
    assert main(["train", "masked", *SMOKE, "--steps", "3", "--out", str(part)]) == 0
    records = open_run(part, CPU).train("prior")
    assert [record.step for record in islice(records, 2)] == [1, 2]
    records.close()
    systems = ["--systems", "prior", "masked", "gan"]
    assert compare(part, *features, *systems, "--json", figures) == 0
    tables = capsys.readouterr().out.split("\n\n")
    for table in tables[:3]:
        _, prior, masked, gan = table.splitlines()
        assert prior.startswith("DALL·E (2 of 6 steps) ") and gan.startswith("GAN  ")
        assert masked.startswith("masked codes (3 of 6 steps) ")
    assert "intervals over captions" in tables[3]
    rows = json.loads(figures.read_text())["systems"]
    assert [row["unfinished"] for row in rows] == [True, True, False]


def test_mistakes_are_one_line_before_any_drawing(runs, features, tmp_path, capsys, smoke_bundle):
    other = tmp_path / "lone"
    assert main(["train", "tokenizer", *SMOKE, "--lone", "--seed", "7", "--out", str(other)]) == 0
    capsys.readouterr()
    for arguments, message in (
        ([tmp_path], "is no run to compare, it has no run.json: name the --out of minidalle"),
        ([runs[0], other], "compare runs of one world, all with --lone or all without"),
        ([runs[0], runs[0]], "have the same seed, 0: leave one out"),
        ([other], "none of prior, encoder_decoder, masked, gan, unclip is trained in"),
        ([*runs, "--captions", "3"], "captions must be at least 4"),
        ([*runs, "--json", tmp_path / "no" / "x"], "there is no folder"),
        ([*runs, "--picture", tmp_path / "x.abc"], "for instance x.png"),
    ):
        assert main(["compare", *map(str, arguments), *features, "--device", "cpu"]) == 2
        printed = capsys.readouterr()
        assert message in printed.err and printed.out == "" and "drawing" not in printed.err
