"""Captions in English and Chinese: written from a scene, and parsed back into facts.

`describe` chooses the facts that a caption states, and one of many sentences for them. `parse` is
its inverse for any caption within the grammar. It finds the words of the lexicon, longest first,
and reads them from left to right; a size or a colour belongs to the next noun.

    >>> parse("一只红色的汽车停在草地上") == parse("a red car parked on the grass")
    True
"""

import random
import re
from typing import NamedTuple

from minidalle.errors import MinidalleError
from minidalle.world.facts import COLOURS, PLAYERS, STATED_SIZES, Facts, Thing
from minidalle.world.scenes import Scene
from minidalle.world.vocabulary import (
    CLASSIFIERS,
    COLOUR_WORDS,
    COUNT_WORDS,
    ISH,
    LANGUAGES,
    LEXICON,
    NAMED,
    NOUNS,
    PLACE_WORDS,
    PLANTS,
    POSTURES,
    RELATION_WORDS,
    REVERSED,
    SIZE_WORDS,
    pluralize,
)

# --- Writing --------------------------------------------------------------------------------------


class CaptionDetail(NamedTuple):
    """The probabilities that a caption states an optional fact."""

    colours: float = 0.7  # probability, 0 … 1, that it states the colours of all its things
    relation: float = 0.55  # probability, 0 … 1, that it states the relation of a pair


DEFAULT_DETAIL = CaptionDetail()


def describe(
    scene: Scene, language: str = "en", seed: int | str = 0, detail: CaptionDetail = DEFAULT_DETAIL
) -> str:
    """A caption of a scene; the same seed gives the same caption."""
    rng = random.Random(f"caption {seed}")
    return phrase(choose_facts(scene.facts, rng, detail), language, rng)


def choose_facts(facts: Facts, rng: random.Random, detail: CaptionDetail = DEFAULT_DETAIL) -> Facts:
    """Choose the facts that a caption states: the kinds and the count, and others by chance.

    Colours, the size of a lone thing, the relation and the place may be left open. A pair whose
    relation is left open is named from top to bottom and from left to right.
    """
    coloured = rng.random() < detail.colours
    sized = len(facts.things) == 1 and rng.random() < 0.5
    related = not facts.is_group and rng.random() < detail.relation
    things = tuple(
        Thing(
            t.kind,
            t.colour if coloured else None,
            t.size if sized and t.size in STATED_SIZES else None,
            t.tint if coloured else None,
        )
        for t in facts.things
    )
    if not related and facts.relation == "playing with":
        things = things[::-1]  # the toy is above the player
    place = facts.place if rng.random() < 0.85 else None
    return Facts(things, facts.relation if related else None, place)


def phrase(facts: Facts, language: str, rng: random.Random) -> str:
    """Write `facts` as one of the many sentences that the grammar allows."""
    if language not in LANGUAGES:
        raise MinidalleError(f"no captions in {language!r}; choose one of: {', '.join(LANGUAGES)}")
    return (_write_english if language == "en" else _write_chinese)(facts, rng)


def _choose_word(words: list[str], rng: random.Random) -> str:
    """The usual word with a probability of 70 %, else any word of the list."""
    return words[0] if rng.random() < 0.7 else rng.choice(words)


def _choose_noun(thing: Thing, language: str, rng: random.Random) -> tuple[str, bool]:
    """A noun, and whether it states the colour as well."""
    for name, meaning in NAMED[language].items():
        if meaning == (thing.kind, thing.colour) and not thing.tint and rng.random() < 0.3:
            return name, True
    return _choose_word(NOUNS[language][thing.kind], rng), False


def _choose_posture(facts: Facts, language: str, rng: random.Random) -> str | None:
    """The participle or verb between noun and place, or None."""
    kind = facts.things[0].kind
    group = "animal" if kind in PLAYERS else "plant" if kind in PLANTS else kind
    if facts.place is None or len(set(facts.things)) > 1 or rng.random() < 0.5:
        return None
    words = POSTURES[language].get(group)
    return rng.choice(words) if words else None


def _write_english(facts: Facts, rng: random.Random) -> str:
    def noun_phrase(thing: Thing, count: int = 1) -> str:
        noun, names_colour = _choose_noun(thing, "en", rng)
        size = [_choose_word(SIZE_WORDS["en"][thing.size], rng)] if thing.size else []
        colour = [thing.colour] if thing.colour and not names_colour else []
        colour = [ISH[thing.tint], *colour] if thing.tint else colour
        words = [*size, *colour, noun if count == 1 else pluralize(noun)]
        article = "an" if words[0][0] in "aeiou" else "a"
        return " ".join([article if count == 1 else COUNT_WORDS["en"][count][0], *words])

    first, *rest = facts.things
    if len(set(facts.things)) == 1:
        text = noun_phrase(first, len(facts.things))
    elif facts.relation is None:
        text = f"{noun_phrase(first)} {rng.choice(('and', 'and', 'with'))} {noun_phrase(rest[0])}"
    else:
        relation, pair = _choose_direction(facts.relation, facts.things, rng)
        word = _choose_word(RELATION_WORDS["en"][relation], rng)
        text = f"{noun_phrase(pair[0])} {word} {noun_phrase(pair[1])}"
    if facts.place:
        place = _choose_word(PLACE_WORDS["en"][facts.place], rng)
        posture = _choose_posture(facts, "en", rng)
        if posture is None and rng.random() < 0.2:
            return f"{place}, {text}"
        text = " ".join(filter(None, [text, posture, place]))
    if rng.random() < 0.1:
        text = rng.choice(("a picture of ", "a drawing of ")) + text
    return text


def _write_chinese(facts: Facts, rng: random.Random) -> str:
    def noun_phrase(thing: Thing, count: int = 1) -> str:
        noun, names_colour = _choose_noun(thing, "zh", rng)
        colour = (
            _choose_word(COLOUR_WORDS["zh"][thing.colour], rng)
            if thing.colour and not names_colour
            else ""
        )
        if colour:
            colour += "" if colour.endswith("色") and rng.random() < 0.2 else "的"
        if thing.tint:
            colour = f"偏{COLOUR_WORDS['zh'][thing.tint][-1]}的{colour}"
        size = SIZE_WORDS["zh"][thing.size][0] if thing.size else ""
        usual = CLASSIFIERS.get(thing.kind, "个")
        classifier = usual if rng.random() < 0.7 else rng.choice("个只")
        return COUNT_WORDS["zh"][count][0] + classifier + colour + size + noun

    first, *rest = facts.things
    place = _choose_word(PLACE_WORDS["zh"][facts.place], rng) if facts.place else None
    if len(set(facts.things)) == 1 or facts.relation is None:
        text = noun_phrase(first, len(facts.things) if facts.is_group else 1)
        if rest and not facts.is_group:
            text += rng.choice("和与") + noun_phrase(rest[0])
        if place is None:
            return text
        if rng.random() < 0.3:
            return f"{place}有{text}"
        return f"{text}{_choose_posture(facts, 'zh', rng) or ''}在{place}"
    relation, pair = _choose_direction(facts.relation, facts.things, rng)
    subject, other = (noun_phrase(thing) for thing in pair)
    word = _choose_word(RELATION_WORDS["zh"][relation], rng)
    if relation == "playing with":
        text = rng.choice((f"{subject}在玩{other}", f"{subject}正在和{other}玩"))
    else:
        text = f"{subject}在{other}的{word}"
    return f"{place}，{text}" if place else text


def _choose_direction(
    relation: str, things: tuple[Thing, ...], rng: random.Random
) -> tuple[str, tuple[Thing, ...]]:
    """A relation and its pair, or the same read from the other side: B right of A."""
    for reverse, usual in REVERSED.items():
        if relation == usual and rng.random() < 0.5:
            return reverse, things[::-1]
    return relation, things


# --- Reading --------------------------------------------------------------------------------------

_PATTERN = re.compile(  # longest first, since the first alternative that matches wins
    "|".join(
        rf"\b{re.escape(word)}\b" if word.isascii() else re.escape(word)
        for word in sorted(LEXICON, key=len, reverse=True)
    )
)


def parse(caption: str) -> Facts:
    """Read a caption's facts. Words outside the grammar are skipped.

    Raises MinidalleError for a caption that names none of the storybook's things, or more than it
    draws, and for an unknown number or colour.
    """
    things: list[Thing] = []
    relation: str | None = None
    place: str | None = None
    colour: str | None = None
    size: str | None = None
    count = 1
    for match in _PATTERN.finditer(caption.lower()):
        word = LEXICON[match.group()]
        if word.unknown:
            known = "1, 2 or 3" if word.unknown == "number" else f"one of: {', '.join(COLOURS)}"
            raise MinidalleError(
                f"the storybook has no such {word.unknown}: {match.group()!r}; use {known}"
            )
        relation = relation or word.relation
        place = word.place or place
        size = word.size or size
        count = word.count or count
        if word.kind:
            things += [Thing(word.kind, colour or word.colour, size)] * count
            colour, size, count = None, None, 1
        else:
            colour = word.colour or colour
    if not things:
        raise MinidalleError(
            f"the storybook draws nothing named in {caption!r}; try: a red car on the grass"
        )
    if len(things) > 3 or (len(set(things)) > 1 and len(things) != 2):
        raise MinidalleError(
            f"{caption!r} asks for more than the storybook draws; ask for one thing, two or three"
            " equal things, or a pair"
        )
    if relation in REVERSED:
        relation, things = REVERSED[relation], things[::-1]
    return Facts(tuple(things), relation if len(set(things)) == 2 else None, place)
