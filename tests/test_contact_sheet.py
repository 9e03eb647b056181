"""Labels: in any script, of any length, without boxes, and as fast for a novel as for a word."""

import time
import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw

from minidalle import contact_sheet
from minidalle.contact_sheet import (
    FONTS,
    choose_font,
    font,
    gallery,
    grid,
    has_glyph,
    label,
    strip,
    write,
)
from minidalle.world.storybook import Storybook

BLACK = [np.zeros((8, 8, 3), np.uint8)] * 2


def has(*names):
    return pytest.mark.skipif(
        all(font(name, 16) is None for name in names), reason=f"none of {names} is installed"
    )


@pytest.fixture(autouse=True)
def fresh():
    """Caches that no other test has filled."""
    for cached in (font, has_glyph, choose_font):
        cached.cache_clear()
    yield
    for cached in (font, has_glyph, choose_font):
        cached.cache_clear()


def pixels(text, width=None, size=18):
    sheet = Image.new("RGB", (700, 40), "white")
    write(ImageDraw.Draw(sheet), (5, 5), text, size, width=width)
    return np.asarray(sheet)


def slow_strip_title(text, width, name):
    """The former way: cut one character after the other, measure each time."""
    draw, chosen = ImageDraw.Draw(Image.new("RGB", (1, 1))), font(name, 18)
    while text and draw.textlength(text, font=chosen) > width:
        text = text[:-2] + "…" if len(text) > 2 else ""
    sheet = Image.new("RGB", (700, 40), "white")
    ImageDraw.Draw(sheet).text((5, 5), text, fill=contact_sheet.TEXT, font=chosen)
    return np.asarray(sheet)


# Fonts ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("width", [1, 20, 37, 100, 250, 374, 690])
def test_english_labels_are_pixel_for_pixel_what_they_were(width):
    """Pillow's own font, where it has the glyphs; shortened at the very same character."""
    for i in range(12):
        caption = Storybook().caption("train", i)
        for text in (caption, f"{caption}, and {caption}"):
            assert choose_font(text) == ("", "")
            assert np.array_equal(pixels(text, width), slow_strip_title(text, width, ""))


@has("NotoSansCJK-Regular.ttc")
def test_chinese_labels_are_pixel_for_pixel_what_they_were():
    for i in range(12):
        caption = Storybook().caption("train", i, "zh")
        for text in (caption, f"{caption}，{caption}"):
            name, missing = choose_font(text)
            assert name == "NotoSansCJK-Regular.ttc" and not missing
            for width in (20, 180, 374):
                assert np.array_equal(pixels(text, width), slow_strip_title(text, width, name))


@has("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "arial.ttf")
@pytest.mark.parametrize(
    "text", ["en blå bil på gräset, ß", "ένα κόκκινο αυτοκίνητο", "красная машина на траве",
             "a 48 × 48 — picture", "naïve Łódź"],
)  # fmt: skip
def test_other_letters_are_drawn_and_not_as_boxes(text):
    """å ß Greek and Cyrillic were boxes, since only Chinese had a font chosen for it."""
    name, missing = choose_font(text)
    assert name and not missing and all(has_glyph(name, c) for c in text if c != " ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (pixels(text) < 128).any()
    assert not all(has_glyph("", c) for c in text)


@has("DejaVuSans.ttf", "NotoSansArabic-Regular.ttf", "GeezaPro.ttc", "arial.ttf")
@pytest.mark.parametrize("text", ["سيارة حمراء", "دُبٌّ بُنِّيٌّ", "می‌خواهم"])
def test_arabic_with_vowels_and_joiners_has_a_font(text):
    name, missing = choose_font(label(text))
    assert name and not missing


@has("NotoSansCJK-Regular.ttc", "malgun.ttf", "AppleSDGothicNeo.ttc")
@pytest.mark.parametrize("text", ["빨간 자동차", "赤い車 ガ", "a red car 红色"])
def test_korean_japanese_and_mixtures_have_a_font(text):
    assert choose_font(label(text))[1] == ""


@pytest.mark.parametrize(
    ("text", "package"),
    [("ไทย car", "fonts-noto-core"), ("बड़ा भालू", "fonts-noto-core"), ("猫 cat", "fonts-noto-cjk"),
     ("한국어", "fonts-noto-cjk"), ("🐻 car", "fonts-symbola"),
     ("🐻 猫 ไ", "fonts-noto-cjk and fonts-noto-core and fonts-symbola")],
)  # fmt: skip
def test_without_a_font_one_warning_names_the_package(monkeypatch, text, package):
    monkeypatch.setattr(contact_sheet, "FONTS", ("", "no such font.ttf"))
    with pytest.warns(UserWarning) as notes:
        strip(BLACK, ["0.1", "0.2"], text)
    (note,) = (str(n.message) for n in notes)
    assert "no font here has" in note and f"install the package {package}" in note
    assert choose_font(label(text))[0] == ""


def test_scripts_that_are_installed_but_in_two_fonts_ask_for_no_package(monkeypatch):
    monkeypatch.setattr(contact_sheet, "has_glyph", lambda name, c: (name == "") == (c < "z"))
    with pytest.warns(UserWarning, match=r"other characters lacks жщ.*in one script$"):
        pixels("abc жщ")


def test_the_best_font_is_the_one_that_lacks_least(monkeypatch):
    known = {"": "abc", "two": "abcde", "three": "abc\u0e44"}
    monkeypatch.setattr(contact_sheet, "FONTS", ("", "two", "three"))
    monkeypatch.setattr(contact_sheet, "font", lambda *_, **__: True)
    monkeypatch.setattr(contact_sheet, "has_glyph", lambda name, c: c in known[name])
    assert choose_font("abc \ufe0f\u200d") == ("", "")
    assert choose_font("abd") == ("two", "")
    assert choose_font("\u0e44de") == ("two", "\u0e44")


def test_the_box_is_known_in_every_font():
    for name in filter(lambda name: font(name, 16), FONTS):
        assert not has_glyph(name, "\U0010fffe") and not has_glyph(name, "\uffff"), name
    assert has_glyph("", "a") and not has_glyph("", "é") and not has_glyph("nothing.ttf", "a")


# Length -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("letters", ["a red cat ", "x", "猫", "\u0301", "é", "سيارة ", "👩‍👩‍👧 "])
def test_the_time_of_a_label_does_not_grow_with_the_square_of_its_length(letters):
    """6,000 characters took 72 seconds."""
    text = (letters * 50_000)[:50_000]
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        strip(BLACK, [text, "0.2"], text)
        gallery(BLACK, [text, text], columns=2)
    assert time.perf_counter() - began < 10


def test_a_letter_is_not_cut_from_its_marks():
    fits = lambda part: len(part) <= 4  # noqa: E731
    assert contact_sheet._shorten("abcdefg", fits, "…") == "abc…"
    assert contact_sheet._shorten("abz\u0301\u0302fg", fits, "…") == "ab…"
    assert contact_sheet._shorten("a\u0301\u0302\u0303\u0304fg", fits, "…") == ""
    assert contact_sheet._shorten("abcd", fits, "…") == "abcd"


@pytest.mark.parametrize("length", [0, 1, 2, 15, 16, 17, 31, 32, 33, 100])
def test_the_longest_beginning_that_fits_is_found(length):
    text = "".join(chr(97 + i % 26) for i in range(length))
    for most in range(length + 3):
        measured = []
        fits = lambda part: measured.append(part) or len(part) <= most  # noqa: B023, E731
        assert contact_sheet._longest(text, fits) == min(most, length)
        assert len(measured) <= 12 and max(map(len, measured), default=0) <= max(32, 2 * most + 1)


def test_lines_break_at_the_last_space_that_fits():
    fits = lambda part: len(part) <= 8  # noqa: E731
    assert contact_sheet._break_line("a red cat sits", fits) == ["a red", "cat sits"]
    assert contact_sheet._break_line("a red ca", fits) == ["a red ca"]
    assert contact_sheet._break_line("abcdefghijk", fits) == ["abcdefghijk"]
    assert contact_sheet._break_line("abcdefgh jk", fits) == ["abcdefgh", "jk"]


# Control characters -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    ["a \x1b[31mred\x1b[0m cat", "\u202ea red cat", "a\x00 red\x07 cat\x9b0m", "a red\ncat",
     "\ufeffa r\u00aded ca\u200bt\u2066", "a\u2028red\tcat", "a red cat\U000e0001\U000e0061"],
)  # fmt: skip
def test_control_and_invisible_characters_are_no_boxes(text):
    assert label(text) == "a red cat"
    assert np.array_equal(pixels(text), pixels("a red cat"))
    plain = strip(BLACK, ["a red cat", "b"], "a red cat")
    assert np.array_equal(np.asarray(strip(BLACK, [text, "b"], text)), np.asarray(plain))


def test_half_of_a_character_is_written_as_a_question_mark():
    assert label("\ud83d red \udc3b") == "? red ?"


def test_joiners_and_selectors_are_left_out_where_they_would_be_drawn(monkeypatch):
    """Without Raqm a joiner is a box."""
    text = "a 👩\u200d👧 ❤\ufe0f می\u200cخواهم"
    monkeypatch.setattr(contact_sheet.features, "check", lambda name: True)
    assert label(text) == text
    monkeypatch.setattr(contact_sheet.features, "check", lambda name: False)
    assert label(text) == "a 👩👧 ❤ میخواهم"


# Tables -----------------------------------------------------------------------------------------
def test_a_table_has_all_cells_in_whole_pixels_and_all_labels():
    """Catches rows and columns exchanged, smeared pixels, and a label without its second line."""
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 256, (3, 2, 48, 48, 3), np.uint8)
    captions = ["a cat", "a red car and a white dog at night", "an extraordinarily-long-word " * 9]
    sheet = np.asarray(grid([list(row) for row in cells], captions, ["GAN", "a system"], scale=2))
    assert sheet.shape == (34 + 3 * 106, 190 + 2 * 106, 3)
    kept = sheet.copy()
    for j, i in np.ndindex(3, 2):
        y, x = 34 + 106 * j, 190 + 106 * i
        assert np.array_equal(sheet[y : y + 96, x : x + 96], cells[j, i].repeat(2, 0).repeat(2, 1))
        kept[y : y + 96, x : x + 96] = 255
    for i in range(2):
        assert (kept[:34, 190 + 106 * i : 286 + 106 * i] < 200).any()
    lines = [(kept[34 + 106 * j : 140 + 106 * j, :180] < 200).any((1, 2)) for j in range(3)]
    assert all(line.any() for line in lines)
    assert np.diff(lines[1].nonzero()[0]).max() > 2 >= np.diff(lines[0].nonzero()[0]).max()
    kept[:34, 190:], kept[34:, 10:180] = 255, 255
    assert (kept == 255).all()  # nothing is written over the pictures, or beside the margin
