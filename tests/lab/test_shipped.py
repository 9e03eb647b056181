"""The half-trained prior and the film: read as they were written, refused where they do not fit."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save as tensor_bytes

from minidalle.dvae import DVAE, DVAEConfig
from minidalle.errors import MinidalleError
from minidalle.lab import shipped
from minidalle.prior import Prior, PriorConfig
from tests.benchmarks.half_trained import half_precision, sheet

CONFIG = PriorConfig(vocab_size=40, text_length=6, codes=8, grid=3, width=16, layers=2, heads=2)
INDEX = {"steps": [3, 30], "captions": ["a", "b", "c"], "half_trained_at": 30, "of": 60}


class Bundle:
    """What the loader needs of a bundle."""

    device = torch.device("cpu")
    dvae = DVAE(DVAEConfig(codes=8, image_size=12, widths=(8,), blocks=1))
    prior = Prior(CONFIG)


@pytest.fixture
def film():
    rng = np.random.default_rng(0)
    return {s: [rng.integers(0, 255, (4, 4, 3), dtype=np.uint8) for _ in "abc"] for s in (3, 30)}


@pytest.fixture
def folder(tmp_path, monkeypatch, film):
    monkeypatch.setattr(shipped, "folder", lambda: tmp_path)
    torch.manual_seed(1)
    state = half_precision(Prior(CONFIG).state_dict())
    (tmp_path / shipped.WEIGHTS).write_bytes(tensor_bytes(state))
    (tmp_path / shipped.PICTURES).write_bytes(sheet(film))
    (tmp_path / shipped.INDEX).write_text(json.dumps(INDEX), encoding="utf-8")
    return tmp_path


def test_the_prior_is_the_one_that_was_saved(folder):
    torch.manual_seed(1)
    saved, loaded = Prior(CONFIG).state_dict(), shipped.half_trained_prior(Bundle())
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, saved[name].half().float())


def test_each_call_gives_a_new_prior_that_can_be_trained(folder):
    """Catches a cached model: the chapter keeps one as it was and trains another."""
    first, second = (shipped.half_trained_prior(Bundle()) for _ in range(2))
    assert all(p.requires_grad for p in first.parameters())
    with torch.no_grad():
        first.start.add_(1)
    assert not torch.equal(first.start, second.start)


def test_the_film_comes_back_picture_by_picture(folder, film):
    """Catches rows taken for columns."""
    read = shipped.shipped_film()
    assert list(read) == [3, 30] and shipped.film_captions() == ["a", "b", "c"]
    for step, images in film.items():
        assert len(read[step]) == 3
        for ours, theirs in zip(read[step], images, strict=True):
            assert np.array_equal(ours, theirs) and ours.dtype == np.uint8
    assert shipped.film_index()[2:] == (30, 60)


READERS = {
    shipped.WEIGHTS: lambda: shipped.half_trained_prior(Bundle()),
    shipped.PICTURES: shipped.shipped_film,
    shipped.INDEX: shipped.film_captions,
}


@pytest.mark.parametrize("name", READERS)
def test_a_missing_or_damaged_file_is_one_clear_line(folder, name):
    (folder / name).write_bytes(b"not this")
    with pytest.raises(MinidalleError, match=f"{name} is damaged"):
        READERS[name]()
    (folder / name).unlink()
    with pytest.raises(MinidalleError, match=f"{name} is missing: get") as caught:
        READERS[name]()
    assert "\n" not in str(caught.value)


def test_weights_of_another_prior_are_refused(folder):
    other = Prior(PriorConfig(**{**vars(CONFIG), "codes": 9})).state_dict()
    (folder / shipped.WEIGHTS).write_bytes(tensor_bytes(half_precision(other)))
    with pytest.raises(MinidalleError, match="does not fit this model"):
        shipped.half_trained_prior(Bundle())


def test_a_film_of_another_shape_is_refused(folder):
    buffer = io.BytesIO()
    Image.new("RGB", (9, 8)).save(buffer, "PNG")
    (folder / shipped.PICTURES).write_bytes(buffer.getvalue())
    with pytest.raises(MinidalleError, match="2 moments of 3 captions"):
        shipped.shipped_film()
