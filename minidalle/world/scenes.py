"""Scenes of the storybook: facts, and all that a caption leaves open, so that one caption has
thousands of pictures.

A scene is a lone thing, a group of two or three equal things, or a pair in a relation. Its facts
are what captions speak of. The rest is chosen at random: where things stand, which drawing of its
kind each is, whether it is mirrored, the shade of its colour, and the sky, horizon and layout of
the place.
"""

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from minidalle.errors import MinidalleError
from minidalle.world import layouts
from minidalle.world.backdrops import (
    CELL,
    HORIZONS,
    NUM_LAYOUTS,
    NUM_SKIES,
    SIDE,
    Backdrop,
    paint_backdrop,
)
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
    require,
)
from minidalle.world.layouts import CELLS, SPAN, Corner
from minidalle.world.paints import (
    MIXED_SHARE,
    NUM_SHADES,
    SHADES,
    jitter,
    mix,
    mixtures,
)
from minidalle.world.sprites import DRAWINGS, is_symmetric, sprite

SPLITS = ("train", "validation", "compositions")
# Weights of the three layouts. Training has 65 % pairs, evaluation 45 %: a model learns last which
# of two things is where, and in which colour.
LAYOUTS = {"lone": 7, "group": 4, "pair": 9}
TRAIN_LAYOUTS = {"lone": 4, "group": 3, "pair": 13}
# Training never shows these (kind, colour) pairs, a tenth of all: one colour of each kind, two of
# every fourth. A model that draws them has learnt kind and colour separately (compositional
# generalisation).
HELD_OUT = frozenset(
    (kind, list(COLOURS)[(step * i + 6) % len(COLOURS)])
    for i, kind in enumerate(KINDS)
    for step in ((5, 7) if i % 4 == 1 else (5,))
)


@dataclass(frozen=True)
class Figure:
    """How one thing is drawn: all that its facts leave open."""

    corner: Corner
    drawing: int = 0  # which of the drawings of its kind
    mirrored: bool = False
    shade: int = 0  # which of the shades of its colour
    paint: RGB | None = None  # instead of a shade, where colours are jittered


@dataclass(frozen=True)
class Scene:
    """Complete facts, one figure for each thing, and the backdrop."""

    facts: Facts
    figures: tuple[Figure, ...]
    backdrop: Backdrop

    @property
    def corners(self) -> tuple[Corner, ...]:
        return tuple(figure.corner for figure in self.figures)


def render(scene: Scene, size: int = SIDE) -> np.ndarray:
    """Draw a scene: uint8, size × size × 3. `size` is a multiple of 48 or divides it."""
    image = paint_backdrop(scene.backdrop).copy()
    for thing, figure in zip(scene.facts.things, scene.figures, strict=True):
        paint = figure.paint or SHADES[require(thing.colour)][figure.shade]
        width = SPAN[require(thing.size)] * CELL
        drawn = sprite(thing.kind, figure.drawing, figure.mirrored, paint, width)
        x, y = (cells * CELL for cells in figure.corner)
        window = image[y : y + width, x : x + width]
        np.copyto(window, drawn[..., :3], where=drawn[..., 3:] > 0)
    return image if size == SIDE else _resize(image, size)


def _resize(image: np.ndarray, size: int) -> np.ndarray:
    """Nearest neighbour: whole pixels stay whole."""
    at = (np.arange(size) * SIDE) // size
    return image[at[:, None], at]


# --- Sampling scenes ------------------------------------------------------------------------------


def lay_out(facts: Facts, rng: random.Random) -> Scene:
    """Draw complete facts, at random among all scenes that agree with them."""
    sizes = [require(thing.size) for thing in facts.things]
    if len(sizes) == 1:
        choices = layouts.lone(sizes[0])
    elif facts.is_group:
        choices = layouts.group(sizes[0], len(sizes))
    else:
        choices = layouts.pair(require(facts.relation), *sizes)
    corners = rng.choice(choices)
    figures: list[Figure] = []
    for thing, corner in zip(facts.things, corners, strict=True):
        figure = _sample_figure(thing, corner, rng)
        if figures and facts.is_group:  # equal things are drawn alike
            first = figures[0]
            mirrored = figure.mirrored and not is_symmetric(thing.kind, first.drawing)
            figure = Figure(corner, first.drawing, mirrored, first.shade)
        if facts.relation == "playing with" and not figures:
            # drawings face left: a player looks at its toy
            is_turned = corners[1] > corner and not is_symmetric(thing.kind, figure.drawing)
            figure = replace(figure, mirrored=is_turned)
        figures.append(figure)
    return Scene(facts, tuple(figures), _sample_backdrop(require(facts.place), rng))


def _sample_figure(thing: Thing, corner: Corner, rng: random.Random) -> Figure:
    """One of all the ways in which a thing may be drawn at a corner."""
    drawing = rng.randrange(len(DRAWINGS[thing.kind]))
    mirrored = rng.random() < 0.5 and not is_symmetric(thing.kind, drawing)
    return Figure(corner, drawing, mirrored, rng.randrange(NUM_SHADES))


def _sample_backdrop(place: str, rng: random.Random) -> Backdrop:
    """One of the backdrops of a place."""
    sky, horizon = rng.randrange(NUM_SKIES), rng.randrange(len(HORIZONS))
    return Backdrop(place, sky, horizon, rng.randrange(NUM_LAYOUTS))


def _list_colours(held_out: bool) -> dict[str, list[str]]:
    """The colours of each kind: those in HELD_OUT, or all others."""
    return {k: [c for c in COLOURS if ((k, c) in HELD_OUT) == held_out] for k in KINDS}


SEEN_COLOURS, UNSEEN_COLOURS = _list_colours(held_out=False), _list_colours(held_out=True)


def _sample_thing(
    rng: random.Random,
    colours: dict[str, list[str]],
    kinds: Sequence[str] = KINDS,
    sizes: Sequence[str] = ("small", "middle"),
) -> Thing:
    """A thing of one of the kinds and sizes, in one of the colours of that kind."""
    kind = rng.choice(kinds)
    return Thing(kind, rng.choice(colours[kind]), rng.choice(sizes))


def _sample_facts(
    rng: random.Random, colours: dict[str, list[str]], weights: dict[str, int]
) -> Facts:
    layout = rng.choices(list(weights), weights=list(weights.values()))[0]
    place = rng.choice(PLACES)
    if layout == "lone":
        return Facts((_sample_thing(rng, colours, sizes=SIZES),), None, place)
    if layout == "group":
        count = rng.choice((2, 3))
        thing = _sample_thing(rng, colours, sizes=group_sizes(count))
        return Facts((thing,) * count, None, place)
    relation = rng.choice(RELATIONS)
    is_play = relation == "playing with"
    first = _sample_thing(rng, colours, PLAYERS if is_play else KINDS)
    toys = ("ball",) if rng.random() < 0.5 else TOYS
    others = [k for k in (toys if is_play else KINDS) if k != first.kind]
    sizes = ("small",) if is_play else ("small", "middle")
    return Facts((first, _sample_thing(rng, colours, others, sizes)), relation, place)


def group_sizes(count: int) -> tuple[str, ...]:
    """The sizes of equal things: three of them fit in a picture only when small."""
    return ("small", "middle") if count == 2 else ("small",)


def complete(facts: Facts, rng: random.Random) -> Facts:
    """Facts that a caption states, and by chance those that it leaves open.

    With `lay_out`, all pictures of a caption: as many as one likes.
    """
    first, count = facts.things[0], len(facts.things)
    relation, things = facts.relation, facts.things
    sizes: list[tuple[str, ...]]
    if count == 1:
        sizes = [(first.size,) if first.size else SIZES]
    elif facts.is_group:
        sizes = [group_sizes(count)] * count
    else:
        if relation is None:  # the toy is named first, since it is above the player
            plays = things[1].kind in PLAYERS and things[0].kind in TOYS
            relation = rng.choice(RELATIONS if plays else RELATIONS[:2])
            things = things[::-1] if relation == "playing with" else things
        sizes = [
            ("small", "middle"),
            ("small",) if relation == "playing with" else ("small", "middle"),
        ]
    done = [
        replace(t, colour=t.colour or rng.choice(list(COLOURS)), size=t.size or rng.choice(s))
        for t, s in zip(things, sizes, strict=True)
    ]
    if facts.is_group:
        done = done[:1] * count
    return Facts(tuple(done), relation, facts.place or rng.choice(PLACES))


def split_of(scene: Scene) -> str:
    """The split of a scene, a function of its facts and corners; 1/16 of the rest is validation."""
    if any((t.kind, t.colour) in HELD_OUT for t in scene.facts.things):
        return "compositions"
    key = f"{scene.facts!r} {scene.corners!r}"
    return "validation" if zlib.crc32(key.encode()) % 16 == 0 else "train"


def sample_scene(seed: int | str, split: str = "train", lone: bool = False) -> Scene:
    """The scene of a seed, always the same one. lone: of one thing.

    `train` and `validation` share no scene: a hash assigns each to one of them. Scenes of
    `compositions` have only (kind, colour) pairs of HELD_OUT, which the other two splits never
    show. Raises MinidalleError for a split that there is not.
    """
    if split not in SPLITS:  # no scene would ever belong to it
        raise MinidalleError(f"no split {split!r}; choose one of: {', '.join(SPLITS)}")
    rng = random.Random(f"{split} scene {seed}")
    colours = UNSEEN_COLOURS if split == "compositions" else SEEN_COLOURS
    weights = {"lone": 1} if lone else TRAIN_LAYOUTS if split == "train" else LAYOUTS
    while True:
        scene = lay_out(_sample_facts(rng, colours, weights), rng)
        if split_of(scene) == split:
            return scene


def sample_crowded_scene(seed: int | str) -> Scene:
    """A crowded scene for the dVAE, which reads no captions: as many things as fit, anywhere.

    Other scenes are three quarters empty sky and ground; a crowded one has more pixels of things.
    It never shows a pair of HELD_OUT, nor a colour near to it.
    """
    rng = random.Random(f"crowded {seed}")
    tries = ["big"] * rng.choice((0, 0, 1)) + ["middle"] * rng.choice((0, 4, 8)) + ["small"] * 24
    figures: list[Figure] = []
    things: list[Thing] = []
    for size in tries:
        last = CELLS - SPAN[size]
        corner = rng.randint(0, last), rng.randint(0, last)
        taken = zip(figures, things, strict=True)
        if not any(layouts.overlap(corner, f.corner, size, require(t.size)) for f, t in taken):
            things.append(_sample_thing(rng, SEEN_COLOURS, sizes=(size,)))
            figures.append(_sample_figure(things[-1], corner, rng))
    backdrop = _sample_backdrop(rng.choice(PLACES), rng)
    scene = Scene(Facts(tuple(things), None, backdrop.place), tuple(figures), backdrop)
    return colour_jittered(scene, f"crowded {seed}") if rng.random() < 0.4 else scene


def colour_jittered(scene: Scene, seed: int | str) -> Scene:
    """The same scene with colour jitter: half of its kinds in colours between two, named as the
    nearest, and half in a named mixture of two: "reddish orange".

    With twelve fixed colours a model memorises which colours each kind has. Jittered colours do not
    repeat, so it must learn kind and colour separately. A kind never comes in a colour nearest to
    one that HELD_OUT keeps from it.
    """
    rng = random.Random(f"jittered {seed}")
    chosen: dict[Thing, tuple[str, RGB, str | None]] = {}
    for thing in dict.fromkeys(scene.facts.things):
        if rng.random() < 0.5:
            tint, colour = rng.choice(mixtures(tuple(UNSEEN_COLOURS[thing.kind])))
            paint = mix(COLOURS[tint], COLOURS[colour], MIXED_SHARE)
            chosen[thing] = colour, paint, tint
        else:
            colour = require(thing.colour)
            chosen[thing] = colour, jitter(colour, rng), None
    picked = [chosen[thing] for thing in scene.facts.things]
    things = tuple(
        replace(thing, colour=colour, tint=tint)
        for thing, (colour, _, tint) in zip(scene.facts.things, picked, strict=True)
    )
    figures = tuple(
        replace(figure, paint=paint)
        for figure, (_, paint, _) in zip(scene.figures, picked, strict=True)
    )
    return replace(scene, facts=replace(scene.facts, things=things), figures=figures)
