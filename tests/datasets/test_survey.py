"""Counts of a folder: each is compared with a folder of known contents."""

import pytest
from PIL import Image

from minidalle.datasets.image_folder import CaptionedImageFolder
from minidalle.datasets.images import decode
from minidalle.datasets.survey import WORD, language, survey_folder

CAPTIONS = {
    "a.png": ["a red square", "红色的方块"],
    "b.png": ["a red square"],
    "c.png": ["one two three four five six"],
    "d.jpg": ["a tall picture"],
}


@pytest.fixture
def folder(tmp_path):
    sizes = {"a.png": (8, 8), "b.png": (8, 8), "c.png": (16, 16), "d.jpg": (20, 40)}
    for i, (name, lines) in enumerate(CAPTIONS.items()):
        Image.new("RGB", sizes[name], (60 * (i // 2), 9, 9)).save(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "e.png").write_bytes(b"no picture")
    (tmp_path / "e.txt").write_text("a bad one")
    return CaptionedImageFolder(tmp_path, 8)


def test_every_count(folder):
    survey = survey_folder(folder, len, max_tokens=14)
    assert (survey.pictures, survey.captions) == (4, 5)
    assert survey.sizes == (3, (8, 8), (20, 40), (8, 8), 2)
    assert survey.crop == (1, 0.5, "d.jpg")
    assert survey.languages == {"Latin letters": 4, "Chinese": 1}
    assert survey.words == (3, 3, 6)
    assert survey.tokens == (5, 12, 27) and survey.too_long == 1
    assert survey.repeated == {"a red square": 2}
    assert survey.duplicates.exact == [["a.png", "b.png"]]
    assert survey.duplicates.near == [["c.png", "d.jpg"]]
    first, note = survey.problems
    assert "e.png: not a picture" in first and "more than a fifth of 1 picture" in note


@pytest.mark.parametrize(
    "caption, expected",
    [("a café", "Latin letters"), ("红色T恤", "Chinese and Latin letters"),
     ("赤いボート", "Japanese"), ("빨간 배", "Korean"), ("красная лодка", "Cyrillic letters"),
     ("42 🚗", "no letters"),
     ("ｒｅｄ", "Latin letters"), ("\ue000", "no letters")],
)  # fmt: skip
def test_languages(caption, expected):
    assert language(caption) == expected


@pytest.mark.parametrize(
    "caption, number",
    [("a red boat", 3), ("eight o’clock, don't", 3), ("红色的船", 4), ("红色T恤", 4), ("!?", 0)],
)
def test_words(caption, number):
    assert len(WORD.findall(caption)) == number


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_of_a_rotated_photo_is_that_of_the_upright_one(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert decode(tmp_path / "a.jpg", 8).size == ((20, 40) if orientation > 4 else (40, 20))


def test_the_size_of_a_huge_jpeg_is_that_of_its_file(tmp_path):
    """Catches the size of the smaller picture as which it is decoded."""
    Image.new("L", (5200, 5200)).save(tmp_path / "a.jpg")
    assert decode(tmp_path / "a.jpg", 8).size == (5200, 5200)
