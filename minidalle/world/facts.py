"""Facts: the contents of a storybook picture, and the statements of a caption.

A picture shows one to three *things* in one *place*. A caption states some of those facts and
leaves others open: "a red car" states neither place nor size. Both are `Facts`, where `None` means
"not stated". Comparing a picture with a caption is then comparing two values:

    >>> car = Thing("car", "red")                       # size is not stated
    >>> Facts((car,), place="grass").skill
    'colours'
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

KINDS = (
    "circle", "square", "triangle", "star", "heart", "car", "bear", "dog",
    "cat", "house", "tree", "boat", "fish", "flower", "bird", "ball",
    "apple", "mushroom", "rabbit", "umbrella", "robot", "rocket", "butterfly", "chair",
)  # fmt: skip
RGB = tuple[int, int, int]  # red, green, blue, each 0 … 255
COLOURS: dict[str, RGB] = {
    "red": (222, 44, 48),
    "orange": (244, 128, 28),
    "yellow": (252, 216, 48),
    "green": (48, 158, 66),
    "turquoise": (52, 204, 190),
    "blue": (44, 96, 224),
    "purple": (142, 66, 190),
    "pink": (248, 132, 184),
    "brown": (138, 86, 46),
    "black": (66, 64, 78),
    "grey": (154, 156, 166),
    "white": (250, 250, 250),
}
PLACES = ("grass", "snow", "sand", "sea", "night", "road")
SIZES = ("small", "middle", "big")  # captions never state "middle": it is what goes without saying
STATED_SIZES = ("small", "big")
RELATIONS = ("left of", "above", "playing with")  # "right of" and "below" are read as the reverse
PLAYERS = ("bear", "dog", "cat", "bird", "rabbit", "robot")
TOYS = (  # "playing with" relates one of PLAYERS to one of these
    "ball", "star", "heart", "circle", "square", "triangle", "car", "boat", "fish", "flower",
    "apple", "umbrella", "rocket", "butterfly",
)  # fmt: skip
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
    """One thing; None: not stated. Captions state the size of a lone thing only.

    tint: a colour mixed into its own, "red" for a reddish orange thing. Only training has tints.
    """

    kind: str
    colour: str | None = None
    size: str | None = None
    tint: str | None = None


@dataclass(frozen=True)
class Facts:
    """One to three things, the relation of the first to the second, and the place.

    Two or three things are either equal (a count: "three red cars") or an ordered pair. The
    `relation` of a pair is read "things[0] <relation> things[1]".
    """

    things: tuple[Thing, ...]
    relation: str | None = None
    place: str | None = None

    @property
    def is_group(self) -> bool:
        """Whether these are several equal things: a caption that counts."""
        return len(self.things) > 1 and len(set(self.things)) == 1

    @property
    def skill(self) -> str:
        """The one of GenEval's six skills that a caption with these facts tests."""
        if len(self.things) == 1:
            return "single object" if self.things[0].colour is None else "colours"
        if self.is_group:
            return "counting"
        if self.relation is not None:
            return "position"
        return "two objects" if self.things[0].colour is None else "colour attribution"


def require(fact: str | None) -> str:
    """A fact that must be stated, as every fact of a scene is."""
    assert fact is not None, "a scene needs complete facts; state kind, colour, size and place"
    return fact


def mutations(facts: Facts) -> list[tuple[str, Facts]]:
    """Every variant of `facts` with exactly one stated fact changed: [(fact, wrong facts)].

    A judge must reject each variant, and a contrastive model must separate it from `facts`.
    """
    wrong: list[tuple[str, Facts]] = []

    def change_thing(field: str, values: Collection[str]) -> None:
        # A group is changed as a whole: "three red cars" becomes "three blue cars".
        indices = range(len(facts.things))
        for chosen in [[*indices]] if facts.is_group else [[i] for i in indices]:
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
