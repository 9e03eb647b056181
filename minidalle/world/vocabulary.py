"""The words of captions in English and Chinese: a table per kind of fact, and the lexicon."""

from dataclasses import dataclass

from minidalle.world.facts import COLOURS

LANGUAGES = ("en", "zh")
Words = dict[str, list[str]]  # per fact, the words that state it; the first is the usual one

NOUNS: dict[str, Words] = {
    "en": {
        "circle": ["circle", "disc"], "square": ["square"], "triangle": ["triangle"],
        "star": ["star"], "heart": ["heart"], "car": ["car", "automobile"],
        "bear": ["bear", "teddy bear"], "dog": ["dog", "puppy"], "cat": ["cat", "kitten"],
        "house": ["house", "cottage"], "tree": ["tree"], "boat": ["boat", "ship"],
        "fish": ["fish"], "flower": ["flower", "blossom"], "bird": ["bird"], "ball": ["ball"],
        "apple": ["apple"], "mushroom": ["mushroom", "toadstool"], "rabbit": ["rabbit", "bunny"],
        "umbrella": ["umbrella", "parasol"], "robot": ["robot"], "rocket": ["rocket"],
        "butterfly": ["butterfly"], "chair": ["chair", "armchair"],
    },
    "zh": {
        "circle": ["圆形", "圆圈"], "square": ["正方形", "方块"], "triangle": ["三角形"],
        "star": ["星星", "五角星"], "heart": ["爱心", "心形"], "car": ["汽车", "轿车"],
        "bear": ["熊"], "dog": ["狗", "狗狗"], "cat": ["猫", "猫咪"],
        "house": ["房子", "屋子"], "tree": ["树"], "boat": ["船", "船只"],
        "fish": ["鱼"], "flower": ["花", "花朵"], "bird": ["鸟"], "ball": ["球", "皮球"],
        "apple": ["苹果"], "mushroom": ["蘑菇"], "rabbit": ["兔子"], "umbrella": ["雨伞", "伞"],
        "robot": ["机器人"], "rocket": ["火箭"], "butterfly": ["蝴蝶"], "chair": ["椅子"],
    },
}  # fmt: skip
NAMED: dict[str, dict[str, tuple[str, str]]] = {  # one noun for a kind and a colour together
    "en": {"golden retriever": ("dog", "yellow"), "tennis ball": ("ball", "yellow"),
           "polar bear": ("bear", "white")},
    "zh": {"金毛犬": ("dog", "yellow"), "网球": ("ball", "yellow"), "北极熊": ("bear", "white")},
}  # fmt: skip
COLOUR_WORDS: dict[str, Words] = {
    "en": {colour: [colour] for colour in COLOURS} | {"grey": ["grey", "gray"]},
    "zh": {"red": ["红色", "红"], "orange": ["橙色"], "yellow": ["黄色", "黄"],
           "green": ["绿色", "绿"], "blue": ["蓝色", "蓝"], "purple": ["紫色"],
           "pink": ["粉色", "粉红色"], "brown": ["棕色"], "black": ["黑色", "黑"],
           "white": ["白色", "白"], "turquoise": ["青色", "青绿色"], "grey": ["灰色"]},
}  # fmt: skip
# A colour with some of another in it: "reddish orange", 偏红的橙色.
ISH = {
    "red": "reddish", "orange": "orangish", "yellow": "yellowish", "green": "greenish",
    "turquoise": "turquoisish", "blue": "bluish", "purple": "purplish", "pink": "pinkish",
    "brown": "brownish", "black": "blackish", "white": "whitish", "grey": "greyish",
}  # fmt: skip
SIZE_WORDS: dict[str, Words] = {
    "en": {"small": ["small", "little", "tiny"], "big": ["big", "large", "huge"]},
    "zh": {"small": ["小"], "big": ["大"]},
}
PLACE_WORDS: dict[str, Words] = {
    "en": {"grass": ["on the grass", "in the meadow"], "snow": ["in the snow", "on the snow"],
           "sand": ["on the sand", "in the desert"], "sea": ["by the sea", "at the seaside"],
           "night": ["at night", "in the moonlight"], "road": ["on the road", "on the street"]},
    "zh": {"grass": ["草地上", "草坪上"], "snow": ["雪地里", "雪地上"],
           "sand": ["沙滩上", "沙漠里"], "sea": ["海边"],
           "night": ["夜里", "夜晚"], "road": ["马路上", "公路上"]},
}  # fmt: skip
RELATION_WORDS: dict[str, Words] = {
    "en": {"left of": ["left of", "to the left of"], "above": ["above", "over"],
           "right of": ["right of", "to the right of"], "below": ["below", "under"],
           "playing with": ["playing with"]},
    "zh": {"left of": ["左边", "左侧"], "right of": ["右边", "右侧"], "above": ["上方", "上面"],
           "below": ["下方", "下面"], "playing with": ["玩"]},
}  # fmt: skip
REVERSED = {"right of": "left of", "below": "above"}  # "B right of A" is "A left of B"
COUNT_WORDS = {
    "en": {1: ["a", "one"], 2: ["two"], 3: ["three"]},
    "zh": {1: ["一"], 2: ["两", "二"], 3: ["三"]},
}
CLASSIFIERS = {  # Chinese counts with a classifier; 只 and 个 fit every noun in speech
    "car": "辆", "bear": "只", "dog": "只", "cat": "只", "house": "座", "tree": "棵",
    "boat": "艘", "fish": "条", "flower": "朵", "bird": "只", "star": "颗", "heart": "颗",
    "rabbit": "只", "umbrella": "把", "chair": "把", "butterfly": "只", "rocket": "枚",
}  # fmt: skip
PLANTS = ("tree", "flower", "mushroom")
POSTURES: dict[str, Words] = {  # per group of kinds: car, plant (PLANTS), animal (PLAYERS)
    "en": {"car": ["parked"], "plant": ["growing"], "animal": ["standing", "sitting"]},
    "zh": {"car": ["停"], "plant": ["长"], "animal": ["站", "坐"]},
}


def pluralize(noun: str) -> str:
    """The English plural."""
    if noun.endswith("fish"):
        return noun
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


# --- Word to meaning ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Meaning:
    """The facts that one word states. All None: the word is in the grammar and states nothing."""

    kind: str | None = None
    colour: str | None = None
    size: str | None = None
    place: str | None = None
    relation: str | None = None
    count: int | None = None
    unknown: str | None = None  # "number" or "colour": one that the storybook does not have


def _build_lexicon() -> dict[str, Meaning]:
    lexicon: dict[str, Meaning] = {}
    for language in LANGUAGES:
        nouns = {word: Meaning(kind=k) for k, words in NOUNS[language].items() for word in words}
        nouns |= {word: Meaning(kind=k, colour=c) for word, (k, c) in NAMED[language].items()}
        lexicon |= nouns
        if language == "en":
            lexicon |= {pluralize(word): meaning for word, meaning in nouns.items()}
        for colour, words in COLOUR_WORDS[language].items():
            lexicon |= dict.fromkeys(words, Meaning(colour=colour))
        for size, words in SIZE_WORDS[language].items():
            lexicon |= dict.fromkeys(words, Meaning(size=size))
        for place, words in PLACE_WORDS[language].items():
            lexicon |= dict.fromkeys(words, Meaning(place=place))
        for relation, words in RELATION_WORDS[language].items():
            lexicon |= dict.fromkeys(words, Meaning(relation=relation))
        for count, words in COUNT_WORDS[language].items():
            lexicon |= dict.fromkeys([*words, str(count)], Meaning(count=count))
    lexicon["an"] = Meaning(count=1)
    lexicon |= dict.fromkeys(ISH.values(), Meaning())  # a reddish orange is an orange
    lexicon |= {f"偏{COLOUR_WORDS['zh'][colour][-1]}": Meaning() for colour in COLOURS}
    colours = ["gold", "silver", "beige", "金色", "银色"]
    lexicon |= dict.fromkeys(colours, Meaning(unknown="colour"))
    numbers = ["four", "five", "six", "many", *"四五六七八九十几", *map(str, range(4, 100))]
    lexicon |= dict.fromkeys(numbers, Meaning(unknown="number"))
    return lexicon | dict.fromkeys(["a picture of", "a drawing of"], Meaning())


LEXICON = _build_lexicon()
