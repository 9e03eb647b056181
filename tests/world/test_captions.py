"""Captions: written in two languages, read back exactly, and fit to be shown to a reader."""

import random
import re
from dataclasses import replace

import pytest

from minidalle.errors import MinidalleError
from minidalle.world.captions import choose_facts, describe, parse, phrase
from minidalle.world.facts import COLOURS, KINDS, PLACES, Facts, Thing
from minidalle.world.scenes import SPLITS, colour_jittered, sample_scene
from minidalle.world.vocabulary import (
    CLASSIFIERS,
    COLOUR_WORDS,
    COUNT_WORDS,
    ISH,
    LANGUAGES,
    NAMED,
    NOUNS,
    PLACE_WORDS,
    pluralize,
)

SCENES = [(split, i) for split in SPLITS for i in range(400)]


def untinted(facts):
    """The facts that parse reads: a reddish orange is an orange."""
    return replace(facts, things=tuple(replace(t, tint=None) for t in facts.things))


def stated_facts(n):
    """Facts to state, of plain scenes and of jittered ones by turns, and a generator for each."""
    for i in range(n):
        scene = sample_scene(i, SPLITS[i % 3])
        facts = colour_jittered(scene, i).facts if i % 2 and i % 3 != 2 else scene.facts
        rng = random.Random(i)
        yield choose_facts(facts, rng), rng


# --- Written and read -----------------------------------------------------------------------------

ENGLISH_NOUNS = {w for words in NOUNS["en"].values() for w in words} | set(NAMED["en"])
ENGLISH_PLURALS = {pluralize(word) for word in ENGLISH_NOUNS}
ENGLISH_PLACES = {w for words in PLACE_WORDS["en"].values() for w in words}


def english_slips(caption):
    """What a teacher would mark in an English caption."""
    slips = re.findall(r"  |^ | $|,(?! )| ,|\ba [aeiou]|\ban [^aeiou]", caption)
    slips += re.findall(r"\b(?:a|an|one|two|three) (?:a|an|one|two|three)\b", caption)
    slips += re.findall(r"\bof (?:on|in|at|by) ", caption)  # a picture of on the road
    for place in sorted(ENGLISH_PLACES, key=len, reverse=True):
        slips += re.findall(rf"{place} .*{place}", caption)
    body = re.sub(r"^a (?:picture|drawing) of ", "", caption)
    for place in ENGLISH_PLACES:
        body = body.replace(f"{place}, ", "").replace(f" {place}", "")
    body = re.sub(r" (?:parked|growing|standing|sitting)$", "", body)
    for part in re.split(
        r" (?:and|with|(?:to the )?(?:left|right) of|above|over|below|under|playing with) ", body
    ):
        words = part.split(" ")
        noun = next((n for n in (" ".join(words[-k:]) for k in (2, 1))
                     if n in ENGLISH_NOUNS | ENGLISH_PLURALS), None)  # fmt: skip
        many = words[0] in ("two", "three")
        if noun not in (ENGLISH_PLURALS if many else ENGLISH_NOUNS):
            slips.append(f"no noun, or in the wrong number: {part!r}")
        if words[0] not in ("a", "an", "one", "two", "three"):
            slips.append(f"no article: {part!r}")
    return slips


def chinese_slips(caption):
    """What a teacher would mark in a Chinese caption."""
    slips = re.findall(r"[A-Za-z\s,]|，，|的的|在在|的在|^，|，$|二", caption)
    counters = "".join(set(CLASSIFIERS.values()) | set("个只"))
    nouns = sum((words for words in NOUNS["zh"].values()), [*NAMED["zh"]])
    counted = re.findall(rf"[一两三][{counters}]", caption)
    named = re.findall("|".join(sorted(nouns, key=len, reverse=True)), caption)
    if len(counted) != len(named):
        slips.append(f"{len(counted)} classifiers for {len(named)} nouns")
    return slips


@pytest.mark.parametrize("language", LANGUAGES)
def test_captions_are_read_back_exactly_and_are_sound_sentences(language):
    """Catches a caption that parse reads otherwise (the judge would mark a picture by another one)
    and grammar that a reader would stumble over."""
    find_slips = english_slips if language == "en" else chinese_slips
    captions = set()
    for stated, rng in stated_facts(10_000):
        caption = phrase(stated, language, rng)
        assert parse(caption) == untinted(stated), caption
        if caption not in captions:
            assert not find_slips(caption), (caption, find_slips(caption))
        captions.add(caption)
    assert len(captions) > 6_000


@pytest.mark.parametrize(
    "caption",
    [
        "a picture of on the road, a red car", "a red  car", "a orange car", "an red car",
        "red car on the grass", "two red car", "a cars", "a car left of red dog",
    ],
)  # fmt: skip
def test_slips_are_found(caption):
    """Catches a search for slips that finds none."""
    assert english_slips(caption)


@pytest.mark.parametrize("caption", ["一只红色的的狗", "红色的狗", "二只狗", "一只狗和猫"])
def test_chinese_slips_are_found(caption):
    """Catches a search for slips that finds none."""
    assert chinese_slips(caption)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_occurs(language):
    """Catches a word that no caption ever uses: a model would not know it."""
    text = "\n".join(phrase(stated, language, rng) for stated, rng in stated_facts(4_000))
    tables = (NOUNS, PLACE_WORDS) if language == "en" else (NOUNS, PLACE_WORDS, COLOUR_WORDS)
    words = [w for table in tables for some in table[language].values() for w in some]
    words += [*NAMED[language], *(some[0] for some in COLOUR_WORDS[language].values())]
    zh = [f"偏{some[-1]}" for some in COLOUR_WORDS["zh"].values()]
    words += ISH.values() if language == "en" else zh
    assert [word for word in words if word not in text] == []


def test_captions_never_say_what_is_not_so():
    """Catches a stated fact that is none of the scene's, in either language."""
    for split, i in SCENES:
        scene = sample_scene(i, split)
        for language in LANGUAGES:
            stated = parse(describe(scene, language, i))
            assert stated.place in (None, scene.facts.place)
            assert stated.relation in (None, scene.facts.relation)
            things = scene.facts.things
            assert any(
                all(
                    a.kind == b.kind and a.colour in (None, b.colour) and a.size in (None, b.size)
                    for a, b in zip(stated.things, order, strict=True)
                )
                for order in (things, things[::-1])
            )


def test_captions_leave_the_middle_size_unsaid():
    """Catches a size of a thing among others, and "middle", for which there is no word."""
    sizes = set()
    for stated, _ in stated_facts(2000):
        sizes |= {(len(stated.things) > 1, thing.size) for thing in stated.things}
    assert sizes == {(False, None), (False, "small"), (False, "big"), (True, None)}


def test_a_pair_is_named_in_reading_order():
    """Catches a random order: by the order, a reader and the prior know which thing is where."""
    seen = set()
    for i in range(400):
        scene = sample_scene(i)
        stated = choose_facts(scene.facts, random.Random(i))
        if stated.relation is None and len({t.kind for t in scene.facts.things}) == 2:
            relation = scene.facts.relation
            seen.add(relation)
            at = {t.kind: c for t, c in zip(scene.facts.things, scene.corners, strict=True)}
            first, second = (at[t.kind] for t in stated.things)
            assert first[0] < second[0] if relation == "left of" else first[1] < second[1]
    assert seen == {"left of", "above", "playing with"}


# --- Known captions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "facts"),
    [
        ("一只红色的汽车停在草地上", Facts((Thing("car", "red"),), None, "grass")),
        ("a red car parked on the grass", Facts((Thing("car", "red"),), None, "grass")),
        ("一只棕色的大熊站在雪地里", Facts((Thing("bear", "brown", "big"),), None, "snow")),
        (
            "a big brown bear standing in the snow",
            Facts((Thing("bear", "brown", "big"),), None, "snow"),
        ),
        (
            "A golden retriever playing with a tennis ball",
            Facts((Thing("dog", "yellow"), Thing("ball", "yellow")), "playing with"),
        ),
        (
            "金毛犬在玩网球",
            Facts((Thing("dog", "yellow"), Thing("ball", "yellow")), "playing with"),
        ),
        ("a polar bear in the snow", Facts((Thing("bear", "white"),), None, "snow")),
        ("a reddish orange car", Facts((Thing("car", "orange"),))),
        ("一辆偏红的橙色的汽车", Facts((Thing("car", "orange"),))),
        ("a turquoise armchair", Facts((Thing("chair", "turquoise"),))),
        ("a gray cat", Facts((Thing("cat", "grey"),))),
        (
            "一只猫在一棵绿树的右边",
            Facts((Thing("tree", "green"), Thing("cat")), "left of"),
        ),
        ("three blue fish at night", Facts((Thing("fish", "blue"),) * 3, None, "night")),
        ("two butterflies", Facts((Thing("butterfly"),) * 2)),
        ("the cats of the sea", Facts((Thing("cat"),))),
        ("3 red cars", Facts((Thing("car", "red"),) * 3)),
    ],
)
def test_known_captions(caption, facts):
    """Catches the prompts of the tutorials this course grew from, and some a reader might type."""
    assert parse(caption) == facts


def test_words_between_are_skipped():
    """Catches a parser that stops at a word it does not know."""
    assert len(parse("a bird to the right of two... no, a cat").things) == 2


@pytest.mark.parametrize("caption", ["", "hello world", "on the grass", "草地上"])
def test_captions_without_a_thing_are_refused(caption):
    """Catches an empty Facts: it would hold for every picture."""
    with pytest.raises(MinidalleError, match="try: a red car"):
        parse(caption)


@pytest.mark.parametrize(
    "caption",
    ["four red cars", "12 cars", "四辆红色的汽车", "a beige cat", "a silver cat", "一只金色的猫"],
)
def test_numbers_and_colours_that_there_are_not_are_refused(caption):
    """Catches one red car that is right for "four red cars"."""
    with pytest.raises(MinidalleError, match=r"the storybook has no such (number|colour)"):
        parse(caption)


def test_captions_of_too_much_are_refused():
    """Catches four things, or three different ones: the storybook cannot draw them."""
    for caption in ("a cat, a dog and a bird", "two cats and two dogs"):
        with pytest.raises(MinidalleError, match="more than the storybook draws"):
            parse(caption)


def test_unknown_language_is_refused():
    """Catches a caption in a third language."""
    with pytest.raises(MinidalleError, match="choose one of: en, zh"):
        describe(sample_scene(0), "fr")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_words_of_a_language_are_complete_and_distinct(language):
    """Catches a kind, colour or place without a word, and a word that names two."""
    tables = [(NOUNS, KINDS), (COLOUR_WORDS, COLOURS), (PLACE_WORDS, PLACES)]
    for table, names in tables:
        assert set(table[language]) == set(names)
        words = [word for words in table[language].values() for word in words]
        assert len(words) == len(set(words))
    assert set(ISH) == set(COLOURS) and set(COUNT_WORDS[language]) == {1, 2, 3}
