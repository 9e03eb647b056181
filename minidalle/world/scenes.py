"""Scenes of the storybook world: what stands where, how it is drawn, and how scenes are sampled.

A scene is a lone thing, a group of two or three equal things, or a pair in a relation. Things sit
on a 12 × 12 lattice of cells, so that a picture is a puzzle of repeating pieces: a 48-pixel picture
has 4-pixel cells, a small thing fills 5 × 5 of them, a big one 8 × 8. The dVAE's codes stand on the
same lattice. Things keep to five places of it, big ones to two: so small a world can be learnt on
a laptop.
"""

import math
import random
import zlib
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
)
from minidalle.world.sprites import sprite

CELLS = 12  # a picture is CELLS × CELLS cells
SPAN = {"small": 5, "big": 8}  # cells across a thing
LEFT, MIDDLE, RIGHT = 0, 4, 7  # columns in which a small thing begins
SKY, GROUND = 0, 6  # and rows
BIG_COLUMNS, BIG_ROW = (0, 4), 3
SPLITS = ("train", "validation", "compositions")
# How often a scene is a lone thing, a group, a pair. Training shows more pairs than are asked for:
# which of two things is where, and in which colour, is learnt last.
LAYOUTS = {"lone": 7, "group": 4, "pair": 9}
TRAIN_LAYOUTS = {"lone": 4, "group": 3, "pair": 13}
# One colour a kind is never shown in training: ten per cent of all (kind, colour) pairs. A model
# that draws them has understood kind and colour apart.
HELD_OUT = frozenset(
    (kind, list(COLOURS)[(3 * i + 2) % len(COLOURS)]) for i, kind in enumerate(KINDS)
)


@dataclass(frozen=True)
class Scene:
    """What is drawn: complete facts, and the (column, row) of each thing's upper left cell.

    paints: RGB of each thing, where that is a shade of its colour (`colour_jittered`).
    """

    facts: Facts
    corners: tuple[tuple[int, int], ...]
    paints: tuple[RGB, ...] | None = None


def render(scene: Scene, size: int = 48) -> np.ndarray:
    """Draw a scene: uint8, size × size × 3."""
    image = backdrop(scene.facts.place, size).copy()
    cell = size / CELLS
    things = scene.facts.things
    paints = scene.paints or [thing.colour for thing in things]
    for thing, paint, (column, row) in zip(things, paints, scene.corners, strict=True):
        width = round(SPAN[thing.size] * cell)
        drawn = sprite(thing.kind, paint, width, ink=1.3 * size / 64)
        x, y = round(column * cell), round(row * cell)
        under = image[y : y + width, x : x + width]
        alpha = drawn[..., 3:].astype(np.uint16)
        mixed = (drawn[..., :3] * alpha + under * (255 - alpha) + 127) // 255
        image[y : y + width, x : x + width] = mixed.astype(np.uint8)
    return image


# --- Sampling scenes ------------------------------------------------------------------------------


def lay_out(facts: Facts, rng: random.Random) -> Scene:
    """Put complete facts on the lattice, at random within what they allow."""
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
    else:  # the player stands on the ground, the toy flies up beside it
        player, toy = rng.sample((LEFT, RIGHT), 2)
        corners = (player, GROUND), (toy, SKY)
    return Scene(facts, corners)


def _drawer(held_out: bool):
    """A function that draws a small thing among some kinds: all but HELD_OUT, or only HELD_OUT."""
    colours = {k: [c for c in COLOURS if ((k, c) in HELD_OUT) == held_out] for k in KINDS}

    def draw_thing(rng: random.Random, kinds=KINDS) -> Thing:
        kind = rng.choice(kinds)
        return Thing(kind, rng.choice(colours[kind]), "small")

    return draw_thing


_SEEN, _UNSEEN = _drawer(held_out=False), _drawer(held_out=True)


def _sample_facts(rng: random.Random, draw_thing, layouts: dict[str, int]) -> Facts:
    layout = rng.choices(list(layouts), weights=layouts.values())[0]
    place = rng.choice(PLACES)
    if layout == "lone":
        return Facts((replace(draw_thing(rng), size=rng.choice(SIZES)),), None, place)
    if layout == "group":
        return Facts((draw_thing(rng),) * rng.choice((2, 3)), None, place)
    relation = rng.choice(RELATIONS)
    is_play = relation == "playing with"
    first = draw_thing(rng, PLAYERS if is_play else KINDS)
    toys = ("ball",) if rng.random() < 0.5 else TOYS
    second = draw_thing(rng, [k for k in (toys if is_play else KINDS) if k != first.kind])
    return Facts((first, second), relation, place)


def _split_of(scene: Scene) -> str:
    if any((t.kind, t.colour) in HELD_OUT for t in scene.facts.things):
        return "compositions"
    told = f"Scene(facts={scene.facts!r}, corners={scene.corners!r})"
    return "validation" if zlib.crc32(told.encode()) % 16 == 0 else "train"


def sample_scene(seed: int | str, split: str = "train") -> Scene:
    """The scene that belongs to a seed: always the same one.

    `train` and `validation` never share a scene: each is one or the other by a hash. Scenes of
    `compositions` hold only (kind, colour) pairs that neither of the two ever shows.
    """
    rng = random.Random(f"{split} scene {seed}")
    draw_thing = _UNSEEN if split == "compositions" else _SEEN
    layouts = TRAIN_LAYOUTS if split == "train" else LAYOUTS
    while True:
        scene = lay_out(_sample_facts(rng, draw_thing, layouts), rng)
        if _split_of(scene) == split:
            return scene


def sample_crowded_scene(seed: int | str) -> Scene:
    """A crowded picture for the dVAE, which needs no caption: four things, or one big one.

    A scene is three quarters empty sky and ground; a page spends its pixels on things, and puts
    them anywhere on the lattice. No page shows a pair of HELD_OUT.
    """
    rng = random.Random(f"page {seed}")
    place = rng.choice(PLACES)
    if rng.random() < 0.3:
        big = replace(_SEEN(rng), size="big")
        return Scene(Facts((big,), None, place), ((rng.randrange(5), rng.randrange(2, 5)),))
    apart = [(a, b) for a in range(3) for b in range(a + SPAN["small"], 8)]
    columns = rng.choice(apart)
    corners = tuple((column, row) for column in columns for row in rng.choice(apart))
    return Scene(Facts(tuple(_SEEN(rng) for _ in corners), None, place), corners)


def colour_jittered(scene: Scene, seed: int | str) -> Scene:
    """The same scene with each colour mixed with some other, but still nearest to its own.

    Of ten colours a model learns by heart which ones each kind comes in; of shades there is no end,
    and it must learn the kind apart from its colour. As a shade stays nearest to the colour of its
    thing, none shows a pair of HELD_OUT.
    """
    rng = random.Random(f"shaded {seed}")
    paints = {
        thing: _jittered_colour(thing.colour, rng) for thing in dict.fromkeys(scene.facts.things)
    }
    return replace(scene, paints=tuple(paints[thing] for thing in scene.facts.things))


def _jittered_colour(colour: str, rng: random.Random) -> RGB:
    while True:
        other, share = rng.choice(list(COLOURS)), rng.random()
        pairs = zip(COLOURS[colour], COLOURS[other], strict=True)
        mixed = tuple(round(share * a + (1 - share) * b) for a, b in pairs)
        if min(COLOURS, key=lambda name: math.dist(COLOURS[name], mixed)) == colour:
            return mixed


def one_fact_changed(scene: Scene, seed: int | str) -> Scene:
    """A scene of the same split that differs from this one in a single fact."""
    rng = random.Random(f"sibling {seed}")
    choices: dict[str, list[Facts]] = {}
    for fact, facts in mutations(scene.facts):
        if fact != "size" or len(facts.things) == 1:  # there is no room for two big things
            choices.setdefault(fact, []).append(facts)
    while True:
        facts = rng.choice(choices[rng.choice(list(choices))])
        if None in {t.size for t in facts.things}:  # the count changed: a lone thing has two sizes
            size = rng.choice(SIZES) if len(facts.things) == 1 else "small"
            facts = replace(facts, things=tuple(replace(t, size=size) for t in facts.things))
        if changed := _as_scene(facts, _split_of(scene), rng):
            return changed


def swapped(scene: Scene, seed: int | str) -> Scene | None:
    """A scene of the same split with the two things of this one, in which they have changed places
    or colours: the same words, meant otherwise. None where there is no such scene."""
    if scene.facts.relation is None:
        return None
    rng = random.Random(f"exchanged {seed}")
    a, b = scene.facts.things
    recoloured = replace(a, colour=b.colour), replace(b, colour=a.colour)
    choices = [t for t in ((b, a), recoloured) if t != (a, b)]
    for things in rng.sample(choices, len(choices)):
        facts = replace(scene.facts, things=things)
        if changed := _as_scene(facts, _split_of(scene), rng):
            return changed
    return None


def _as_scene(facts: Facts, split: str, rng: random.Random) -> Scene | None:
    """These facts laid out, unless nobody could be playing or the scene is of another split."""
    if facts.relation == "playing with" and facts.things[0].kind not in PLAYERS:
        return None
    scene = lay_out(facts, rng)
    return scene if _split_of(scene) == split else None
