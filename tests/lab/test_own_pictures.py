"""Chapter 14's set of pictures: icons where emoji are missing, planted faults, quick drawing."""

import numpy as np
import pytest
import torch

from minidalle.datasets import emoji
from minidalle.datasets.image_folder import CaptionedImageFolder
from minidalle.datasets.survey import survey_folder
from minidalle.errors import MinidalleError
from minidalle.lab import own_pictures
from minidalle.lab.icons import STYLES, draw_icon, write_icons
from minidalle.lab.own_pictures import choose, draw_captions, emoji_or_icons, plant_faults
from minidalle.sampling import SamplingConfig, candidate_generators, sample_codes
from minidalle.world.facts import COLOURS, KINDS


@pytest.fixture(scope="module")
def icons(tmp_path_factory):
    out = tmp_path_factory.mktemp("icons") / "all"
    write_icons(out)
    return CaptionedImageFolder(out, 48)


def test_icons_are_different_pictures_with_two_captions_each(icons):
    """Catches two kinds that look alike in a style, and a colour that is lost."""
    assert icons.report() == "288 pictures with 576 captions; 0 files left out"
    found = icons.duplicates()
    assert not found.exact and not found.near
    texts = {icons.name(i): icons.caption(i) for i in range(0, len(icons), 2)}
    assert texts["red_heart_line.png"] == "red heart line"
    assert {text.split()[-1] for text in texts.values()} == set(STYLES)
    assert "红色爱心线条" in {icons.caption(i) for i in range(len(icons))}


@pytest.mark.parametrize("style", STYLES)
def test_an_icon_is_seen_in_every_colour(style):
    """Catches white on white."""
    for kind in KINDS:
        for colour in COLOURS.values():
            icon = draw_icon(kind, colour, style)
            assert icon.shape == (48, 48, 3) and icon.dtype == np.uint8
            assert icon.astype(int).mean(2).std() > 9, (kind, colour)


def test_icons_stand_in_for_emoji(tmp_path, monkeypatch):
    def missing():
        raise MinidalleError("No module named 'emoji'")

    monkeypatch.setattr(emoji, "load_packages", missing)
    assert emoji_or_icons(tmp_path / "set").startswith("288 icons")
    monkeypatch.setattr(own_pictures, "write_emoji", lambda out, size: 7)
    assert emoji_or_icons(tmp_path / "other") == "7 emoji"


def test_a_choice_keeps_pictures_whole_with_both_captions(icons, tmp_path):
    chosen = choose(icons, {"heart", "star"}, tmp_path / "mine")
    assert len(chosen) == 2 * 2 * len(COLOURS)
    assert {chosen.name(i).split("_")[1] for i in range(len(chosen))} == {"heart", "star"}
    assert chosen.caption(1) == "黑色爱心线条"


def test_the_check_finds_each_planted_fault(icons, tmp_path):
    """Catches a fault that the chapter promises, and the check does not show."""
    mine = choose(icons, {"heart", "car"}, tmp_path / "mine")
    plant_faults(mine, tmp_path / "scraped")
    survey = survey_folder(CaptionedImageFolder(tmp_path / "scraped", 48), len, max_tokens=200)
    assert [sorted(group)[0] for group in survey.duplicates.exact] == ["IMG_4.png"]
    assert [sorted(group)[0] for group in survey.duplicates.near] == ["IMG_2.jpg"]
    assert survey.crop.name == "IMG_1.png" and survey.crop.cut_much == 1
    assert survey.too_long == 1 and survey.pictures == 24 + 3
    assert len(survey.problems) == 2 and "IMG_3.png" in survey.problems[0]


def test_captions_drawn_together_follow_the_priors_distribution(smoke_model):
    """Catches captions that are mixed up, and a step that is fed another one's codes: at a
    temperature near 0 the picture is that of greedy sampling."""
    prior, dvae, tokenizer = smoke_model.prior, smoke_model.dvae, smoke_model.tokenizer
    captions = ["a red car", "两颗星星", "a blue house at night"]
    drawn = draw_captions(prior, dvae, tokenizer, captions, 1e-6)
    for caption, image in zip(captions, drawn, strict=True):
        text, empty = smoke_model.text_for_clip(caption), tokenizer.empty_captions(1, 48)
        *_, codes = sample_codes(
            prior, text, empty, SamplingConfig(temperature=0), candidate_generators(0, 1)
        )
        expected = dvae.decode(codes.view(1, 12, 12))[0]
        assert torch.allclose(image, expected, atol=1e-5)
    again = draw_captions(prior, dvae, tokenizer, captions, 1.0)
    assert torch.equal(again, draw_captions(prior, dvae, tokenizer, captions, 1.0))
    assert not torch.equal(again, draw_captions(prior, dvae, tokenizer, captions, 1.0, seed=1))
