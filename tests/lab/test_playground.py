"""The playground without a browser: every action of its three tabs."""

import asyncio

import numpy as np
import pytest

from minidalle.errors import MinidalleError
from minidalle.lab.playground import Playground, describe, edit, verdicts
from minidalle.lab.playground.panel import Rest
from minidalle.lab.playground.views import best
from minidalle.normalise import CONTROLS


@pytest.fixture
def page(smoke_model):
    return Playground(smoke_model, candidates=4, keep=2)


@pytest.fixture
def playground(page):
    return page.drawing


@pytest.fixture
def calls(playground, monkeypatch):
    """The captions of all calls of the model, which still draws."""
    asked, generate = [], playground.model.generate

    def count(caption, *args, **options):
        asked.append(caption)
        return generate(caption, *args, **options)

    monkeypatch.setattr(playground.model, "generate", count)
    return asked


# Draw ---------------------------------------------------------------------------------------------
def test_a_caption_draws_and_shows_verdicts(playground):
    playground.draw()
    assert playground.pictures.value.count("<img") == 2 and len(playground.ranked.images) == 2
    first = playground.pictures.value
    playground.seed.value = 5  # a moved slider draws anew
    assert playground.pictures.value != first
    assert playground.bar.value == playground.bar.max


def test_enter_draws_and_a_click_after_it_does_not_draw_again(playground, calls):
    """The box gives its value with Enter or when it is left, so a click leaves it first."""
    assert not playground.caption.continuous_update
    playground.caption.value = "two pink hearts"
    playground.button.click()
    assert calls == ["two pink hearts"] and "pink hearts" in playground.pictures.value


def test_a_slider_draws_once_when_it_rests(playground, calls):
    """Catches a drawing per step of a slider that is moved by keys."""
    playground.rest.seconds = 0.05

    async def move():
        for value in (1, 2, 3):
            playground.seed.value = value
        playground.guidance.value = 8
        assert calls == []
        await asyncio.sleep(0.2)

    asyncio.run(move())
    assert len(calls) == 1 and playground.guidance.value == 8


def test_a_drawing_forgets_the_slider_that_still_waits(playground, calls):
    playground.rest.seconds = 0.05

    async def move():
        playground.seed.value = 1
        playground.draw()
        await asyncio.sleep(0.2)

    asyncio.run(move())
    assert len(calls) == 1


def test_without_an_event_loop_nothing_waits():
    called = []
    Rest().later(lambda: called.append(1))
    assert called == [1]


def test_old_pictures_leave_before_new_ones_come(playground, monkeypatch):
    """Catches the last caption's pictures above a bar that runs for the next one."""
    playground.draw()
    old, generate, seen = playground.pictures.value, playground.model.generate, []

    def look(*args, **options):
        seen.append((playground.pictures.value, playground.complete_buttons[0].disabled))
        return generate(*args, **options)

    monkeypatch.setattr(playground.model, "generate", look)
    playground.caption.value = "three yellow stars"
    assert seen == [("", True)] and playground.pictures.value not in ("", old)


def test_old_pictures_leave_when_a_drawing_fails(page, playground):
    playground.draw()
    playground.caption.value = "   "
    assert playground.pictures.value == "" and playground.ranked is None
    assert "a caption is needed" in playground.message.value
    assert not playground.button.disabled and playground.complete_buttons[0].disabled
    assert "no picture yet" in page.editing.preview.value


def test_pictures_grow_row_by_row(playground):
    grown = []
    playground.pictures.observe(lambda change: grown.append(change["new"]), "value")
    playground.draw()
    rows = playground.model.dvae.config.grid
    assert sum("rows of codes are drawn" in page for page in grown) == rows - 1
    assert "rows of codes" not in grown[-1]


def test_all_candidates_are_shown_on_demand(playground, calls):
    playground.draw()
    few = playground.pictures.value
    playground.all_candidates.value = True
    assert playground.pictures.value.count("<img") == 4
    playground.all_candidates.value = False
    assert playground.pictures.value == few and len(calls) == 1


def test_the_best_of_all_candidates_are_shown(playground):
    """`generate` puts different pictures first; catches a page that ranks them again."""
    playground.draw()
    everything = playground.everything
    assert len(everything.images) == 4
    few = best(everything, 2)
    assert (few.codes == everything.codes[:2]).all() and len(few.scores) == 2


def test_a_completion_keeps_the_upper_half_and_the_words_of_the_box(playground, calls):
    playground.complete(0)  # nothing is drawn yet: nothing happens
    assert playground.ranked is None and calls == []
    playground.draw()
    upper, words = playground.ranked.codes[1][:4], playground.caption.value
    playground.complete_buttons[1].click()
    assert (playground.ranked.codes[:, :4] == upper).all()
    assert playground.caption.value == words and calls == [words, words]
    assert playground.pictures.value.count("dashed") == 2
    assert "The frame marks what was kept" in playground.pictures.value
    playground.button.click()  # the caption is drawn whole again
    assert "dashed" not in playground.pictures.value


def test_guidance_goes_to_eight(playground):
    assert playground.guidance.max == 8


def test_words_without_a_meaning_are_named(playground):
    playground.caption.value = "a giraffe"
    assert "giraffe" in playground.message.value
    assert "not a storybook caption" in verdicts(playground.ranked).alt


@pytest.mark.parametrize(
    "markup",
    ["<img src=x onerror=alert(1)>", '"><script>alert(1)</script>', "</div><b>&amp;'",
     "<svg/onload=alert(1)>"],
)  # fmt: skip
def test_markup_in_a_caption_is_text_on_the_page(playground, markup):
    """Catches a caption that runs a script: on a web page it may come from a link."""
    playground.caption.value = f"a red cat {markup}"
    playground.draw()
    page = playground.message.value + playground.pictures.value
    assert "never seen in training" in playground.message.value
    for tag in ("<img src=x", "<script", "</div><b>", "<svg"):
        assert tag not in page
    assert playground.ranked.caption == f"a red cat {markup}"


def test_markup_in_an_error_or_a_warning_is_text_on_the_page(playground, monkeypatch):
    evil = "<img src=x onerror=alert(1)> & \x1b[31m\u202e"

    def refuse(*_, **__):
        raise MinidalleError(f"cannot read {evil}")

    monkeypatch.setattr(playground.model, "generate", refuse)
    playground.draw()
    shown = "&lt;img src=x onerror=alert(1)&gt; &amp;"
    assert playground.message.value == f"<b>cannot read {shown}</b>"
    monkeypatch.undo()
    playground.caption.value = "a <b>zebra</b> " * 40  # cut, and the rest is quoted
    playground.draw()
    assert "caption cut" in playground.message.value
    assert "&lt;b&gt;" in playground.message.value and "<b>" not in playground.message.value


@pytest.mark.parametrize(
    "caption", ["a \x1b[31mred\x1b[0m cat", "\u202ea red cat", "a red\x07 cat"]
)
def test_control_characters_do_not_reach_the_page(playground, caption):
    playground.caption.value = caption
    playground.draw()
    page = playground.message.value + playground.pictures.value
    assert not CONTROLS.search(page) and "\\x1b" not in page and "read as" in page
    assert "not a storybook caption" not in page  # the judge reads what the models read


def test_the_judge_reads_a_caption_as_the_models_do(playground):
    """Catches a right picture that is "not a storybook caption" for a no-break space."""
    playground.caption.value = "ａ ｒｅｄ\u00a0ｃａｒ on the grass"
    playground.draw()
    assert playground.message.value == ""
    assert "not a storybook caption" not in playground.pictures.value


# Edit ---------------------------------------------------------------------------------------------
def test_without_a_picture_there_is_nothing_to_edit_or_describe(page):
    for act in (page.editing.edit, page.editing.find, page.editing.repair):
        act()
        assert "no picture yet" in page.editing.message.value
    for act in (page.describing.describe, page.describing.rank):
        act()
        assert "no picture yet" in page.describing.message.value


def test_a_region_is_drawn_anew_and_all_else_stays(page, monkeypatch):
    drawn, ranked = [], edit.edit
    monkeypatch.setattr(edit, "edit", lambda *a, **k: drawn.append(ranked(*a, **k)) or drawn[-1])
    page.drawing.draw()
    panel = page.editing
    panel.choice.value = 1
    for slider, value in zip(panel.sides, (0, 24, 24, 48), strict=True):
        slider.value = value
    assert panel.region == (0, 24, 24, 48) and "dashed" in panel.preview.value
    panel.caption.value = "a red car"  # Enter
    panel.edit_button.click()  # is shown already
    (result,) = drawn
    before = page.ranked.images[1]
    assert (result.images[:, :24] == before[:24]).all()
    assert (result.images[:, :, 24:] == before[:, 24:]).all()
    assert panel.pictures.value.count("dashed") == len(result.images)
    panel.choice.value = 0
    assert panel.pictures.value == ""  # it was an edit of another picture


def test_an_edit_needs_words_and_a_region(page):
    page.drawing.draw()
    panel = page.editing
    panel.edit()
    assert "a caption is needed" in panel.message.value
    panel.sides[0].value = panel.sides[2].value
    assert "dashed" not in panel.preview.value
    panel.caption.value = "<b>car</b>"
    assert "is not inside the picture" in panel.message.value
    assert not panel.edit_button.disabled


def test_words_choose_a_region(page, monkeypatch):
    monkeypatch.setattr(edit, "find_thing", lambda image, words: (5, 13, 20, 31))
    page.drawing.draw()
    panel = page.editing
    panel.thing.value = "the red car"
    cell = panel.model.dvae.config.factor
    x0, y0, x1, y1 = panel.region
    assert all(at % cell == 0 for at in panel.region)
    assert 5 - cell < x0 <= 5 and 13 - cell < y0 <= 13 and 20 <= x1 < 20 + cell and y1 >= 31
    panel.sides[0].value = 0
    panel.find_button.click()
    assert panel.region == (x0, y0, x1, y1)


def test_a_thing_that_is_not_there_is_text_of_the_page(page):
    page.drawing.draw()
    page.editing.thing.value = "<img src=x> car"
    assert "&lt;img" in page.editing.message.value and "<img" not in page.editing.message.value


def test_noise_is_added_and_removed(page, monkeypatch):
    given, repair = [], edit.repair
    monkeypatch.setattr(
        edit, "repair", lambda m, x, *a, **k: given.append(x) or repair(m, x, *a, **k)
    )
    page.drawing.draw()
    page.editing.repair_button.click()
    (noisy,) = given
    apart = np.std(noisy.astype(float) - page.ranked.images[0])
    assert 10 < apart < 40 and page.editing.pictures.value.count("<img") == 3
    assert "with noise 0.15" in page.editing.pictures.value


# Describe -----------------------------------------------------------------------------------------
def test_a_picture_is_described_in_the_language_asked_for(page, monkeypatch):
    asked = []
    monkeypatch.setattr(
        describe,
        "describe_picture",
        lambda m, image, language: (asked.append(language) or "<b>猫", 0),
    )
    page.drawing.draw()
    page.describing.language.value = "zh"
    page.describing.describe_button.click()
    assert asked == ["zh"] and "&lt;b&gt;猫" in page.describing.pictures.value
    page.describing.choice.value = 1
    assert page.describing.pictures.value == ""


def test_captions_are_ranked(page):
    page.drawing.draw()
    panel = page.describing
    panel.captions.value = "a red car\n\na <i>cat</i>\n"
    panel.rank_button.click()
    table = panel.pictures.value
    assert table.count("<tr>") == 2 and "a red car" in table and "&lt;i&gt;cat" in table
    panel.captions.value = " "
    panel.rank_button.click()
    assert "write one per line" in panel.message.value and panel.pictures.value == ""


def test_the_page_has_three_tabs_and_draws_at_once(page, monkeypatch):
    shown = []
    monkeypatch.setattr("minidalle.lab.playground.display", shown.append)
    page.show()
    assert shown == [page.box] and page.box.titles == ("draw", "edit", "describe")
    assert len(page.ranked.images) == 2
