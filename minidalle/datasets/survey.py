"""What a folder of pictures and captions holds, counted before hours of training.

    survey = survey_folder(CaptionedImageFolder("holiday", 48), num_tokens, max_tokens=32)
    survey.words.median, survey.duplicates.exact

The pictures are those that training would see: squares, with the bad ones left out.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from minidalle.datasets.duplicates import Duplicates
from minidalle.datasets.image_folder import MUCH, CaptionedImageFolder
from minidalle.normalise import HAN

WORD = re.compile(rf"[{HAN}]|(?:(?![{HAN}])\w)+(?:['’](?:(?![{HAN}])\w)+)*")
SCRIPTS = {  # by the first word of a letter's name in Unicode
    "LATIN": "Latin letters", "CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese",
    "HANGUL": "Korean",
}  # fmt: skip

Size = tuple[int, int]  # width and height in pixels


class Spread(NamedTuple):
    """The smallest, the middle and the largest of some numbers."""

    least: int
    median: float
    most: int


class Sizes(NamedTuple):
    """Sizes of the picture files."""

    different: int
    smallest: Size
    largest: Size
    usual: Size  # the most frequent
    num_usual: int


class Crop(NamedTuple):
    """What a centre crop cuts."""

    cut_much: int  # pictures that lose more than a fifth
    share: float  # of the picture that loses most, 0 ≤ share < 1
    name: str  # of that picture


class Survey(NamedTuple):
    """The counts of a folder."""

    pictures: int
    captions: int
    sizes: Sizes
    crop: Crop
    languages: dict[str, int]  # captions by their letters, the most frequent first
    words: Spread  # per caption; a Chinese character counts as one
    tokens: Spread  # per caption
    too_long: int  # captions of more than `max_tokens`
    repeated: dict[str, int]  # caption: number of its pictures, where these are several
    duplicates: Duplicates
    problems: list[str]  # files that were left out, and other notes of the folder's report


def survey_folder(
    folder: CaptionedImageFolder,
    num_tokens: Callable[[str], int],
    max_tokens: int,
) -> Survey:
    """Count what the folder holds.

    Args:
        folder: the pictures and captions.
        num_tokens: gives the number of tokens of a caption.
        max_tokens: where a model cuts captions.
    """
    captions = [folder.caption(i) for i in range(len(folder))]

    tokens = [num_tokens(caption) for caption in captions]
    pairs = {(folder.name(i), caption) for i, caption in enumerate(captions)}
    repeated = Counter(caption for _, caption in pairs)
    *problems, _ = folder.report().splitlines()  # the last line counts
    return Survey(
        pictures=len(folder.sizes),
        captions=len(captions),
        sizes=_sizes(folder.sizes),
        crop=_crop(folder.sizes),
        languages=dict(Counter(map(language, captions)).most_common()),
        words=_spread([len(WORD.findall(caption)) for caption in captions]),
        tokens=_spread(tokens),
        too_long=sum(n > max_tokens for n in tokens),
        repeated={caption: n for caption, n in repeated.most_common() if n > 1},
        duplicates=folder.duplicates(),
        problems=problems,
    )


def _spread(numbers: list[int]) -> Spread:
    return Spread(min(numbers), float(np.median(numbers)), max(numbers))


def _sizes(sizes: dict[str, Size]) -> Sizes:
    counts = Counter(sizes.values())
    by_area = sorted(counts, key=lambda size: (size[0] * size[1], size))
    usual = max(by_area, key=lambda size: counts[size])
    return Sizes(len(counts), by_area[0], by_area[-1], usual, counts[usual])


def _crop(sizes: dict[str, Size]) -> Crop:
    cut = {name: 1 - min(size) / max(size) for name, size in sizes.items()}
    worst = max(cut, key=lambda name: cut[name])
    return Crop(sum(share > MUCH for share in cut.values()), round(cut[worst], 4), worst)


def language(caption: str) -> str:
    """The language of a caption as far as its letters say: "Chinese", "Latin letters", …

    >>> language("a red boat"), language("红色的船"), language("红色T恤"), language("42")
    ('Latin letters', 'Chinese', 'Chinese and Latin letters', 'no letters')
    """
    scripts = {_script(c) for c in unicodedata.normalize("NFKC", caption) if c.isalpha()}
    if "Japanese" in scripts:
        scripts.discard("Chinese")  # the two share characters
    *others, last = sorted(scripts) or ["no letters"]
    return f"{', '.join(others)} and {last}" if others else last


@lru_cache(maxsize=1 << 14)
def _script(letter: str) -> str:
    name = re.split("[ -]", unicodedata.name(letter, "OTHER"))[0]
    return SCRIPTS.get(name, f"{name.capitalize()} letters")
