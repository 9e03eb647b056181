"""The model card that a reader fills in."""

import json

import pytest

from minidalle.bundle import default_bundle, load_bundle
from minidalle.lab.card import PROSE, QUESTIONS, measured, model_card, problems

BUNDLE = default_bundle()


@pytest.fixture(scope="module")
def answers():
    manifest = json.loads((BUNDLE / "manifest.json").read_text())["files"]
    parts = load_bundle(BUNDLE)
    count = sum(p.numel() for m in (parts.dvae, parts.prior, parts.clip) for p in m.parameters())
    return {
        "licence": "MIT",
        "pixels": parts.dvae.config.image_size,
        "parameters": round(count / 1e6, 2),
        "codes": parts.dvae.config.codes,
        "bytes": sum((BUNDLE / name).stat().st_size for name in manifest),
        "fingerprint": manifest["prior.safetensors"]["sha256"][:8].upper(),
        **dict.fromkeys(PROSE, "three honest words"),
    }


def test_a_right_card_is_complete(answers):
    assert set(answers) == set(QUESTIONS)
    assert not problems(BUNDLE, answers)
    assert "complete" in model_card(BUNDLE, answers).data


@pytest.mark.parametrize("field", QUESTIONS)
@pytest.mark.parametrize("empty", [None, "", "  "])
def test_no_field_may_be_empty(answers, field, empty):
    assert problems(BUNDLE, {**answers, field: empty}) == {field: "empty"}


@pytest.mark.parametrize("field", sorted(measured(BUNDLE)))
def test_what_a_program_knows_is_checked(answers, field):
    wrong = "00000000" if field == "fingerprint" else 1
    assert problems(BUNDLE, {**answers, field: wrong})[field].startswith("wrong")
    assert "✗ wrong" in model_card(BUNDLE, {**answers, field: wrong}).data
    assert problems(BUNDLE, {**answers, field: "many"})[field].startswith("wrong")


def test_prose_of_a_word_and_fields_of_ones_own_are_refused(answers):
    assert "short" in problems(BUNDLE, {**answers, "bias": "none"})["bias"]
    assert problems(BUNDLE, {**answers, "mood": "good"}) == {"mood": "no field of the card"}
