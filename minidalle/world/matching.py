"""Matching: which drawing, in which colour, explains a part of a picture best.

Nothing is learned. A drawing of kind, size and pose, pasted in colour c on a backdrop g, changes it
by

    p(c) = A c + B − a g        A: weight of the thing's colour in each pixel (shadows less than 1)
                                B: pixels with a colour of their own (eyes, windows); a: coverage

which is linear in c, so the best colour for a picture's change r = x − g has a closed form, and
with it the gain: how much of the change the drawing explains,

    gain = |r|² − |r − p|² = 2 <r, p> − |p|²

The search takes the drawing with the highest gain, weighted by the share of the change that it
explains. How well a drawing matches is Dice's coefficient

    match = 2 <r, p> / (|r|² + |p|²)                1: equal; 0: nothing in common

It is computed for the change itself (*tone*: mass and colour) and for the change minus its mean
over the 9 × 9 pixels around (*line*: outlines, eyes, panels), and averaged. Pictures are blurred
slightly first, and drawings slightly or more, since a model draws soft and ragged edges that a
person would accept.
"""

from functools import cache
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minidalle.world.backdrops import CELL, Backdrop, paint_backdrop
from minidalle.world.brush import CLEAR, EYE, STRIPE, palette
from minidalle.world.facts import KINDS, SIZES
from minidalle.world.layouts import CELLS, SPAN
from minidalle.world.sprites import DRAWINGS, is_symmetric, roles

STRIDE = 2  # the search compares every second pixel, across and down
BLURS = tuple(tuple(comb(n, i) for i in range(n + 1)) for n in (4, 8, 12))  # σ = ½√n pixels
WIDE = (1,) * 9
REACH = 2  # pixels by which a thing may stand off the lattice
INSIDE = np.s_[:, REACH:-REACH, REACH:-REACH]  # the picture on a canvas, without its margin
Spot = tuple[int, int]  # x, y of a thing's upper left pixel on a canvas


class Pose(NamedTuple):
    """One way of drawing a kind."""

    kind: str
    drawing: int
    mirrored: bool
    bright: bool  # with the stripes of a white thing


class Match(NamedTuple):
    """A drawing compared with one window of a picture."""

    match: float  # 0 … 1
    half_match: float  # 0 … 1, of the worst half
    pose: Pose
    size: str
    colour: tuple[int, int, int]  # the RGB value that fits best
    spot: Spot
    blur: int  # index of the one of BLURS that fits best


class Canvas(NamedTuple):
    """A picture to match, 3 W W, with a margin of REACH pixels around it."""

    change: np.ndarray  # the picture minus its backdrop
    ground: np.ndarray  # the backdrop, as soft as the picture's own
    blur: int  # index of the one of BLURS that the backdrop has


POSES = tuple(
    Pose(kind, drawing, mirrored, bright)
    for kind in KINDS
    for drawing in range(len(DRAWINGS[kind]))
    for mirrored in ((False,) if is_symmetric(kind, drawing) else (False, True))
    for bright in ((False, True) if STRIPE in roles(kind, drawing, False, 48) else (False,))
)

_BRIGHT = np.array([pose.bright for pose in POSES])
_STRIPED = np.array([STRIPE in roles(pose.kind, pose.drawing, False, 48) for pose in POSES])


@cache
def _blur_matrix(n: int, *weights: int) -> np.ndarray:
    """n n: multiplying a line of n pixels by this matrix takes their weighted mean."""
    matrix, reach = np.zeros((n, n), np.float32), len(weights) // 2
    for shift, weight in enumerate(weights, -reach):
        at = np.clip(np.arange(n) + shift, 0, n - 1)
        np.add.at(matrix, (np.arange(n), at), weight / sum(weights))
    return matrix


def blur(image: np.ndarray, *weights: int) -> np.ndarray:
    """… H W, averaged along H and W."""
    return (
        _blur_matrix(image.shape[-2], *weights) @ image @ _blur_matrix(image.shape[-1], *weights).T
    )


@cache
def soft_backdrop(backdrop: Backdrop, level: int = 0) -> np.ndarray:
    """An empty place, blurred: 3 SIDE SIDE."""
    return blur(paint_backdrop(backdrop).transpose(2, 0, 1).astype(np.float32), *BLURS[level])


def spread(picture: np.ndarray, backdrop: Backdrop, limit: float) -> Canvas:
    """A picture, 3 SIDE SIDE, and its backdrop, blurred so as to agree best with it.

    limit: grey levels, 0 … 255, beyond which a difference counts no more.
    """
    sides = ((0, 0), (REACH, REACH), (REACH, REACH))
    empty = paint_backdrop(backdrop).transpose(2, 0, 1).astype(np.float32)
    empty = np.pad(empty, sides, mode="edge")
    full = empty.copy()
    full[INSIDE] = picture
    soft = blur(full, *BLURS[0])
    grounds = [blur(empty, *weights) for weights in BLURS]
    apart = [np.minimum(np.abs(soft - ground), limit).sum() for ground in grounds]
    level = int(np.argmin(apart))
    return Canvas(soft - grounds[level], grounds[level], level)


@cache
def _linear(bright: bool) -> tuple[np.ndarray, np.ndarray]:
    """The palette as weight · colour + rest: of each role, 15 and 15 3."""
    low, high = (palette((c, c, c), bright).astype(np.float32) for c in (100, 200))
    weight = (high - low)[:, :1] / 100
    weight[[CLEAR, EYE]] = 0
    rest = low - 100 * weight
    return weight[:, 0], rest


@cache
def _drawings(size: str, level: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A (P w w), B (P 3 w w) and a (P w w) of every pose, blurred."""
    width = SPAN[size] * CELL
    layers = []
    for *pose, bright in POSES:
        drawn = np.pad(roles(*pose, width), 4)
        weight, rest = _linear(bright)
        cover = (drawn != CLEAR).astype(np.float32)
        layers.append(np.stack([weight[drawn], *rest[drawn].transpose(2, 0, 1), cover]))
    soft = blur(np.stack(layers), *BLURS[level])[..., 4:-4, 4:-4]
    return soft[:, 0], soft[:, 1:4], soft[:, 4]


# --- The search: every pose at every corner of the lattice ----------------------------------------


class _Flat(NamedTuple):
    """Every STRIDE-th pixel of the drawings, a column for each pose, and products of them."""

    a: np.ndarray  # A, M P: M pixels, P poses
    b: np.ndarray  # B, 3M P
    cover: np.ndarray  # a, M P
    a_cover: np.ndarray  # A a, M P
    b_cover: np.ndarray  # B a, 3M P
    aa: np.ndarray  # <A, A>, P
    ab: np.ndarray  # <A, B>, 3 P


@cache
def _flat(size: str, level: int) -> _Flat:
    layers = (layer[..., ::STRIDE, ::STRIDE] for layer in _drawings(size, level))
    a, b, cover = (np.ascontiguousarray(layer.reshape(len(POSES), -1).T) for layer in layers)
    ab = (a * b.reshape(3, *a.shape)).sum(1)
    return _Flat(a, b, cover, a * cover, b * np.tile(cover, (3, 1)), (a**2).sum(0), ab)


def _score(canvas: Canvas, size: str, spots: np.ndarray) -> np.ndarray:
    """The gain of each pose at each of N spots, times the eighth power of Dice's coefficient: N P.

    The gain alone would prefer a big drawing over two small things, Dice's coefficient alone a
    small one inside a big thing.
    """
    flat, width = _flat(size, canvas.blur), SPAN[size] * CELL
    x, y = spots.T
    r, g = (
        sliding_window_view(layer, (width, width), (1, 2))[:, y, x, ::STRIDE, ::STRIDE]
        .swapaxes(0, 1)
        .reshape(len(spots), 3, -1)
        for layer in (canvas.change, canvas.ground)
    )  # N 3 M
    r_all, g_all = r.reshape(len(spots), -1), g.reshape(len(spots), -1)  # N 3M
    # p = A c + fixed, fixed = B − a g; of each, the products with r, A and itself
    af = flat.ab - g @ flat.a_cover  # N 3 P
    ff = (flat.b**2).sum(0) - 2 * g_all @ flat.b_cover + (g**2).sum(1) @ flat.cover**2  # N P
    ra = r @ flat.a  # N 3 P
    rf = r_all @ flat.b - (r * g).sum(1) @ flat.cover  # N P
    colour = np.clip((ra - af) / flat.aa, 0, 255)  # N 3 P
    product = (colour * ra).sum(1) + rf  # <r, p>
    power = (colour * (colour * flat.aa + 2 * af)).sum(1) + ff  # |p|²
    dice = np.clip(2 * product / ((r**2).sum((1, 2))[:, None] + power + 1), 0, 1)
    fits = np.where(_BRIGHT, colour.sum(1) > 560, (colour.sum(1) < 680) | ~_STRIPED)
    return np.where(fits, (2 * product - power) * dice**8, -np.inf)


def search(canvas: Canvas, allowed: dict[str, np.ndarray]) -> tuple[str, Spot, list[int]]:
    """The size and spot of the drawing that explains most of the change, and the best pose of each
    kind there: its index in POSES, best kind first.

    allowed: for each size the corners to try, bool Y X.
    """
    reach = range(-REACH, REACH + 1)
    steps = np.array([(dx, dy) for dx in reach for dy in reach])
    best, size, spot, here = -np.inf, "", np.zeros(2), np.zeros(0)
    for each in SIZES:
        spots = np.argwhere(allowed[each])[:, ::-1] * CELL + REACH
        if not len(spots):
            continue
        near = spots[_score(canvas, each, spots).max(1).argmax()] + steps
        score = _score(canvas, each, near)
        at = score.max(1).argmax()
        if score[at].max() > best:
            best, size, spot, here = score[at].max(), each, near[at], score[at]
    found: dict[str, int] = {}
    for index in np.argsort(-here):
        found.setdefault(POSES[index].kind, int(index))
    return size, (int(spot[0]), int(spot[1])), list(found.values())


# --- The comparison of one pose, at every pixel ---------------------------------------------------


def compare(canvas: Canvas, size: str, spot: Spot, index: int) -> Match:
    """Tone and line, whole and halves, of one pose at a spot: the best of all blurs."""
    return max(_compare(canvas, size, spot, index, level) for level in range(len(BLURS)))


def _change(
    canvas: Canvas, size: str, spot: Spot, indices: list[int], level: int
) -> tuple[np.ndarray, np.ndarray]:
    """p(c) of N poses, N 3 w w, in the colours c that fit the change best, and c, N 3."""
    a, b, cover = (layer[indices] for layer in _drawings(size, level))
    a, cover, here = a[:, None], cover[:, None], window(size, spot)
    fixed = b - cover * canvas.ground[here]  # p(c) = A c + fixed
    colour = ((canvas.change[here] - fixed) * a).sum((2, 3)) / (a * a).sum((2, 3))
    colour = np.clip(colour, 0, 255)
    return colour[..., None, None] * a + fixed, colour


def window(size: str, spot: Spot) -> tuple[slice, slice, slice]:
    """The part of a canvas that a thing covers."""
    (x, y), width = spot, SPAN[size] * CELL
    return np.s_[:, y : y + width, x : x + width]


def _compare(canvas: Canvas, size: str, spot: Spot, index: int, level: int) -> Match:
    (p,), (colour,) = _change(canvas, size, spot, [index], level)
    width = p.shape[-1]
    pair = np.stack([canvas.change[window(size, spot)], p])
    pair = np.stack([pair, pair - blur(pair, *WIDE)], 1)  # r and p, tone and line, 3 w w
    quarters = 2, 2, width // 2, 2, width // 2
    shared = (2 * pair[0] * pair[1]).sum(1).reshape(quarters).sum((2, 4))  # 2 2 2
    total = (pair[0] ** 2 + pair[1] ** 2).sum(1).reshape(quarters).sum((2, 4))
    whole = shared.sum((1, 2)) / (total.sum((1, 2)) + 1)
    half = min((shared.sum(i) / (total.sum(i) + 1)).mean(0).min() for i in (1, 2))
    red, green, blue = (round(float(value)) for value in colour)
    return Match(
        float(whole.mean()), float(half), POSES[index], size, (red, green, blue), spot, level
    )


def find_rival(canvas: Canvas, best: Match) -> tuple[float, Pose]:
    """The lead of the best drawing over the nearest pose of another kind at its spot, and that one.

    The lead is 1 where the change equals the best, 0 where it equals the other, and 0.5 halfway
    between the two. Only pixels in which the two differ count, so what they have in common cannot
    hide a difference.
    """
    p = _change(canvas, best.size, best.spot, list(range(len(POSES))), best.blur)[0]
    apart = p[POSES.index(best.pose)] - p
    rest = canvas.change[window(best.size, best.spot)] - p
    leads = (rest * apart).sum((1, 2, 3)) / ((apart**2).sum((1, 2, 3)) + 1)
    leads[[pose.kind == best.pose.kind for pose in POSES]] = np.inf
    at = int(leads.argmin())
    return float(leads[at]), POSES[at]


def corners(changed: np.ndarray, size: str, share: float) -> np.ndarray:
    """The corners of windows of which at least that share has changed: bool Y X.

    changed: float SIDE SIDE, 0 or 1.
    """
    width = SPAN[size] * CELL
    total = np.pad(changed.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    near, far = np.arange(CELLS - SPAN[size] + 1) * CELL, width
    inside = (
        total[np.ix_(near + far, near + far)]
        - total[np.ix_(near, near + far)]
        - total[np.ix_(near + far, near)]
        + total[np.ix_(near, near)]
    )
    allowed: np.ndarray = inside >= share * width * width
    return allowed
