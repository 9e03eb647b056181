"""Scenes of the storybook world: facts with positions, their rendering and their sampling.

A scene is a lone thing, a group of two or three equal things, or a pair in a relation. Things lie
on a 12 × 12 lattice of cells, which is the dVAE's grid of codes as well. A 48-pixel picture has
4-pixel cells; a small thing covers 5 × 5 of them, a big one 8 × 8. Small things have five possible
positions, big ones two, so that a laptop can learn the world.
"""

# The strings given to random.Random name the random streams, and `_split_of` hashes the repr of
# Facts and corners. They keep their wording, old names included, so that a seed always gives the
# same scene.

import math
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from minidalle.world.backdrops import backdrop
from minidalle.world.facts import (
    COLOURS,
    KINDS,
    PLACES,
    PLAYERS,
    RELATIONS,
    RGB,
    SIZES,
    TOYS,
    Facts,
    Thing,
    mutations,
    require,
)
from minidalle.world.sprites import sprite

CELLS = 12  # cells across a picture
SPAN = {"small": 5, "big": 8}  # cells across a thing
Corner = tuple[int, int]  # column and row, in cells, of the upper left cell of a thing
LEFT, MIDDLE, RIGHT = 0, 4, 7  # columns of the corners of small things
SKY, GROUND = 0, 6  # rows of the corners of small things
BIG_COLUMNS, BIG_ROW = (0, 4), 3  # columns and row of the corners of big things
SPLITS = ("train", "validation", "compositions")
# Weights of the three layouts. Training has 65 % pairs, evaluation 45 %: a model learns last which
# of two things is where, and in which colour.
LAYOUTS = {"lone": 7, "group": 4, "pair": 9}
TRAIN_LAYOUTS = {"lone": 4, "group": 3, "pair": 13}
# Training never shows one colour per kind: 10 % of all (kind, colour) pairs. A model that draws
# these pairs has learnt kind and colour separately (compositional generalisation).
HELD_OUT = frozenset(
    (kind, list(COLOURS)[(3 * i + 2) % len(COLOURS)]) for i, kind in enumerate(KINDS)
)


@dataclass(frozen=True)
class Scene:
    """Complete facts, and the corner of each thing.

    paints: the RGB value of each thing, where colour jitter has changed it (`colour_jittered`).
    """

    facts: Facts
    corners: tuple[Corner, ...]
    paints: tuple[RGB, ...] | None = None


def render(scene: Scene, size: int = 48) -> np.ndarray:
    """Draw a scene: uint8, size × size × 3."""
    image = backdrop(require(scene.facts.place), size).copy()
    cell = size / CELLS
    things = scene.facts.things
    paints: Sequence[str | RGB] = scene.paints or [require(thing.colour) for thing in things]
    for thing, paint, (column, row) in zip(things, paints, scene.corners, strict=True):
        width = round(SPAN[require(thing.size)] * cell)
        drawn = sprite(thing.kind, paint, width, ink=1.3 * size / 64)
        x, y = round(column * cell), round(row * cell)
        under = image[y : y + width, x : x + width]
        alpha = drawn[..., 3:].astype(np.uint16)
        mixed = (drawn[..., :3] * alpha + under * (255 - alpha) + 127) // 255
        image[y : y + width, x : x + width] = mixed.astype(np.uint8)
    return image


# --- Sampling scenes ------------------------------------------------------------------------------


def lay_out(facts: Facts, rng: random.Random) -> Scene:
    """Place complete facts on the lattice, at random among the layouts that agree with them."""
    corners: tuple[Corner, ...]
    left, right = (LEFT, GROUND), (RIGHT, GROUND)
    if len(facts.things) == 1:
        if facts.things[0].size == "small":
            corners = ((rng.choice((LEFT, MIDDLE, RIGHT)), GROUND),)
        else:
            corners = ((rng.choice(BIG_COLUMNS), BIG_ROW),)
    elif len(facts.things) == 3:  # two below, one above
        corners = left, right, (rng.choice((LEFT, RIGHT)), SKY)
    elif facts.is_group or facts.relation == "left of":
        corners = left, right
    elif facts.relation == "above":
        column = rng.choice((LEFT, RIGHT))
        corners = (column, SKY), (column, GROUND)
    else:  # the player is on the ground, the toy in the air on the other side
        player, toy = rng.sample((LEFT, RIGHT), 2)
        corners = (player, GROUND), (toy, SKY)
    return Scene(facts, corners)


def _list_colours(held_out: bool) -> dict[str, list[str]]:
    """The colours of each kind: those in HELD_OUT, or all others."""
    return {k: [c for c in COLOURS if ((k, c) in HELD_OUT) == held_out] for k in KINDS}


SEEN_COLOURS, UNSEEN_COLOURS = _list_colours(held_out=False), _list_colours(held_out=True)


def _sample_thing(
    rng: random.Random, colours: dict[str, list[str]], kinds: Sequence[str] = KINDS
) -> Thing:
    """A small thing of one of the kinds, in one of the colours of that kind."""
    kind = rng.choice(kinds)
    return Thing(kind, rng.choice(colours[kind]), "small")


def _sample_facts(
    rng: random.Random, colours: dict[str, list[str]], layouts: dict[str, int]
) -> Facts:
    layout = rng.choices(list(layouts), weights=list(layouts.values()))[0]
    place = rng.choice(PLACES)
    if layout == "lone":
        lone = replace(_sample_thing(rng, colours), size=rng.choice(SIZES))
        return Facts((lone,), None, place)
    if layout == "group":
        return Facts((_sample_thing(rng, colours),) * rng.choice((2, 3)), None, place)
    relation = rng.choice(RELATIONS)
    is_play = relation == "playing with"
    first = _sample_thing(rng, colours, PLAYERS if is_play else KINDS)
    toys = ("ball",) if rng.random() < 0.5 else TOYS
    others = [k for k in (toys if is_play else KINDS) if k != first.kind]
    return Facts((first, _sample_thing(rng, colours, others)), relation, place)


def _split_of(scene: Scene) -> str:
    """The split of a scene, a function of its facts and corners; 1/16 of the rest is validation."""
    if any((t.kind, t.colour) in HELD_OUT for t in scene.facts.things):
        return "compositions"
    key = f"Scene(facts={scene.facts!r}, corners={scene.corners!r})"
    return "validation" if zlib.crc32(key.encode()) % 16 == 0 else "train"


def sample_scene(seed: int | str, split: str = "train") -> Scene:
    """The scene of a seed, always the same one.

    `train` and `validation` share no scene: a hash assigns each scene to one of them. Scenes of
    `compositions` have only (kind, colour) pairs of HELD_OUT, which the other two splits never
    show.
    """
    rng = random.Random(f"{split} scene {seed}")
    colours = UNSEEN_COLOURS if split == "compositions" else SEEN_COLOURS
    layouts = TRAIN_LAYOUTS if split == "train" else LAYOUTS
    while True:
        scene = lay_out(_sample_facts(rng, colours, layouts), rng)
        if _split_of(scene) == split:
            return scene


def sample_crowded_scene(seed: int | str) -> Scene:
    """A crowded scene for the dVAE, which reads no captions: four things, or one big one.

    Other scenes are three quarters empty sky and ground. A crowded scene has more pixels of things,
    at any position of the lattice. It never shows a pair of HELD_OUT.
    """
    rng = random.Random(f"page {seed}")
    place = rng.choice(PLACES)
    if rng.random() < 0.3:
        big = replace(_sample_thing(rng, SEEN_COLOURS), size="big")
        return Scene(Facts((big,), None, place), ((rng.randrange(5), rng.randrange(2, 5)),))
    apart = [(a, b) for a in range(3) for b in range(a + SPAN["small"], 8)]
    columns = rng.choice(apart)
    corners = tuple((column, row) for column in columns for row in rng.choice(apart))
    things = tuple(_sample_thing(rng, SEEN_COLOURS) for _ in corners)
    return Scene(Facts(things, None, place), corners)


def colour_jittered(scene: Scene, seed: int | str) -> Scene:
    """The same scene with colour jitter: each colour is mixed with another at random.

    With ten fixed colours a model memorises which colours each kind has. Jittered colours do not
    repeat, so it must learn kind and colour separately. A mixed colour stays nearest to its
    original: captions remain true, and no pair of HELD_OUT appears.
    """
    rng = random.Random(f"shaded {seed}")
    paints = {
        thing: _jitter_colour(require(thing.colour), rng)
        for thing in dict.fromkeys(scene.facts.things)
    }
    return replace(scene, paints=tuple(paints[thing] for thing in scene.facts.things))


def _jitter_colour(colour: str, rng: random.Random) -> RGB:
    """A colour mixed with another, by rejection: its nearest colour is still `colour`."""
    while True:
        other, share = rng.choice(list(COLOURS)), rng.random()
        pairs = zip(COLOURS[colour], COLOURS[other], strict=True)
        red, green, blue = (round(share * a + (1 - share) * b) for a, b in pairs)
        mixed = red, green, blue
        if min(COLOURS, key=lambda name: math.dist(COLOURS[name], mixed)) == colour:
            return mixed


def one_fact_changed(scene: Scene, seed: int | str) -> Scene:
    """A scene of the same split with one fact changed."""
    rng = random.Random(f"sibling {seed}")
    choices: dict[str, list[Facts]] = {}
    for fact, facts in mutations(scene.facts):
        if fact != "size" or len(facts.things) == 1:  # two big things do not fit in a picture
            choices.setdefault(fact, []).append(facts)
    while True:
        facts = rng.choice(choices[rng.choice(list(choices))])
        # `mutations` omits the size where it changes the count: a lone thing has two sizes.
        if None in {t.size for t in facts.things}:
            size = rng.choice(SIZES) if len(facts.things) == 1 else "small"
            facts = replace(facts, things=tuple(replace(t, size=size) for t in facts.things))
        if changed := _lay_out_in_split(facts, _split_of(scene), rng):
            return changed


def swapped(scene: Scene, seed: int | str) -> Scene | None:
    """A scene of the same split whose two things have swapped positions or colours.

    Its caption has the same words with another meaning. None if there is no such scene.
    """
    if scene.facts.relation is None:
        return None
    rng = random.Random(f"exchanged {seed}")
    a, b = scene.facts.things
    recoloured = replace(a, colour=b.colour), replace(b, colour=a.colour)
    choices = [t for t in ((b, a), recoloured) if t != (a, b)]
    for things in rng.sample(choices, len(choices)):
        facts = replace(scene.facts, things=things)
        if changed := _lay_out_in_split(facts, _split_of(scene), rng):
            return changed
    return None


def _lay_out_in_split(facts: Facts, split: str, rng: random.Random) -> Scene | None:
    """A scene of the facts; None if a non-player would play or the scene is of another split."""
    if facts.relation == "playing with" and facts.things[0].kind not in PLAYERS:
        return None
    scene = lay_out(facts, rng)
    return scene if _split_of(scene) == split else None
