"""Hard negatives for CLIP: scenes whose captions differ in one fact, or only in their order.

What tells such a scene from the other is what a contrastive model must learn.
"""

import random
from dataclasses import replace

from minidalle.world.facts import PLAYERS, SIZES, Facts, mutations
from minidalle.world.scenes import Scene, group_sizes, lay_out, split_of


def one_fact_changed(scene: Scene, seed: int | str) -> Scene | None:
    """A scene of the same split with one fact changed; None if chance finds none.

    The size of one of several things is never the one: captions do not state it.
    """
    rng = random.Random(f"changed {seed}")
    changes: dict[str, list[Facts]] = {}
    for fact, facts in mutations(scene.facts):
        if fact != "size" or len(facts.things) == 1:
            changes.setdefault(fact, []).append(facts)
    for _ in range(100):
        fitted = _fitted(rng.choice(changes[rng.choice(list(changes))]), rng)
        if fitted and (changed := _in_split(fitted, split_of(scene), rng)):
            return changed
    return None


def _fitted(facts: Facts, rng: random.Random) -> Facts | None:
    """The facts with sizes that fit in one picture; None where a non-player would play."""
    if facts.relation == "playing with" and facts.things[0].kind not in PLAYERS:
        return None
    sizes: tuple[str, ...] = SIZES
    if facts.is_group:
        sizes = group_sizes(len(facts.things))
    elif facts.relation is not None:
        sizes = ("small", "middle")
    same = rng.choice(sizes)
    things = []
    for i, thing in enumerate(facts.things):
        allowed = ("small",) if i and facts.relation == "playing with" else sizes
        other = same if facts.is_group else rng.choice(allowed)
        things.append(thing if thing.size in allowed else replace(thing, size=other))
    return replace(facts, things=tuple(things))


def swapped(scene: Scene, seed: int | str) -> Scene | None:
    """A scene of the same split whose two things have swapped positions or colours.

    Its caption has the same words with another meaning. None if there is no such scene.
    """
    if scene.facts.relation is None:
        return None
    rng = random.Random(f"swapped {seed}")
    a, b = scene.facts.things
    recoloured = replace(a, colour=b.colour), replace(b, colour=a.colour)
    choices = [t for t in ((b, a), recoloured) if t != (a, b)]
    for things in rng.sample(choices, len(choices)):
        facts = _fitted(replace(scene.facts, things=things), rng)
        if facts and (changed := _in_split(facts, split_of(scene), rng)):
            return changed
    return None


def _in_split(facts: Facts, split: str, rng: random.Random) -> Scene | None:
    """A scene of the facts; None if it is of another split."""
    scene = lay_out(facts, rng)
    return scene if split_of(scene) == split else None
