"""The judge: reads a picture back into facts, so a program can check it against its caption.

Nothing is learned. The judge has the palette and the drawings, and matches a picture with them:

1. Find the place: the backdrop that agrees with most pixels.
2. Find the change: the pixels that the backdrop nearby does not explain.
3. Search where most pixels have changed, with every thing in every colour and both sizes.
4. Remove the best match and search again, until too few changed pixels are left for a thing.

A thing of colours s and coverage a, pasted on a backdrop b, changes it by p = a (s - b). The
picture's change in the same window is d. Their similarity is Dice's coefficient:

    similarity = 2 <d, p> / (<d, d> + <p, p>)          1: equal; 0: nothing in common

It is computed for the change itself (*tone*: mass and colour) and for the change minus its mean
over the 9 × 9 pixels around (*line*: outlines, eyes, panels). `match` is the mean of the two. Both
picture and drawings are blurred slightly first, since a model draws soft and ragged edges that a
person would accept. A shape that a person could not name matches no drawing and is unreadable.

    >>> book = Storybook()
    >>> score(book.image("validation", 7), book.caption("validation", 7)).right
    True
"""

from collections.abc import Callable, Sequence
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

SIDE = 48  # pixels; every picture is resized to this width first
CELL = SIDE // CELLS  # pixels across a cell
MARGIN = 2  # pixels around a drawing that are compared too, since its blurred edge reaches them
REACH = 6  # pixels between the spot with most change and a thing, at most
PAD = 10  # pixels around the picture, for windows that extend beyond its edge
STRIDE = {"small": 2, "big": 3}  # the search compares every second or third pixel

# Each threshold lies between the values of sound `train` pictures once degraded (blur, noise,
# shift, wobble, tint) and those of ruined ones (halved, smeared, shuffled).
# tests/benchmarks/judge.py prints both. No other split was used.
MIN_CHANGE = 24  # grey levels, 0 … 255, by which some channel of a changed pixel differs
MIN_BACKDROP_AGREEMENT = 0.45  # share of pixels, 0 … 1; things cover 0.42 of a picture at most
MIN_CHANGED_PIXELS = 40  # in the square of a small thing
MIN_MATCH = 0.72  # of a thing, 0 … 1
MIN_HALF_MATCH = 0.6  # of each half of a thing (left, right, upper, lower), 0 … 1
MIN_LEAD = 0.03  # match of the best kind minus that of the second
MIN_SEPARATION = 3.0  # cells; the centres of two things are 0 (in line), 6 or 7 (apart) apart
FIELDS = ("kind", "colour", "size")


@dataclass(frozen=True)
class Found:
    """A thing found in a picture."""

    thing: Thing | None  # None: unreadable
    centre: tuple[float, float]  # x, y in cells
    match: float  # 0 … 1


@dataclass(frozen=True)
class Reading:
    """The contents of a picture."""

    facts: Facts | None  # complete; None if there are problems
    found: tuple[Found, ...]
    problems: tuple[str, ...]  # the reasons why there are no facts
    place: str | None  # None: no known place


@dataclass(frozen=True)
class Verdict:
    """Whether a picture shows its caption."""

    right: bool
    facts: dict[str, bool]  # for each stated fact, whether it is right
    reasons: tuple[str, ...]  # one line per wrong fact


# --- Places and things, blurred -------------------------------------------------------------------


@lru_cache
def _blur_matrix(n: int, *weights: int) -> np.ndarray:
    """n n: multiplying a line of n pixels by this matrix takes their weighted mean."""
    matrix, reach = np.zeros((n, n), np.float32), len(weights) // 2
    for shift, weight in enumerate(weights, -reach):
        at = np.clip(np.arange(n) + shift, 0, n - 1)
        np.add.at(matrix, (np.arange(n), at), weight / sum(weights))
    return matrix


def _blur(image: np.ndarray, *weights: int) -> np.ndarray:
    """… H W, averaged along H and W."""
    return (
        _blur_matrix(image.shape[-2], *weights) @ image @ _blur_matrix(image.shape[-1], *weights).T
    )


def _soften(image: np.ndarray) -> np.ndarray:
    """uint8 H W C to float32 C H W, blurred with σ = 1 pixel."""
    return _blur(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32), 1, 4, 6, 4, 1)


@lru_cache
def _blur_place(name: str) -> tuple[np.ndarray, np.ndarray]:
    """An empty place (3 SIDE SIDE), and its accepted variants (10 3 SIDE SIDE).

    The variants are the place shifted by up to one pixel each way, and the median colour of each
    row. With them, neither a ragged horizon nor a missing cloud looks like a thing.
    """
    image = _soften(backdrop(name, SIDE))
    wide = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    shifted = [wide[:, y : y + SIDE, x : x + SIDE] for y in range(3) for x in range(3)]
    plain = np.broadcast_to(np.median(image, 2, keepdims=True), image.shape)
    return image, np.stack([*shifted, plain])


CANDIDATES = [(kind, colour) for kind in KINDS for colour in COLOURS]  # 160


@lru_cache
def _blur_drawings(size: str) -> tuple[np.ndarray, np.ndarray]:
    """Of every candidate, coverage times colour, a s (160 3 n n), and coverage, a (160 1 n n)."""
    paint, cover = [], []
    for kind, colour in CANDIDATES:
        drawn = np.pad(
            sprite(kind, colour, SPAN[size] * CELL), ((MARGIN,) * 2, (MARGIN,) * 2, (0, 0))
        )
        alpha = drawn[..., 3:] / 255
        paint.append(_soften(drawn[..., :3] * alpha))
        cover.append(_soften(alpha))
    return np.stack(paint), np.stack(cover)


def _cut_windows(canvas: np.ndarray, size: str) -> np.ndarray:
    """C H W to Y X C m m: every STRIDE-th pixel of the window with its corner at (Y, X)."""
    n, step = _blur_drawings(size)[0].shape[-1], STRIDE[size]
    view = sliding_window_view(canvas, (n, n), (1, 2))[..., ::step, ::step]
    return view.transpose(1, 2, 0, 3, 4)


@lru_cache
def _build_search_matrix(size: str) -> np.ndarray:
    """The matrix from (d, d b) to <d, p> = <d, a s> - <d b, a>, for all 160 candidates at once."""
    paint, cover = (x[..., :: STRIDE[size], :: STRIDE[size]] for x in _blur_drawings(size))
    return np.ascontiguousarray(np.concatenate([paint, -cover], 1).reshape(len(CANDIDATES), -1).T)


@lru_cache
def _sum_squares(size: str, place: str) -> np.ndarray:
    """<p, p> = <a s - a b, a s - a b> of every corner and candidate, Y X 160."""
    ground = np.pad(_blur_place(place)[0], ((0, 0), (PAD, PAD), (PAD, PAD)), mode="edge")
    paint, cover = (x[..., :: STRIDE[size], :: STRIDE[size]] for x in _blur_drawings(size))
    matrix = np.concatenate([-2 * cover * paint, cover**2], 1).reshape(len(CANDIDATES), -1).T
    seen = _cut_windows(np.concatenate([ground, (ground**2).sum(0, keepdims=True)]), size)
    return seen.reshape(*seen.shape[:2], -1) @ matrix + (paint**2).sum((1, 2, 3))


# --- Matching -------------------------------------------------------------------------------------


class _Match(NamedTuple):
    """A candidate compared with one window of the picture."""

    match: float  # 0 … 1
    half_match: float  # 0 … 1, of the worst half
    kind: str
    colour: str
    size: str
    corner: tuple[int, int]  # row and column of the window on the padded canvas

    @property
    def centre(self) -> tuple[float, float]:
        """x, y in cells."""
        row, column = ((c - PAD + MARGIN) / CELL + SPAN[self.size] / 2 for c in self.corner)
        return column, row


def _find_place(image: np.ndarray) -> tuple[str, float]:
    """The place that most pixels agree with, and their share. Tests every fourth pixel."""
    seen = image[:, ::2, ::2]
    shares = {
        name: float((np.abs(seen - _blur_place(name)[0][:, ::2, ::2]).max(0) < MIN_CHANGE).mean())
        for name in PLACES
    }
    best = max(shares, key=lambda name: shares[name])
    return best, shares[best]


def _search(
    change: np.ndarray, place: str, spot: tuple[int, int], size: str
) -> tuple[float, str, list[tuple[int, int, int]]]:
    """The coarse search: the best similarity around a spot, the size, and the three best kinds.

    Args:
        change: 4 H W: the change d (3 channels), and d b summed over the colours.
        spot: row and column at which the search begins.

    Each of the three kinds is (index in CANDIDATES, row and column of the window's corner).
    """
    windows, squares = _cut_windows(change, size), _sum_squares(size, place)
    n = _blur_drawings(size)[0].shape[-1]
    edge = n // 2 + REACH + 1
    row, column = (int(np.clip(x, edge, change.shape[-1] - edge)) - n // 2 for x in spot)
    for step, reach in ((3, REACH), (1, 1)):  # every third corner, then those next to the best
        top, left = row - reach, column - reach
        here = np.s_[top : row + reach + 1 : step, left : column + reach + 1 : step]
        seen = windows[here]  # Y X 4 m m
        product = seen.reshape(*seen.shape[:2], -1) @ _build_search_matrix(size)  # <d, p>, Y X 160
        own = (seen[:, :, :3] ** 2).sum((2, 3, 4))[..., None]  # <d, d>, Y X 1
        similarity = 2 * product / (own + squares[here] + 1)  # + 1: never 0 / 0
        y, x, _ = np.unravel_index(similarity.argmax(), similarity.shape)
        row, column = top + step * int(y), left + step * int(x)
    by_kind = similarity.reshape(*similarity.shape[:2], len(KINDS), len(COLOURS))
    by_kind = by_kind.transpose(2, 0, 1, 3)
    likeliest = []
    for kind in np.argsort(-by_kind.max((1, 2, 3)))[:3]:
        y, x, colour = np.unravel_index(by_kind[kind].argmax(), by_kind[kind].shape)
        likeliest.append((int(kind * len(COLOURS) + colour), top + int(y), left + int(x)))
    return float(similarity.max()), size, likeliest


def _compare(
    change: np.ndarray, ground: np.ndarray, size: str, index: int, row: int, column: int
) -> _Match:
    """The fine comparison of one candidate at every pixel: tone and line, whole and halves."""
    paint, cover = (x[index] for x in _blur_drawings(size))
    n = paint.shape[-1]
    here = np.s_[:, row : row + n, column : column + n]
    d, p = change[:3][here], paint - cover * ground[here]  # 3 n n
    near = (1,) * 9
    d, p = np.stack([d, d - _blur(d, *near)]), np.stack([p, p - _blur(p, *near)])  # tone, line
    quarters = 2, 2, n // 2, 2, n // 2
    shared, total = (x.sum(1).reshape(quarters).sum((2, 4)) for x in (2 * d * p, d * d + p * p))
    whole = shared.sum((1, 2)) / (total.sum((1, 2)) + 1)
    half = min((shared.sum(i) / (total.sum(i) + 1)).mean(0).min() for i in (1, 2))
    return _Match(float(whole.mean()), float(half), *CANDIDATES[index], size, (row, column))


TENT = {  # a tent filter as wide as a thing: the middle weighs about twice as much as the edge
    size: tuple(span * CELL - abs(x) for x in range(-reach, reach + 1))
    for size, span in SPAN.items()
    if (reach := span * CELL // 2 + MARGIN)
}


def _find_densest(changed: np.ndarray, size: str) -> tuple[int, int]:
    """Row and column of the centre of the window with most changed pixels."""
    density = _blur(changed, *TENT[size])
    row, column = np.unravel_index(density.argmax(), density.shape)
    return int(row), int(column)


def _match_things(image: np.ndarray, place: str) -> list[list[_Match]]:
    """The things in a blurred picture, 3 SIDE SIDE: three matches per thing, best first."""
    ground, variants = _blur_place(place)
    changed = (np.abs(image - variants).max(1).min(0) > MIN_CHANGE).astype(np.float32)
    change = (image - ground) * changed
    change = np.concatenate([change, (change * ground).sum(0, keepdims=True)])
    around = (0, 0), (PAD, PAD), (PAD, PAD)
    change, changed = np.pad(change, around), np.pad(changed, PAD)
    ground = np.pad(ground, around, mode="edge")
    half = SPAN["small"] * CELL // 2
    things: list[list[_Match]] = []
    while len(things) < 6:  # the world shows 4 at most; noise would match many more
        spots = {size: _find_densest(changed, size) for size in SIZES}
        rows, columns = (slice(max(c - half, 0), c + half) for c in spots["small"])
        if changed[rows, columns].sum() < MIN_CHANGED_PIXELS:
            break
        _, size, likeliest = max(_search(change, place, spots[size], size) for size in SIZES)
        things.append(sorted((_compare(change, ground, size, *c) for c in likeliest), reverse=True))
        row, column = things[-1][0].corner
        n = SPAN[size] * CELL + 2 * MARGIN
        change[:, row : row + n, column : column + n] = 0
        changed[row : row + n, column : column + n] = 0
    return things


# --- Reading --------------------------------------------------------------------------------------


def _prepare(image: np.ndarray) -> np.ndarray:
    """Any square picture, resized to SIDE pixels and blurred: float32 3 SIDE SIDE."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape != (len(image), len(image), 3):
        raise MinidalleError(
            f"the judge reads square uint8 pictures, S × S × 3, got {image.dtype} of shape"
            f" {image.shape}; convert the picture first"
        )
    if len(image) != SIDE:
        image = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return _soften(image)


def _identify(matches: list[_Match]) -> tuple[Found, str | None]:
    """Name a thing by its best match, or state why it is unreadable."""
    best, second = matches[:2]
    if best.match < MIN_MATCH:
        problem = f"looks like no known thing (best: {best.kind}, match {best.match:.2f})"
    elif best.half_match < MIN_HALF_MATCH:
        problem = f"is only partly a {best.kind} (worst half: match {best.half_match:.2f})"
    elif best.match - second.match < MIN_LEAD:
        pair = f"a {best.kind} or a {second.kind}"
        problem = f"may be {pair} (match {best.match:.2f} and {second.match:.2f})"
    else:
        return Found(Thing(best.kind, best.colour, best.size), best.centre, best.match), None
    x, y = best.centre
    return Found(None, best.centre, best.match), f"something at ({x:.1f}, {y:.1f}) {problem}"


def _relate(a: Found, b: Found) -> str | None:
    """The relation of a to b, from their centres; y points down."""
    right, down = b.centre[0] - a.centre[0], b.centre[1] - a.centre[1]
    if abs(down) < MIN_SEPARATION:
        return "left of" if right >= MIN_SEPARATION else None
    if abs(right) < MIN_SEPARATION:
        return "above" if down > 0 else None
    return "playing with" if down < 0 else None  # the player is below, the toy in the air


def read(image: np.ndarray) -> Reading:
    """Read a picture (uint8 S S 3) back into facts."""
    soft = _prepare(image)
    place, share = _find_place(soft)
    if share < MIN_BACKDROP_AGREEMENT:
        return Reading(None, (), (f"no known place (best: {place}, {share:.0%} of it)",), None)
    identified = [_identify(matches) for matches in _match_things(soft, place)]
    identified.sort(key=lambda pair: pair[0].centre)
    found, problems = [f for f, _ in identified], [p for _, p in identified if p]
    distinct, relation = len({f.thing for f in found}), None
    if not 1 <= len(found) <= 3:
        problems.append(f"{len(found)} things")
    elif len(found) == 3 and distinct > 1 and not problems:
        problems.append("three things that are not equal")
    elif distinct == 2 and not problems:
        orders = (found, found[::-1])
        relation, found = next(((r, o) for o in orders if (r := _relate(*o))), (None, found))
        problems += [] if relation else ["two things too close to stand in a relation"]
    things = tuple(f.thing for f in found if f.thing)  # all of them, unless there are problems
    facts = None if problems else Facts(things, relation, place)
    return Reading(facts, tuple(found), tuple(problems), place)


# --- Judging --------------------------------------------------------------------------------------


def score(image: np.ndarray, caption: str | Facts) -> Verdict:
    """Whether a picture (uint8 S S 3) shows all that its caption states, and no other thing."""
    asked = parse(caption) if isinstance(caption, str) else caption
    reading = read(image)
    found = reading.found
    things = [f.thing for f in found]
    verdict = _compare_facts(asked, things, reading.place, lambda i, j: _relate(found[i], found[j]))
    if reading.place is None:  # there was no search, so "found nothing" would be untrue
        verdict = replace(verdict, reasons=reading.problems)
    return verdict


def holds(asked: Facts, found: Facts) -> Verdict:
    """Whether complete facts agree with `asked`, whose None fields accept any value."""
    relation = {(0, 1): found.relation}
    return _compare_facts(asked, found.things, found.place, lambda i, j: relation.get((i, j)))


def _compare_facts(
    asked: Facts,
    things: Sequence[Thing | None],
    place: str | None,
    relation: Callable[[int, int], str | None],
) -> Verdict:
    """Compare fact by fact. relation(i, j) is the relation of things[i] to things[j].

    Asked things are paired with found ones so that most facts agree. An asked thing without a
    partner is compared with the most similar found one: two red cars instead of three are wrong
    only in their count. An unreadable thing (None) is counted and equals no other.
    """
    partners = list(things) or [None]

    def list_wrong(field: str, pairing: Sequence[int]) -> list[tuple[str, str]]:
        """(asked, found) for each thing whose stated field differs."""
        wrong = []
        for thing, j in zip(asked.things, pairing, strict=True):
            want = getattr(thing, field)
            have = getattr(partners[j], field, "something unreadable")
            if want and want != have:
                wrong.append((want, have))
        return wrong

    def cost(pairing: tuple[int, ...]) -> tuple[int, int, int, bool]:
        """Most partners first, then fewest wrong facts, then fewest wrong kinds."""
        faults = [len(list_wrong(field, pairing)) for field in FIELDS]
        partnered = len(set(pairing))
        apart = partnered == len(asked.things) == 2 and relation(*pairing) != asked.relation
        return -partnered, sum(faults), faults[0], apart

    pairing = min(product(range(len(partners)), repeat=len(asked.things)), key=cost)
    facts: dict[str, bool] = {}
    reasons: list[str] = []

    def record(fact: str, is_right: bool, want: object, have: object) -> None:
        facts[fact] = is_right
        if not is_right:
            reasons.append(f"{fact}: asked for {want}, found {have}")

    if asked.place:
        record("place", place == asked.place, asked.place, place or "no known place")
    record("count", len(things) == len(asked.things), len(asked.things), len(things))
    for field in FIELDS:
        if any(getattr(thing, field) for thing in asked.things):
            faults = list_wrong(field, pairing)
            want, have = (" and ".join(dict.fromkeys(f[i] for f in faults)) for i in (0, 1))
            record(field, not faults, want, have if things else "nothing")
    if asked.relation:
        a, b = (thing.kind for thing in asked.things)
        there = back = None
        if len(set(pairing)) == 2:
            there, back = relation(*pairing), relation(*pairing[::-1])
        have = f"{a} {there} {b}" if there else f"{b} {back} {a}" if back else "neither"
        record("relation", there == asked.relation, f"{a} {asked.relation} {b}", have)
    return Verdict(not reasons, facts, tuple(reasons))
