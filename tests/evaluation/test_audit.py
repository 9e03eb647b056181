"""The measures of an audit, against slow ones and closed forms."""

import math

import numpy as np
import pytest
import torch

from minidalle.evaluation.audit import (
    caption_nats,
    colours_of,
    exposure,
    shares_of,
    tempered,
    total_variation,
    wilson,
)
from minidalle.pipeline import MiniDALLE
from minidalle.world.storybook import Storybook


def test_shares_leave_out_what_has_no_name():
    names = ["a", "b", "c"]
    assert shares_of(["a", "b", "a", None, "z"], names) == {"a": 2 / 3, "b": 1 / 3, "c": 0.0}
    assert shares_of([None], names) == {"a": 0.0, "b": 0.0, "c": 0.0}


def test_total_variation_is_the_largest_gap_of_any_event():
    """Of all sets of names, the largest difference of probabilities."""
    p, q = {"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 0.1, "b": 0.4, "d": 0.5}
    names = sorted(p | q)
    events = [[n for k, n in enumerate(names) if bits >> k & 1] for bits in range(16)]
    gaps = [abs(sum(p.get(n, 0) - q.get(n, 0) for n in event)) for event in events]
    assert total_variation(p, q) == pytest.approx(max(gaps))
    assert total_variation(p, p) == 0 and total_variation({"a": 1.0}, {"b": 1.0}) == 1


@pytest.mark.parametrize("temperature", [0.05, 0.4, 1.0, 2.5])
def test_tempered_shares_are_the_softmax_of_divided_logits(temperature):
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    expected = (p.log() / temperature).softmax(0)
    got = tempered(dict(enumerate(p.tolist())), temperature)
    assert list(got.values()) == pytest.approx(expected.tolist(), abs=1e-6)
    assert tempered({"a": 1.0, "b": 0.0}, temperature) == {"a": 1.0, "b": 0.0}


def test_wilson_holds_the_true_share_as_often_as_it_says():
    n, p = 30, 0.05  # where the usual interval fails
    chances = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    inside = [low <= p <= high for low, high in (wilson(k, n) for k in range(n + 1))]
    assert 0.93 < sum(c for c, held in zip(chances, inside, strict=True) if held) < 0.99
    assert wilson(0, 20)[0] == pytest.approx(0) and wilson(0, 20)[1] > 0.1
    assert wilson(20, 20)[1] == pytest.approx(1)


def test_colours_are_those_of_the_kind_asked_for():
    book = Storybook(lone=True)
    rows = [i for i in range(60) if book.scene("train", i).facts.things[0].kind in ("car", "cat")]
    images = [book.image("train", i) for i in rows]
    things = [book.scene("train", i).facts.things[0] for i in rows]
    assert colours_of(images, "car") == [t.colour if t.kind == "car" else None for t in things]


def test_nats_of_captions_are_those_of_the_joint_model():
    """Catches a text that is read shifted, padding that counts, and codes that matter to it."""
    model = MiniDALLE.load(device="cpu")
    prior, length = model.prior, model.prior.config.text_length
    captions = ["a red car on the grass", "一只红色的汽车", "x"]
    text = model.tokenizer.batch(captions, length)
    codes = torch.randint(prior.config.codes, (3, prior.config.grid**2))
    with torch.no_grad():
        logits = prior.logits(text, codes)[0].log_softmax(-1)
    slow = [
        -sum(logits[b, t, token].item() for t, token in enumerate(row) if token < len(logits[b, t]))
        for b, row in enumerate(text.tolist())
    ]
    got = caption_nats(prior, model.tokenizer, captions, batch=2)
    np.testing.assert_allclose(got, slow, rtol=1e-4)


def test_exposure_counts_bits():
    nats = torch.tensor([3.0, 1.0, 2.0, 9.0])
    assert [exposure(nats, i) for i in range(4)] == pytest.approx([math.log2(4 / 3), 2.0, 1.0, 0.0])
    random = [exposure(torch.arange(1000.0), i) for i in range(1000)]
    assert np.mean(random) == pytest.approx(1 / math.log(2), abs=0.02)
