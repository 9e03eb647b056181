"""Which names are meant to be the same: exactly, in Unicode, or but for upper and lower case.

A Mac may write é as e and a combining accent, where Windows writes one character. A camera writes
`IMG.JPG`, and a person `img.txt`. Such names are matched, but only where no choice is left.
"""

import posixpath
import unicodedata
from collections.abc import Callable, Iterable, Iterator


def nfc(name: str) -> str:
    """The name with every accent and its letter as one character."""
    return unicodedata.normalize("NFC", name)


def fold(name: str) -> str:
    """The same for all spellings of a name that differ by case or by Unicode form."""
    return nfc(nfc(name).casefold())


def stem(name: str) -> str:
    """The name without its suffix."""
    return posixpath.splitext(name)[0]


LEVELS: tuple[Callable[[str], str], ...] = (lambda name: name, nfc, fold)  # the closest first


def match_stems(
    pictures: Iterable[str], texts: Iterable[str]
) -> Iterator[tuple[list[str], list[str]]]:
    """(pictures, texts) that share their folder and their stem.

    More than one stem among the pictures, or more than one text, is a choice for the user.
    """
    free_pictures, free_texts = list(pictures), list(texts)
    for level in LEVELS:
        groups: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
        for side, names in enumerate((free_pictures, free_texts)):
            for name in names:
                place, base = posixpath.split(stem(name))
                groups.setdefault((place, level(base)), ([], []))[side].append(name)
        matched: set[str] = set()
        for group in groups.values():
            if all(group):
                matched.update(*group)
                yield group
        free_pictures = [name for name in free_pictures if name not in matched]
        free_texts = [name for name in free_texts if name not in matched]


class NameIndex:
    """Finds the file that is meant by a name in a table."""

    def __init__(self, files: Iterable[str]) -> None:
        self._by_level: list[dict[str, list[str]]] = [{} for _ in LEVELS]
        for name in files:
            for level, names in zip(LEVELS, self._by_level, strict=True):
                names.setdefault(level(name), []).append(name)

    def find(self, name: str) -> list[str]:
        """The files that may be meant: none, the one, or several to choose from."""
        for level, names in zip(LEVELS, self._by_level, strict=True):
            if level(name) in names:
                return names[level(name)]
        return []
