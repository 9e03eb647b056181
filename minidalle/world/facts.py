"""Facts: what a storybook picture shows, and what a caption says about it.

A picture shows one to three *things* in one *place*. A caption states some of those facts and
leaves others open: "a red car" says nothing of place or size. Both are written as `Facts`, where
`None` means "not stated", so that comparing a picture with a caption is comparing two values:

    >>> car = Thing("car", "red")                       # size is not stated
    >>> Facts((car,), place="grass").skill
    'colours'
"""

from dataclasses import dataclass, replace

KINDS = (
    "circle", "square", "triangle", "star", "heart", "car", "bear", "dog",
    "cat", "house", "tree", "boat", "fish", "flower", "bird", "ball",
)  # fmt: skip
RGB = tuple[int, int, int]  # red green blue, 0..255
COLOURS: dict[str, RGB] = {
    "red": (228, 40, 46),
    "orange": (246, 122, 20),
    "yellow": (252, 218, 40),
    "green": (24, 146, 66),
    "blue": (36, 92, 226),
    "purple": (140, 60, 186),
    "pink": (250, 120, 184),
    "brown": (134, 82, 40),
    "black": (34, 34, 40),
    "white": (252, 252, 252),
}
PLACES = ("grass", "snow", "sand", "sea", "night", "road")
SIZES = ("small", "big")
RELATIONS = ("left of", "above", "playing with")  # "right of" and "below" are these, read backwards
PLAYERS = ("bear", "dog", "cat", "bird")
TOYS = ("ball", "star", "heart", "circle", "square", "triangle", "car", "boat", "fish", "flower")
SKILLS = (  # the six of GenEval (Ghosh et al. 2023)
    "single object",
    "two objects",
    "counting",
    "colours",
    "position",
    "colour attribution",
)


@dataclass(frozen=True)
class Thing:
    """One thing. `None`: the caption does not say. Only a lone thing's size is ever stated."""

    kind: str
    colour: str | None = None
    size: str | None = None


@dataclass(frozen=True)
class Facts:
    """One to three things, how the first stands to the second, and where.

    Two or three things are either equal (a count: "three red cars") or an ordered pair, whose
    `relation` is read "things[0] <relation> things[1]".
    """

    things: tuple[Thing, ...]
    relation: str | None = None
    place: str | None = None

    @property
    def is_group(self) -> bool:
        """Several things of one description: a caption that counts."""
        return len(self.things) > 1 and len(set(self.things)) == 1

    @property
    def skill(self) -> str:
        """Which of GenEval's six skills a caption with these facts tests."""
        if len(self.things) == 1:
            return "single object" if self.things[0].colour is None else "colours"
        if self.is_group:
            return "counting"
        if self.relation is not None:
            return "position"
        return "two objects" if self.things[0].colour is None else "colour attribution"


def mutations(facts: Facts) -> list[tuple[str, Facts]]:
    """Every caption that differs from `facts` in exactly one stated fact: [(fact, wrong facts)].

    A judge must reject each of them; a contrastive model must tell them apart.
    """
    wrong: list[tuple[str, Facts]] = []

    def change_thing(field: str, values) -> None:
        # A group is changed as a whole: "three red cars" becomes "three blue cars".
        places = (
            [range(len(facts.things))]
            if facts.is_group
            else [[i] for i in range(len(facts.things))]
        )
        for chosen in places:
            old = getattr(facts.things[chosen[0]], field)
            for value in values:
                if old is None or value == old:
                    continue
                things = tuple(
                    replace(t, **{field: value}) if i in chosen else t
                    for i, t in enumerate(facts.things)
                )
                if len({t.kind for t in things}) == len({t.kind for t in facts.things}):
                    wrong.append((field, replace(facts, things=things)))

    change_thing("kind", KINDS)
    change_thing("colour", COLOURS)
    change_thing("size", SIZES)
    wrong += [("place", replace(facts, place=p)) for p in PLACES if facts.place not in (None, p)]
    if facts.relation is not None:
        others = [r for r in RELATIONS if r != facts.relation]
        wrong += [("relation", replace(facts, relation=r)) for r in others]
        wrong.append(("relation", replace(facts, things=facts.things[::-1])))
    if len(set(facts.things)) == 1:
        plain = replace(facts.things[0], size=None)
        counts = [n for n in (1, 2, 3) if n != len(facts.things)]
        wrong += [("count", replace(facts, things=(plain,) * n)) for n in counts]
    return wrong
