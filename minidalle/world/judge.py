"""The judge: reads a picture back into facts, so a program can check it against its caption.

Nothing is learned. The judge has the drawings and backdrops, and matches a picture with them
(`matching`):

1. Find the place: the backdrop that agrees with most pixels.
2. Find the change: the pixels that no backdrop of the place explains.
3. Where enough has changed, find the drawing, colour and corner that explain most of the change.
4. Compare it closely; remove it, and search again, until too few changed pixels are left.

A shape that a person could not name matches no drawing and is unreadable.

    >>> book = Storybook()
    >>> score(book.image("validation", 7), book.caption("validation", 7)).right
    True
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
from PIL import Image

from minidalle.errors import MinidalleError
from minidalle.world.backdrops import BACKDROPS, CELL, SIDE, Backdrop
from minidalle.world.captions import parse
from minidalle.world.facts import SIZES, Facts, Thing
from minidalle.world.layouts import SPAN, relate
from minidalle.world.matching import (
    BLURS,
    INSIDE,
    REACH,
    Match,
    Pose,
    blur,
    compare,
    corners,
    find_rival,
    search,
    soft_backdrop,
    spread,
    window,
)
from minidalle.world.paints import nearest_colour, nearest_shade

# Each threshold lies between the values of sound pictures once degraded (blur, noise, shift,
# wobble, tint) and those of ruined ones (halved, smeared, shuffled): `train` and `validation` of
# the storybook's seed 2021, which is used for nothing else.
MIN_CHANGE = 24  # grey levels, 0 … 255, by which some channel of a changed pixel differs
MIN_BACKDROP_AGREEMENT = 0.4  # share of pixels, 0 … 1; things cover 0.5 of a picture at most
MIN_CHANGED_SHARE = 0.1  # of the pixels of a window, 0 … 1
MIN_MATCH = 0.8  # of a thing, 0 … 1
MIN_HALF_MATCH = 0.72  # of each half of a thing (left, right, upper, lower), 0 … 1
MIN_LEAD = 0.65  # of the best kind over each other one (`matching.find_rival`), 0.5 … 1
FIELDS = ("kind", "colour", "size")


@dataclass(frozen=True)
class Found:
    """A thing found in a picture."""

    thing: Thing | None  # None: unreadable
    centre: tuple[float, float]  # x, y in cells
    match: float  # 0 … 1
    pose: Pose  # the drawing, mirrored or not
    shade: int  # 0 … 2, the nearest of the shades of its colour


@dataclass(frozen=True)
class Reading:
    """The contents of a picture."""

    facts: Facts | None  # complete; None if there are problems
    found: tuple[Found, ...]
    problems: tuple[str, ...]  # the reasons why there are no facts
    backdrop: Backdrop | None  # None: no known place

    @property
    def place(self) -> str | None:
        """The place; None: no known one."""
        return self.backdrop.place if self.backdrop else None


@dataclass(frozen=True)
class Verdict:
    """Whether a picture shows its caption."""

    right: bool
    facts: dict[str, bool]  # for each stated fact, whether it is right
    reasons: tuple[str, ...]  # one line per wrong fact


# --- Reading --------------------------------------------------------------------------------------


def _prepare(image: np.ndarray) -> np.ndarray:
    """Any square picture, resized to SIDE pixels: float32 3 SIDE SIDE."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape != (len(image), len(image), 3):
        raise MinidalleError(
            f"the judge reads square uint8 pictures, S × S × 3, got {image.dtype} of shape"
            f" {image.shape}; convert the picture first"
        )
    if len(image) != SIDE:
        image = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX))
    return image.transpose(2, 0, 1).astype(np.float32)


@cache
def _thumbnails() -> np.ndarray:
    """Every fourth column of every backdrop: 108 3 SIDE SIDE/4."""
    return np.stack([soft_backdrop(b)[..., 1::CELL] for b in BACKDROPS])


def _variants(backdrop: Backdrop, level: int) -> np.ndarray:
    """A backdrop shifted by up to one pixel each way, the other layouts and horizons under its
    sky, and the plain colours of its rows: n 3 SIDE SIDE. Where a picture looks like one of these,
    no thing is meant."""
    image = soft_backdrop(backdrop, level)
    wide = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    views = [wide[:, y : y + SIDE, x : x + SIDE] for y in range(3) for x in range(3)]
    views += [
        soft_backdrop(other, level)
        for other in BACKDROPS
        if (other.place, other.sky) == (backdrop.place, backdrop.sky)
    ]
    views.append(np.broadcast_to(np.median(image, 2, keepdims=True), image.shape))
    return np.stack(views)


def _find_backdrop(picture: np.ndarray) -> tuple[Backdrop, float]:
    """The backdrop nearest to a picture, 3 SIDE SIDE, and the share of pixels that agree with it.
    Tests every fourth column."""
    soft = blur(picture, *BLURS[0])[..., 1::CELL]
    apart = np.minimum(np.abs(soft - _thumbnails()).max(1), MIN_CHANGE).mean((1, 2))
    best = int(apart.argmin())
    near = np.abs(soft - _thumbnails()[best]).max(0) < MIN_CHANGE
    return BACKDROPS[best], float(near.mean())


def _match_things(picture: np.ndarray, backdrop: Backdrop) -> list[tuple[Match, float, Pose]]:
    """The things in a picture, 3 SIDE SIDE: for each the best match, its lead over the
    kind nearest to it, and that one."""
    canvas = spread(picture, backdrop, MIN_CHANGE)
    change, ground = canvas.change[INSIDE], canvas.ground[INSIDE]
    changed = (np.abs(change).max(0) > MIN_CHANGE).astype(np.float32)
    apart = np.abs(change + ground - _variants(backdrop, canvas.blur))
    misplaced = apart.max(1).min(0) <= MIN_CHANGE
    things: list[tuple[Match, float, Pose]] = []
    for _ in range(12):
        allowed = {size: corners(changed, size, MIN_CHANGED_SHARE) for size in SIZES}
        if len(things) == 6 or not allowed["small"].any():  # the world shows 4 things at most
            break
        size, spot, poses = search(canvas, allowed)
        best = max(compare(canvas, size, spot, pose) for pose in poses[:4])
        x, y = (at - REACH for at in best.spot)
        width = SPAN[best.size] * CELL
        here = np.s_[max(0, y - 1) : y + width + 1, max(0, x - 1) : x + width + 1]
        is_detail = (misplaced[here] >= changed[here]).mean() > 0.95
        if best.match > 0.9 or not is_detail:  # not just a cloud in another place
            things.append((best, *find_rival(canvas, best)))
        changed[here] = 0
        canvas.change[window(best.size, best.spot)] = 0
    return things


def _identify(best: Match, lead: float, rival: Pose) -> tuple[Found, str | None]:
    """Name a thing by its best match, or state why it is unreadable."""
    colour = nearest_colour(best.colour)
    half = SPAN[best.size] / 2
    x, y = ((at - REACH) / CELL + half for at in best.spot)
    kind = best.pose.kind
    problem = None
    if best.match < MIN_MATCH:
        problem = f"looks like no known thing (best: {kind}, match {best.match:.2f})"
    elif best.half_match < MIN_HALF_MATCH:
        problem = f"is only partly a {kind} (worst half: match {best.half_match:.2f})"
    elif lead < MIN_LEAD:
        problem = f"may be a {kind} or a {rival.kind} (lead {lead:.2f})"
    thing = None if problem else Thing(kind, colour, best.size)
    found = Found(thing, (x, y), best.match, best.pose, nearest_shade(colour, best.colour))
    return found, problem and f"something at ({x:.1f}, {y:.1f}) {problem}"


def read(image: np.ndarray) -> Reading:
    """Read a picture (uint8 S S 3) back into facts."""
    picture = _prepare(image)
    backdrop, share = _find_backdrop(picture)
    if share < MIN_BACKDROP_AGREEMENT:
        problem = f"no known place (best: {backdrop.place}, {share:.0%} of it)"
        return Reading(None, (), (problem,), None)
    identified = [_identify(*matches) for matches in _match_things(picture, backdrop)]
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
    facts = None if problems else Facts(things, relation, backdrop.place)
    return Reading(facts, tuple(found), tuple(problems), backdrop)


def _relate(a: Found, b: Found) -> str | None:
    """The relation of a to b."""
    return relate(a.centre, b.centre)


# --- Judging --------------------------------------------------------------------------------------


def score(image: np.ndarray, caption: str | Facts) -> Verdict:
    """Whether a picture (uint8 S S 3) shows all that its caption states, and no other thing."""
    return compare_reading(read(image), caption)


def compare_reading(reading: Reading, caption: str | Facts) -> Verdict:
    """The verdict on a picture that has been read."""
    asked = parse(caption) if isinstance(caption, str) else caption
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
