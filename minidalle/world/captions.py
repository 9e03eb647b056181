"""Captions in English and Chinese: written from a scene, and read back into facts.

`describe` picks which facts to tell and then one of many ways to tell them. `parse` is its
inverse, for any caption within the grammar: it looks words up, longest first, and folds them from
left to right: sizes and colours wait for the noun that they belong to.

    >>> parse("一只红色的汽车停在草地上") == parse("a red car parked on the grass")
    True
"""

import random
import re
from typing import NamedTuple

from minidalle.errors import MinidalleError
from minidalle.world.facts import COLOURS, PLAYERS, Facts, Thing

LANGUAGES = ("en", "zh")
PLANTS = ("tree", "flower")

# The first word of each is the usual one.
NOUNS = {
    "en": {
        "circle": ["circle", "disc"], "square": ["square"], "triangle": ["triangle"],
        "star": ["star"], "heart": ["heart"], "car": ["car", "automobile"],
        "bear": ["bear", "teddy bear"], "dog": ["dog", "puppy"], "cat": ["cat", "kitten"],
        "house": ["house", "cottage"], "tree": ["tree"], "boat": ["boat", "sailing boat"],
        "fish": ["fish"], "flower": ["flower", "blossom"], "bird": ["bird"], "ball": ["ball"],
    },
    "zh": {
        "circle": ["圆形", "圆圈"], "square": ["正方形", "方块"], "triangle": ["三角形"],
        "star": ["星星", "五角星"], "heart": ["爱心", "心形"], "car": ["汽车", "轿车"],
        "bear": ["熊"], "dog": ["狗", "狗狗"], "cat": ["猫", "猫咪"],
        "house": ["房子", "屋子"], "tree": ["树"], "boat": ["船", "帆船"],
        "fish": ["鱼"], "flower": ["花", "花朵"], "bird": ["鸟"], "ball": ["球", "皮球"],
    },
}  # fmt: skip
NAMED = {  # one word for a kind and a colour together
    "en": {"golden retriever": ("dog", "yellow"), "tennis ball": ("ball", "yellow"),
           "polar bear": ("bear", "white")},
    "zh": {"金毛犬": ("dog", "yellow"), "网球": ("ball", "yellow"), "北极熊": ("bear", "white")},
}  # fmt: skip
COLOUR_WORDS = {
    "en": {colour: [colour] for colour in COLOURS},
    "zh": {"red": ["红色", "红"], "orange": ["橙色"], "yellow": ["黄色", "黄"],
           "green": ["绿色", "绿"], "blue": ["蓝色", "蓝"], "purple": ["紫色"],
           "pink": ["粉色", "粉红色"], "brown": ["棕色"], "black": ["黑色", "黑"],
           "white": ["白色", "白"]},
}  # fmt: skip
SIZE_WORDS = {
    "en": {"small": ["small", "little", "tiny"], "big": ["big", "large", "huge"]},
    "zh": {"small": ["小"], "big": ["大"]},
}
PLACE_WORDS = {
    "en": {"grass": ["on the grass", "in the meadow"], "snow": ["in the snow", "on the snow"],
           "sand": ["on the sand", "in the desert"], "sea": ["by the sea", "at the seaside"],
           "night": ["at night", "in the moonlight"], "road": ["on the road", "on the street"]},
    "zh": {"grass": ["草地上", "草坪上"], "snow": ["雪地里", "雪地上"],
           "sand": ["沙滩上", "沙漠里"], "sea": ["海边"],
           "night": ["夜里", "夜晚"], "road": ["马路上", "公路上"]},
}  # fmt: skip
RELATION_WORDS = {
    "en": {"left of": ["left of", "to the left of"], "above": ["above", "over"],
           "right of": ["right of", "to the right of"], "below": ["below", "under"],
           "playing with": ["playing with"]},
    "zh": {"left of": ["左边", "左侧"], "right of": ["右边", "右侧"], "above": ["上方", "上面"],
           "below": ["下方", "下面"], "playing with": ["玩"]},
}  # fmt: skip
REVERSED = {"right of": "left of", "below": "above"}
COUNT_WORDS = {
    "en": {1: ["a", "one"], 2: ["two"], 3: ["three"]},
    "zh": {1: ["一"], 2: ["两", "二"], 3: ["三"]},
}
CLASSIFIERS = {  # Chinese counts with a measure word; 只 and 个 do for everything in speech
    "car": "辆", "bear": "只", "dog": "只", "cat": "只", "house": "座", "tree": "棵",
    "boat": "艘", "fish": "条", "flower": "朵", "bird": "只", "star": "颗", "heart": "颗",
}  # fmt: skip
POSTURES = {
    "en": {"car": ["parked"], "plant": ["growing"], "animal": ["standing", "sitting"]},
    "zh": {"car": ["停"], "plant": ["长"], "animal": ["站", "坐"]},
}


# --- Writing --------------------------------------------------------------------------------------


class CaptionDetail(NamedTuple):
    """How often a caption tells what it may leave open."""

    colours: float = 0.7
    relation: float = 0.55


DEFAULT_DETAIL = CaptionDetail()


def describe(
    scene, language: str = "en", seed: int | str = 0, detail: CaptionDetail = DEFAULT_DETAIL
) -> str:
    """One caption of a scene, always the same for a seed."""
    rng = random.Random(f"caption {seed}")
    return phrase(choose_facts(scene.facts, rng, detail), language, rng)


def choose_facts(facts: Facts, rng: random.Random, detail: CaptionDetail = DEFAULT_DETAIL) -> Facts:
    """Choose what a caption says of a scene. The colours, the size of a lone thing, the relation
    and the place are told or left open.

    A pair in no told relation is named as one reads a page, from the top and from the left.
    """
    coloured = rng.random() < detail.colours
    sized = len(facts.things) == 1 and rng.random() < 0.5
    related = not facts.is_group and rng.random() < detail.relation
    things = tuple(
        Thing(t.kind, t.colour if coloured else None, t.size if sized else None)
        for t in facts.things
    )
    if not related and facts.relation == "playing with":
        things = things[::-1]  # the toy is up in the air
    place = facts.place if rng.random() < 0.85 else None
    return Facts(things, facts.relation if related else None, place)


def phrase(facts: Facts, language: str, rng: random.Random) -> str:
    """Say `facts` in one of the many ways that the grammar has."""
    if language not in LANGUAGES:
        raise MinidalleError(f"no captions in {language!r}; choose one of: {', '.join(LANGUAGES)}")
    return (_english if language == "en" else _chinese)(facts, rng)


def _word(words: list[str], rng: random.Random) -> str:
    """Mostly the usual word, now and then another."""
    return words[0] if rng.random() < 0.7 else rng.choice(words)


def _name(thing: Thing, language: str, rng: random.Random) -> tuple[str, bool]:
    """A noun, and whether it tells the colour as well."""
    for name, meaning in NAMED[language].items():
        if meaning == (thing.kind, thing.colour) and rng.random() < 0.3:
            return name, True
    return _word(NOUNS[language][thing.kind], rng), False


def _posture(facts: Facts, language: str, rng: random.Random) -> str | None:
    kind = facts.things[0].kind
    group = "animal" if kind in PLAYERS else "plant" if kind in PLANTS else kind
    if facts.place is None or len(set(facts.things)) > 1 or rng.random() < 0.5:
        return None
    words = POSTURES[language].get(group)
    return rng.choice(words) if words else None


def _plural(noun: str) -> str:
    if noun.endswith("fish"):
        return noun
    if noun.endswith("puppy"):
        return noun[:-1] + "ies"
    return noun + "s"


def _english(facts: Facts, rng: random.Random) -> str:
    def noun_phrase(thing: Thing, count: int = 1) -> str:
        noun, names_colour = _name(thing, "en", rng)
        size = [_word(SIZE_WORDS["en"][thing.size], rng)] if thing.size else []
        colour = [thing.colour] if thing.colour and not names_colour else []
        words = [*size, *colour, noun if count == 1 else _plural(noun)]
        article = "an" if words[0][0] in "aeiou" else "a"
        return " ".join([article if count == 1 else COUNT_WORDS["en"][count][0], *words])

    first, *rest = facts.things
    if len(set(facts.things)) == 1:
        text = noun_phrase(first, len(facts.things))
    elif facts.relation is None:
        text = f"{noun_phrase(first)} {rng.choice(('and', 'and', 'with'))} {noun_phrase(rest[0])}"
    else:
        relation, pair = _either_way_round(facts, rng)
        word = _word(RELATION_WORDS["en"][relation], rng)
        text = f"{noun_phrase(pair[0])} {word} {noun_phrase(pair[1])}"
    if facts.place:
        place = _word(PLACE_WORDS["en"][facts.place], rng)
        posture = _posture(facts, "en", rng)
        if posture is None and rng.random() < 0.2:
            text = f"{place}, {text}"
        else:
            text = " ".join(filter(None, [text, posture, place]))
    if rng.random() < 0.1:
        text = rng.choice(("a picture of ", "a drawing of ")) + text
    return text


def _chinese(facts: Facts, rng: random.Random) -> str:
    def noun_phrase(thing: Thing, count: int = 1) -> str:
        noun, names_colour = _name(thing, "zh", rng)
        colour = (
            _word(COLOUR_WORDS["zh"][thing.colour], rng)
            if thing.colour and not names_colour
            else ""
        )
        if colour:
            colour += "" if colour.endswith("色") and rng.random() < 0.2 else "的"
        size = SIZE_WORDS["zh"][thing.size][0] if thing.size else ""
        usual = CLASSIFIERS.get(thing.kind, "个")
        classifier = usual if rng.random() < 0.7 else rng.choice("个只")
        return COUNT_WORDS["zh"][count][0] + classifier + colour + size + noun

    first, *rest = facts.things
    place = _word(PLACE_WORDS["zh"][facts.place], rng) if facts.place else None
    if len(set(facts.things)) == 1 or facts.relation is None:
        text = noun_phrase(first, len(facts.things) if facts.is_group else 1)
        if rest and not facts.is_group:
            text += rng.choice("和与") + noun_phrase(rest[0])
        if place is None:
            return text
        if rng.random() < 0.3:
            return f"{place}有{text}"
        return f"{text}{_posture(facts, 'zh', rng) or ''}在{place}"
    relation, pair = _either_way_round(facts, rng)
    first, second = noun_phrase(pair[0]), noun_phrase(pair[1])
    word = _word(RELATION_WORDS["zh"][relation], rng)
    if relation == "playing with":
        text = rng.choice((f"{first}在玩{second}", f"{first}正在和{second}玩"))
    else:
        text = f"{first}在{second}的{word}"
    return f"{place}，{text}" if place else text


def _either_way_round(facts: Facts, rng: random.Random) -> tuple[str, tuple[Thing, ...]]:
    """The same relation from either side: A left of B, or B right of A."""
    for backwards, relation in REVERSED.items():
        if facts.relation == relation and rng.random() < 0.5:
            return backwards, facts.things[::-1]
    return facts.relation, facts.things


# --- Reading --------------------------------------------------------------------------------------


def _lexicon() -> dict[str, tuple[str, object]]:
    entries: dict[str, tuple[str, object]] = {}
    for language in LANGUAGES:
        tables = {"noun": NOUNS, "colour": COLOUR_WORDS, "size": SIZE_WORDS, "place": PLACE_WORDS,
                  "relation": RELATION_WORDS, "count": COUNT_WORDS}  # fmt: skip
        for role, table in tables.items():
            for meaning, words in table[language].items():
                for word in words:
                    entries[word] = (role, meaning)
                    if role == "noun" and language == "en":
                        entries[_plural(word)] = (role, meaning)
        for name, meaning in NAMED[language].items():
            entries[name] = ("named", meaning)
            if language == "en":
                entries[_plural(name)] = ("named", meaning)
    entries["an"] = ("count", 1)
    entries |= dict.fromkeys(("grey", "gray", "gold", "silver", "灰色"), ("unknown", "colour"))
    entries |= {str(count): ("count", count) for count in (1, 2, 3)}
    more = ["four", "five", "six", "many", *"四五六七八九十几", *map(str, range(4, 100))]
    entries |= dict.fromkeys(more, ("unknown", "number"))
    for prefix in ("a picture of", "a drawing of"):
        entries[prefix] = ("glue", None)
    return entries


LEXICON = _lexicon()
_PATTERN = re.compile(
    "|".join(
        rf"\b{re.escape(word)}\b" if word.isascii() else re.escape(word)
        for word in sorted(LEXICON, key=len, reverse=True)
    )
)


def parse(caption: str) -> Facts:
    """Read a caption's facts. Words that are no part of the grammar are passed over.

    Raises MinidalleError for a caption with none of the storybook's things, with a number or a
    colour that it does not have, or with more things than it draws.
    """
    things: list[Thing] = []
    relation = place = colour = size = None
    count = 1
    for match in _PATTERN.finditer(caption.lower()):
        role, meaning = LEXICON[match.group()]
        if role == "unknown":
            raise MinidalleError(f"the storybook has no such {meaning}: {match.group()!r}")
        if role == "count":
            count = meaning
        elif role == "colour":
            colour = meaning
        elif role == "size":
            size = meaning
        elif role == "place":
            place = meaning
        elif role == "relation":
            relation = relation or meaning
        elif role in ("noun", "named"):
            kind, named_colour = (meaning, None) if role == "noun" else meaning
            things += [Thing(kind, colour or named_colour, size)] * count
            colour, size, count = None, None, 1
    if not things:
        raise MinidalleError(
            f"the storybook knows nothing named in {caption!r}; try: a red car on the grass"
        )
    if len(things) > 3 or (len(set(things)) > 1 and len(things) != 2):
        raise MinidalleError(
            f"{caption!r} asks for more than the storybook draws: a thing, two or three equal"
            " things, or a pair"
        )
    if relation in REVERSED:
        relation, things = REVERSED[relation], things[::-1]
    return Facts(tuple(things), relation if len(set(things)) == 2 else None, place)
