"""Which pictures show the same thing: they belong into one split.

A test on a picture whose twin was trained on measures memory. Pictures are one *concept* when they
are duplicates, exactly or nearly, or share a caption: the same emoji in two styles, say. A caption
of many pictures is a label, such as "a photo", and joins none of them.
"""

from collections.abc import Iterable, Sequence

from minidalle.datasets.duplicates import Duplicates
from minidalle.normalise import normalise_caption

MOST_ALIKE = 20  # pictures that one caption may join


def group_concepts(pairs: Sequence[tuple[str, str]], duplicates: Duplicates) -> list[list[str]]:
    """The names of all pictures, each in one group. pairs: (name of a picture, caption)."""
    leader = {name: name for name, _ in pairs}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]  # halves the way for the next search
            name = leader[name]
        return name

    def join(names: Iterable[str]) -> None:
        first, *rest = names
        for name in rest:
            leader[find(name)] = find(first)

    by_caption: dict[str, dict[str, None]] = {}
    for name, caption in pairs:
        by_caption.setdefault(normalise_caption(caption).casefold(), {})[name] = None
    for names in [*duplicates.exact, *duplicates.near]:
        join(names)
    for alike in by_caption.values():
        if len(alike) <= MOST_ALIKE:
            join(alike)
    groups: dict[str, list[str]] = {}
    for name in leader:
        groups.setdefault(find(name), []).append(name)
    return list(groups.values())
