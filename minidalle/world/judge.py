"""The judge: reads a picture back into facts, so that "does it show its caption?" is a number.

Nothing is learned. The judge owns the palette and the drawings, and explains a picture with them:

1. Which place? The backdrop that agrees with most pixels.
2. What changed? Pixels that the backdrop nearby does not account for.
3. Look where most has changed, and try every thing in every colour and both sizes there.
4. Take the best away and look again, until what is left is too little to be a thing.

A thing with colours s and coverage a, pasted at a corner, changes the backdrop b by p = a (s - b).
The picture's change there is d. How well they agree is one number, Dice's coefficient:

    dice = 2 <d, p> / (<d, d> + <p, p>)          1: just this; 0: nothing of it

It is taken twice, of the change itself (*tone*: mass and colour) and of the change less its mean
over the 9 × 9 pixels around (*line*: outline, eyes, panels); `match` is the mean of the two. Both
the picture and the drawings are blurred a little first: a model draws soft and ragged edges, and a
person would not mind. What nobody could name agrees with no drawing, and is unreadable.

    >>> book = Storybook()
    >>> score(book.image("validation", 7), book.caption("validation", 7)).right
    True
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from minidalle.errors import MinidalleError
from minidalle.world.backdrops import backdrop
from minidalle.world.captions import parse
from minidalle.world.facts import COLOURS, KINDS, PLACES, SIZES, Facts, Thing
from minidalle.world.scenes import CELLS, SPAN
from minidalle.world.sprites import sprite

SIDE = 48  # pixels: every picture is brought to this size first
CELL = SIDE // CELLS
MARGIN = 2  # pixels around a drawing that are compared too: its edge is blurred across them
REACH = 6  # pixels by which a thing may lie off the spot where most has changed
PAD = 10  # pixels around the picture, for windows that hang over its edge
STRIDE = {"small": 2, "big": 3}  # the search compares every second or third pixel

# Thresholds, each between what sound `train` pictures give once softened (blur, noise, shift,
# wobble, tint) and what ruined ones give (halved, smeared, shuffled): tests/benchmarks/judge.py
# prints both. No other split was looked at.
MIN_CHANGE = 24  # grey levels off the backdrop's, in some channel, that count as a change
MIN_BACKDROP_AGREEMENT = (
    0.45  # least share of pixels that agree with the place; things cover 0.42 at most
)
MIN_CHANGED_PIXELS = 40  # fewer changed pixels than this in a small thing's square are no thing
MIN_MATCH = 0.72  # least match of a thing
MIN_HALF_MATCH = 0.6  # least match of each half of it: left, right, upper, lower
MIN_LEAD = 0.03  # by which the best kind beats the next
MIN_SEPARATION = (
    3.0  # cells: the layouts set two centres 0 (in line), 6 or 7 (apart) from each other
)
FIELDS = ("kind", "colour", "size")


@dataclass(frozen=True)
class Found:
    """A thing in a picture. thing: None if unreadable; centre: (x, y) in cells; match: 0..1."""

    thing: Thing | None
    centre: tuple[float, float]
    match: float


@dataclass(frozen=True)
class Reading:
    """What a picture shows. facts: complete, or None for a reason that `problems` tells."""

    facts: Facts | None
    found: tuple[Found, ...]
    problems: tuple[str, ...]
    place: str | None


@dataclass(frozen=True)
class Verdict:
    """Does a picture show its caption? facts: each stated one; reasons: a line a wrong one."""

    right: bool
    facts: dict[str, bool]
    reasons: tuple[str, ...]


# --- What places and things look like, softened ---------------------------------------------------


@lru_cache
def _average(n: int, *weights: int) -> np.ndarray:
    """n n: a weighted mean along a line of n pixels is a product with this matrix."""
    near, reach = np.zeros((n, n), np.float32), len(weights) // 2
    for shift, weight in enumerate(weights, -reach):
        at = np.clip(np.arange(n) + shift, 0, n - 1)
        np.add.at(near, (np.arange(n), at), weight / sum(weights))
    return near


def _blur(image: np.ndarray, *weights: int) -> np.ndarray:
    """… H W, averaged along H and W."""
    return _average(image.shape[-2], *weights) @ image @ _average(image.shape[-1], *weights).T


def _soften(image: np.ndarray) -> np.ndarray:
    """uint8 H W C -> float32 C H W, blurred by a sigma of one pixel."""
    return _blur(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32), 1, 4, 6, 4, 1)


@lru_cache
def _place(name: str) -> tuple[np.ndarray, np.ndarray]:
    """An empty place (3 SIDE SIDE), and all that it may look like at a pixel (10 3 SIDE SIDE).

    These are the place moved by up to a pixel each way, and the plain colour of each row: so
    neither a horizon that wavers nor a cloud that is missing looks like a thing.
    """
    image = _soften(backdrop(name, SIDE))
    wide = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    moved = [wide[:, y : y + SIDE, x : x + SIDE] for y in range(3) for x in range(3)]
    plain = np.broadcast_to(np.median(image, 2, keepdims=True), image.shape)
    return image, np.stack([*moved, plain])


CANDIDATES = [(kind, colour) for kind in KINDS for colour in COLOURS]  # 160


@lru_cache
def _drawings(size: str) -> tuple[np.ndarray, np.ndarray]:
    """Every candidate's coverage times colour, a s (160 3 n n), and coverage a (160 1 n n)."""
    paint, cover = [], []
    for kind, colour in CANDIDATES:
        drawn = np.pad(
            sprite(kind, colour, SPAN[size] * CELL), ((MARGIN,) * 2, (MARGIN,) * 2, (0, 0))
        )
        alpha = drawn[..., 3:] / 255
        paint.append(_soften(drawn[..., :3] * alpha))
        cover.append(_soften(alpha))
    return np.stack(paint), np.stack(cover)


def _windows(canvas: np.ndarray, size: str) -> np.ndarray:
    """C H W -> Y X C m m: what the search sees in a window with its corner at (Y, X)."""
    n, step = _drawings(size)[0].shape[-1], STRIDE[size]
    view = sliding_window_view(canvas, (n, n), (1, 2))[..., ::step, ::step]
    return view.transpose(1, 2, 0, 3, 4)


@lru_cache
def _search_matrix(size: str) -> np.ndarray:
    """<d, p> = <d, a s> - <d b, a> is linear in (d, d b): the matrix that gives it for all 160."""
    paint, cover = (x[..., :: STRIDE[size], :: STRIDE[size]] for x in _drawings(size))
    return np.ascontiguousarray(np.concatenate([paint, -cover], 1).reshape(len(CANDIDATES), -1).T)


@lru_cache
def _energy(size: str, place: str) -> np.ndarray:
    """<p, p> for every corner and candidate, Y X 160: (a s - a b)^2 multiplied out."""
    ground = np.pad(_place(place)[0], ((0, 0), (PAD, PAD), (PAD, PAD)), mode="edge")
    paint, cover = (x[..., :: STRIDE[size], :: STRIDE[size]] for x in _drawings(size))
    matrix = np.concatenate([-2 * cover * paint, cover**2], 1).reshape(len(CANDIDATES), -1).T
    seen = _windows(np.concatenate([ground, (ground**2).sum(0, keepdims=True)]), size)
    return seen.reshape(*seen.shape[:2], -1) @ matrix + (paint**2).sum((1, 2, 3))


# --- Looking at a picture -------------------------------------------------------------------------


class _Match(NamedTuple):
    """One drawing held against one spot. corner: (row, column) of its window on the canvas."""

    match: float
    part: float
    kind: str
    colour: str
    size: str
    corner: tuple[int, int]

    @property
    def centre(self) -> tuple[float, float]:
        row, column = ((c - PAD + MARGIN) / CELL + SPAN[self.size] / 2 for c in self.corner)
        return column, row


def _which_place(image: np.ndarray) -> tuple[str, float]:
    """The place that the largest share of pixels agrees with; every fourth pixel is asked."""
    seen = image[:, ::2, ::2]
    shares = {
        name: float((np.abs(seen - _place(name)[0][:, ::2, ::2]).max(0) < MIN_CHANGE).mean())
        for name in PLACES
    }
    best = max(shares, key=shares.get)
    return best, shares[best]


def _search(change: np.ndarray, place: str, spot, size: str) -> tuple[float, str, list]:
    """First look, about a spot (row, column): dice, size, and the three likeliest kinds' best.

    change: 4 H W, the change d and, summed over colours, d b. Each of the three is a candidate's
    number with the row and column of its window's corner.
    """
    windows, energy = _windows(change, size), _energy(size, place)
    n = _drawings(size)[0].shape[-1]
    edge = n // 2 + REACH + 1
    row, column = (int(np.clip(x, edge, change.shape[-1] - edge)) - n // 2 for x in spot)
    for step, reach in ((3, REACH), (1, 1)):  # every third pixel, then those next to the best
        top, left = row - reach, column - reach
        here = np.s_[top : row + reach + 1 : step, left : column + reach + 1 : step]
        seen = windows[here]  # Y X 4 m m
        overlap = seen.reshape(*seen.shape[:2], -1) @ _search_matrix(size)  # Y X 160
        own = (seen[:, :, :3] ** 2).sum((2, 3, 4))[..., None]
        dice = 2 * overlap / (own + energy[here] + 1)
        y, x, _ = np.unravel_index(dice.argmax(), dice.shape)
        row, column = top + step * int(y), left + step * int(x)
    by_kind = dice.reshape(*dice.shape[:2], len(KINDS), len(COLOURS)).transpose(2, 0, 1, 3)
    likeliest = []
    for kind in np.argsort(-by_kind.max((1, 2, 3)))[:3]:
        y, x, colour = np.unravel_index(by_kind[kind].argmax(), by_kind[kind].shape)
        likeliest.append((int(kind * len(COLOURS) + colour), top + int(y), left + int(x)))
    return float(dice.max()), size, likeliest


def _inspect(change, ground, size: str, number: int, row: int, column: int) -> _Match:
    """Second look, at every pixel: tone and line, of the whole and of each half."""
    paint, cover = (x[number] for x in _drawings(size))
    n = paint.shape[-1]
    here = np.s_[:, row : row + n, column : column + n]
    d, p = change[:3][here], paint - cover * ground[here]  # 3 n n
    near = (1,) * 9
    d, p = np.stack([d, d - _blur(d, *near)]), np.stack([p, p - _blur(p, *near)])  # tone, line
    quarters = 2, 2, n // 2, 2, n // 2
    shared, total = (x.sum(1).reshape(quarters).sum((2, 4)) for x in (2 * d * p, d * d + p * p))
    whole = shared.sum((1, 2)) / (total.sum((1, 2)) + 1)
    part = min((shared.sum(i) / (total.sum(i) + 1)).mean(0).min() for i in (1, 2))
    return _Match(float(whole.mean()), float(part), *CANDIDATES[number], size, (row, column))


TENT = {  # weights along a window as wide as a thing: the middle counts twice as much as the edge
    size: tuple(span * CELL - abs(x) for x in range(-reach, reach + 1))
    for size, span in SPAN.items()
    if (reach := span * CELL // 2 + MARGIN)
}


def _densest(changed: np.ndarray, size: str) -> tuple[int, int]:
    """(row, column) of the middle of the window that holds most change."""
    held = _blur(changed, *TENT[size])
    row, column = np.unravel_index(held.argmax(), held.shape)
    return int(row), int(column)


def _match_things(image: np.ndarray, place: str) -> list[list[_Match]]:
    """What may stand in a softened picture, 3 SIDE SIDE: three kinds a thing, best first."""
    ground, looks = _place(place)
    changed = (np.abs(image - looks).max(1).min(0) > MIN_CHANGE).astype(np.float32)
    change = (image - ground) * changed
    change = np.concatenate([change, (change * ground).sum(0, keepdims=True)])
    around = (0, 0), (PAD, PAD), (PAD, PAD)
    change, changed = np.pad(change, around), np.pad(changed, PAD)
    ground = np.pad(ground, around, mode="edge")
    half = SPAN["small"] * CELL // 2
    things = []
    while len(things) < 6:  # more than the world ever shows; noise could go on for long
        spots = {size: _densest(changed, size) for size in SIZES}
        rows, columns = (slice(max(c - half, 0), c + half) for c in spots["small"])
        if changed[rows, columns].sum() < MIN_CHANGED_PIXELS:
            break
        _, size, likeliest = max(_search(change, place, spots[size], size) for size in SIZES)
        things.append(sorted((_inspect(change, ground, size, *c) for c in likeliest), reverse=True))
        row, column = things[-1][0].corner
        n = SPAN[size] * CELL + 2 * MARGIN
        change[:, row : row + n, column : column + n] = 0
        changed[row : row + n, column : column + n] = 0
    return things


# --- Reading --------------------------------------------------------------------------------------


def _square(image: np.ndarray) -> np.ndarray:
    """Any square picture, brought to SIDE pixels and softened: float32 3 SIDE SIDE."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape != (len(image), len(image), 3):
        raise MinidalleError(
            f"the judge reads square uint8 pictures, S × S × 3; this one is {image.dtype} of shape"
            f" {image.shape}"
        )
    if len(image) != SIDE:
        image = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return _soften(image)


def _name(guesses: list[_Match]) -> tuple[Found, str | None]:
    """Name a thing from its likeliest kinds, or say why it has no name."""
    best, other = guesses[:2]
    if best.match < MIN_MATCH:
        why = f"looks like no known thing (best: {best.kind}, match {best.match:.2f})"
    elif best.part < MIN_HALF_MATCH:
        why = f"is only partly a {best.kind} (worst half: match {best.part:.2f})"
    elif best.match - other.match < MIN_LEAD:
        pair = f"a {best.kind} or a {other.kind}"
        why = f"may be {pair} (match {best.match:.2f} and {other.match:.2f})"
    else:
        return Found(Thing(best.kind, best.colour, best.size), best.centre, best.match), None
    x, y = best.centre
    return Found(None, best.centre, best.match), f"something at ({x:.1f}, {y:.1f}) {why}"


def _relation(a: Found, b: Found) -> str | None:
    """How a stands to b, from their centres; y points down."""
    right, down = b.centre[0] - a.centre[0], b.centre[1] - a.centre[1]
    if abs(down) < MIN_SEPARATION:
        return "left of" if right >= MIN_SEPARATION else None
    if abs(right) < MIN_SEPARATION:
        return "above" if down > 0 else None
    return "playing with" if down < 0 else None  # the player stands below, the toy flies


def read(image: np.ndarray) -> Reading:
    """Read a picture (uint8 S S 3) back into facts."""
    soft = _square(image)
    place, share = _which_place(soft)
    if share < MIN_BACKDROP_AGREEMENT:
        return Reading(None, (), (f"no known place (best: {place}, {share:.0%} of it)",), None)
    named = sorted((_name(g) for g in _match_things(soft, place)), key=lambda n: n[0].centre)
    found, problems = [f for f, _ in named], [why for _, why in named if why]
    kinds, relation = len({f.thing for f in found}), None
    if not 1 <= len(found) <= 3:
        problems.append(f"{len(found)} things")
    elif len(found) == 3 and kinds > 1 and not problems:
        problems.append("three things that are not equal")
    elif kinds == 2 and not problems:
        orders = (found, found[::-1])
        relation, found = next(((r, o) for o in orders if (r := _relation(*o))), (None, found))
        problems += [] if relation else ["two things too close to stand in a relation"]
    facts = None if problems else Facts(tuple(f.thing for f in found), relation, place)
    return Reading(facts, tuple(found), tuple(problems), place)


# --- Judging --------------------------------------------------------------------------------------


def score(image: np.ndarray, caption: str | Facts) -> Verdict:
    """Does a picture (uint8 S S 3) show all that its caption states, and no other thing?"""
    asked = parse(caption) if isinstance(caption, str) else caption
    reading = read(image)
    found = reading.found
    things = [f.thing for f in found]
    verdict = _verdict(asked, things, reading.place, lambda i, j: _relation(found[i], found[j]))
    if reading.place is None:  # nothing was looked for: say so, and not that nothing is there
        verdict = replace(verdict, reasons=reading.problems)
    return verdict


def holds(asked: Facts, found: Facts) -> Verdict:
    """Do complete facts fulfil what is asked? Whatever `asked` leaves None is free."""
    relation = {(0, 1): found.relation}
    return _verdict(asked, found.things, found.place, lambda i, j: relation.get((i, j)))


def _verdict(asked: Facts, things, place: str | None, relation: Callable) -> Verdict:
    """Compare fact by fact. relation(i, j): how things[i] stands to things[j].

    Asked things are paired with found ones so that most facts hold. One that is left without a
    partner is held against the found thing most like it: two red cars for three are wrong by their
    count alone. An unreadable thing (None) counts as a thing, and is like no other.
    """
    partners = list(things) or [None]

    def wrong(field: str, pairing) -> list[tuple[str, str]]:
        """(asked, found) wherever a stated field of a thing is not as asked."""
        both = [
            (getattr(thing, field), partners[j])
            for thing, j in zip(asked.things, pairing, strict=True)
        ]
        both = [(a, getattr(f, field, "something unreadable")) for a, f in both if a]
        return [(a, f) for a, f in both if a != f]

    def cost(pairing) -> tuple:
        """First as many partners as there are, then few wrong facts, above all few wrong kinds."""
        faults = [len(wrong(field, pairing)) for field in FIELDS]
        partnered = len(set(pairing))
        apart = partnered == len(asked.things) == 2 and relation(*pairing) != asked.relation
        return -partnered, sum(faults), faults[0], apart

    pairing = min(product(range(len(partners)), repeat=len(asked.things)), key=cost)
    facts, reasons = {}, []

    def state(fact: str, is_right: bool, want: object, have: object) -> None:
        facts[fact] = is_right
        if not is_right:
            reasons.append(f"{fact}: asked for {want}, found {have}")

    if asked.place:
        state("place", place == asked.place, asked.place, place or "no known place")
    state("count", len(things) == len(asked.things), len(asked.things), len(things))
    for field in FIELDS:
        if any(getattr(thing, field) for thing in asked.things):
            faults = wrong(field, pairing)
            want, have = (" and ".join(dict.fromkeys(f[i] for f in faults)) for i in (0, 1))
            state(field, not faults, want, have if things else "nothing")
    if asked.relation:
        a, b = (thing.kind for thing in asked.things)
        there = back = None
        if len(set(pairing)) == 2:
            there, back = relation(*pairing), relation(*pairing[::-1])
        have = f"{a} {there} {b}" if there else f"{b} {back} {a}" if back else "neither"
        state("relation", there == asked.relation, f"{a} {asked.relation} {b}", have)
    return Verdict(not reasons, facts, tuple(reasons))
