"""Measures of a bundle on pictures that no judge can read."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from minidalle.cli.main import main
from minidalle.datasets.image_folder import CaptionedImageFolder
from minidalle.datasets.source import FolderSource
from minidalle.errors import MinidalleError
from minidalle.evaluation.metrics import frechet_distance
from minidalle.evaluation.pictures import (
    bootstrap_fid,
    evaluate_pictures,
    nearest,
    nearest_codes,
)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("mine"), np.random.default_rng(0)
    for i in range(180):
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), np.uint8)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"picture {i}\n")
    return folder


class Means(nn.Module):
    """Stands in for Inception: the mean of each quarter of each channel, 12 features."""

    num_features = 12

    def forward(self, x):
        return x.float().unflatten(2, (2, -1)).unflatten(4, (2, -1)).mean((3, 5)).flatten(1)


def test_the_frechet_distance_is_that_of_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (64, 3, 16, 16), generator=generator, dtype=torch.uint8)
    drawn = torch.randint(0, 200, (80, 3, 16, 16), generator=generator, dtype=torch.uint8)
    theirs = FrechetInceptionDistance(feature=Means(), input_img_size=(3, 16, 16))
    theirs.set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(drawn, real=False)
    ours = frechet_distance(Means()(real), Means()(drawn))
    assert ours == pytest.approx(theirs.compute().item(), rel=1e-4)


def test_the_interval_holds_the_distance_of_two_clouds():
    """Catches an interval of one set resampled, or of rows that no longer belong together."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(400, 3, generator=generator) for _ in range(2))
    low, high = bootstrap_fid(a, b + 1)
    assert low < frechet_distance(a, b + 1) < high
    assert low > 2.3 and high < 4.2  # of two unit Gaussians a step of 1 apart in 3 dimensions: 3
    assert bootstrap_fid(a, b + 1) == (low, high)
    assert bootstrap_fid(a, b)[1] < low


def test_the_nearest_row_by_cosine():
    rows = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), dim=1)
    distance, which = nearest(rows[[2, 0]], rows[[1, 0]])
    assert which == [0, 1] or which == [1, 1]  # the diagonal is as near to both
    assert torch.allclose(distance, torch.tensor([1 - 0.5**0.5, 0.0]), atol=1e-6)


@pytest.mark.filterwarnings("ignore:caption cut")
def test_the_report_of_a_folder(mine, smoke_model):
    source = FolderSource(CaptionedImageFolder(mine, 48))
    n = len(source.splits["test"])
    report, shown = evaluate_pictures(smoke_model, source, pictures=50)
    assert report["pictures"] == n == len(shown) and report["independent"] is False
    assert report["fid"]["low"] < report["fid"]["high"]
    assert 0 <= report["retrieval"] <= 1
    training = {source.image("train", i).tobytes() for i in range(source.epoch)}
    for i, (caption, real, drawn, near) in enumerate(shown):
        assert caption == source.caption("test", i)
        assert np.array_equal(real, source.image("test", i))
        assert drawn.shape == (48, 48, 3) and near.tobytes() in training
    # A model that hands back training pictures is found out.
    smoke = smoke_model.candidates
    copies = iter(range(n))
    try:
        smoke_model.candidates = lambda *_: (None, torch.from_numpy(
            source.image("train", next(copies))).movedim(-1, 0)[None] / 255)  # fmt: skip
        copied, shown = evaluate_pictures(smoke_model, source, pictures=50)
    finally:
        smoke_model.candidates = smoke
    assert copied["nearest_training_picture"]["drawn"] == pytest.approx(0, abs=1e-4)
    assert all(np.array_equal(row.drawn, row.nearest) for row in shown)


def test_too_few_held_out_pictures(mine, smoke_model):
    source = FolderSource(CaptionedImageFolder(mine, 48))
    source.splits["test"] = source.splits["test"][:3]
    with pytest.raises(MinidalleError, match="the test split has 3 pictures, and 10 are needed"):
        evaluate_pictures(smoke_model, source)


def test_the_command(mine, smoke_bundle, tmp_path, capsys):
    file = tmp_path / "report.json"
    command = ["evaluate", "--bundle", str(smoke_bundle), "--data", str(mine), "--captions", "12"]
    assert main([*command, "--features", str(smoke_bundle), "--json", str(file)]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads(file.read_text())
    assert json.loads(printed.out)["independent"] is True
    assert main(command) == 0
    assert "the bundle's own CLIP; --features names another" in capsys.readouterr().err
    assert main([*command, "--split", "compositions"]) == 2
    assert main(["evaluate", "--bundle", str(smoke_bundle), "--split", "test"]) == 2
    assert "name --data" in capsys.readouterr().err


def test_a_copy_shares_all_of_its_codes():
    """Catches the share of the wrong row, and codes counted wherever they stand."""
    training = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8], [4, 3, 2, 1]])
    drawn = torch.tensor([[5, 6, 7, 8], [1, 2, 9, 9], [9, 9, 9, 9], [4, 3, 2, 9]])
    share, which = nearest_codes(drawn, training)
    assert share.tolist() == [1, 0.5, 0, 0.75] and which == [1, 0, 0, 2]
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 3, (n, 12), generator=generator) for n in (7, 9))
    slow = [max(sum(x == y for x, y in zip(r, t, strict=True)) / 12 for t in b.tolist())
            for r in a.tolist()]  # fmt: skip
    torch.testing.assert_close(nearest_codes(a, b)[0], torch.tensor(slow))
