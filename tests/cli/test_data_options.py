"""The options of `minidalle train --data`: which column, which crop."""

import json

import pytest
from PIL import Image

from minidalle.cli.main import main
from tests.cli.test_commands import last_line


@pytest.fixture
def table(tmp_path):
    """A folder of 12 wide pictures, with two columns that may hold the captions."""
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = ["file_name,caption,tags"]
    for i in range(12):
        Image.new("RGB", (60, 40), (20 * i, 40, 90)).save(folder / f"{i}.png")
        rows.append(f"{i}.png,picture {i},tag {i}")
    (folder / "metadata.csv").write_text("\n".join(rows))
    return folder


def test_a_run_on_another_column_or_crop_is_refused(table, tmp_path, capsys):
    """Catches options that never reach the pictures, and a run that goes on with other ones."""
    command = ["train", "dvae", "--preset", "smoke", "--device", "cpu", "--data", str(table)]
    command += ["--out", str(tmp_path / "run")]
    chosen = ["--caption-column", "tags", "--crop", "pad"]
    assert main([*command, *chosen]) == 0
    assert "a centre crop cuts" not in capsys.readouterr().err
    for other in ([], chosen[:2], chosen[2:], [*chosen[:2], "--crop", "centre"]):
        assert main([*command, *other, "--resume"]) == 2
        told = last_line(capsys)
        assert "is trained on" in told and "the same --data, --caption-column and --crop" in told
    assert main([*command, *chosen, "--resume"]) == 0


def test_a_run_on_another_crop_whose_record_is_gone(table, tmp_path, capsys):
    """Catches a prior on other squares than its dVAE, once `run.json` is deleted."""
    command = ["--preset", "smoke", "--device", "cpu", "--data", str(table), "--caption-column"]
    command += ["caption", "--out", str(tmp_path / "run")]
    assert main(["train", "dvae", *command, "--crop", "pad"]) == 0
    (tmp_path / "run" / "run.json").unlink()
    assert main(["train", "prior", *command]) == 2
    said = last_line(capsys)
    assert "dvae/step-00000006.safetensors is trained on" in said and "--crop again" in said
    assert not (tmp_path / "run" / "run.json").exists()
    assert main(["train", "prior", *command, "--crop", "pad"]) == 0


def test_the_background_process_reads_the_same_column_and_crop(table, tmp_path):
    """Catches CLIP trained on other squares than the dVAE: its own process reads the folder."""
    command = ["train", "all", "--preset", "smoke", "--device", "cpu", "--data", str(table)]
    command += ["--out", str(tmp_path / "run"), "--caption-column", "tags", "--crop", "pad"]
    assert main(command) == 0
    words = json.loads((tmp_path / "run" / "bundle" / "info.json").read_text())["words"]
    assert "tag" in words and "picture" not in words


@pytest.mark.parametrize("stage", ["dvae", "all"])
@pytest.mark.parametrize(
    "option", [["--crop", "pad"], ["--crop", "centre"], ["--caption-column", "text"],
               ["--caption-column", ""], ["--strict"]], ids=" ".join,
)  # fmt: skip
def test_an_option_for_ones_own_pictures_without_any(stage, option, tmp_path, capsys):
    """Catches an option that does nothing, without a word."""
    out = tmp_path / "run"
    assert main(["train", stage, "--preset", "smoke", *option, "--out", str(out)]) == 2
    told = f"{option[0]} is for your own pictures: name them with --data, or leave"
    assert told in last_line(capsys) and not out.exists()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--caption-column", "label"], "no column “label”; choose one of its columns: file_name,"),
        (["--caption-column", ""], "caption_column must name the column of the captions, got ''"),
        (
            ["--caption-column", "file_name"],
            "must name the column of the captions, got 'file_name'",
        ),
    ],
)
def test_a_column_that_there_is_not(table, option, says, tmp_path, capsys):
    command = ["train", "dvae", "--preset", "smoke", "--data", str(table), *option]
    assert main([*command, "--out", str(tmp_path / "run")]) == 2
    assert says in last_line(capsys) and not (tmp_path / "run").exists()


def test_a_crop_that_there_is_not(table, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "dvae", "--data", str(table), "--crop", "center"])
    assert ended.value.code == 2 and "choose from 'centre', 'pad'" in capsys.readouterr().err
