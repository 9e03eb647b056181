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
over the 9 × 9 pixels around (*line*: outlines, eyes, panels), and averaged. Picture and drawings
are blurred slightly first, since a model draws soft and ragged edges that a person would accept.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minidalle.world.second.backdrops import CELL, SIDE, Backdrop, paint_backdrop
from minidalle.world.second.brush import CLEAR, EYE, STRIPE, palette
from minidalle.world.second.facts import KINDS, SIZES
from minidalle.world.second.layouts import CELLS, SPAN, Corner
from minidalle.world.second.sprites import DRAWINGS, is_symmetric, roles

STRIDE = 2  # the search compares every second pixel, across and down
BLURS = ((1, 4, 6, 4, 1), (1, 8, 28, 56, 70, 56, 28, 8, 1))  # of drawings: σ = 1 and 1.4 pixels
WIDE = (1,) * 9
REACH = 2  # pixels by which a thing may stand off the lattice


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
    corner: tuple[float, float]  # column and row in cells


POSES = tuple(
    Pose(kind, drawing, mirrored, bright)
    for kind in KINDS
    for drawing in range(len(DRAWINGS[kind]))
    for mirrored in ((False,) if is_symmetric(kind, drawing) else (False, True))
    for bright in ((False, True) if STRIPE in roles(kind, drawing, False, 48) else (False,))
)


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


def soften(image: np.ndarray) -> np.ndarray:
    """uint8 H W C to float32 C H W, blurred with σ = 1 pixel."""
    return blur(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32), *BLURS[0])


@cache
def soft_backdrop(backdrop: Backdrop) -> np.ndarray:
    """An empty place, blurred: 3 SIDE SIDE."""
    return soften(paint_backdrop(backdrop))


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


def _cut(canvas: np.ndarray, size: str) -> np.ndarray:
    """C SIDE SIDE to Y X C m m: every STRIDE-th pixel of the window at each corner."""
    width = SPAN[size] * CELL
    view = sliding_window_view(canvas, (width, width), (1, 2))
    return view[:, ::CELL, ::CELL, ::STRIDE, ::STRIDE].transpose(1, 2, 0, 3, 4)


class _Sums(NamedTuple):
    """The terms of |p|² that do not depend on the picture; Y X P or P."""

    aa: np.ndarray  # <A, A>, P
    ag: np.ndarray  # <A, a g> − <A, B>, Y X 3 P
    rest: np.ndarray  # |B − a g|², Y X P


@cache
def _flat(size: str) -> tuple[np.ndarray, np.ndarray]:
    """A (m² P), and the matrix from (r, r·g) to <r, B> − <r g, a>: 4m² P."""
    a, b, cover = (layer[..., ::STRIDE, ::STRIDE] for layer in _drawings(size, 0))
    joint = np.concatenate([b, -cover[:, None]], 1)
    count = len(POSES)
    return np.ascontiguousarray(a.reshape(count, -1).T), np.ascontiguousarray(
        joint.reshape(count, -1).T
    )


@cache
def _sums(size: str, backdrop: Backdrop) -> _Sums:
    a, b, cover = (layer[..., ::STRIDE, ::STRIDE] for layer in _drawings(size, 0))
    count = len(POSES)
    ground = _cut(soft_backdrop(backdrop), size)  # Y X 3 m m
    lines = ground.reshape(*ground.shape[:3], -1)  # Y X 3 m²
    ag = lines @ (a * cover).reshape(count, -1).T - (a[:, None] * b).sum((2, 3)).T  # Y X 3 P
    bg = lines.reshape(*ground.shape[:2], -1) @ (b * cover[:, None]).reshape(count, -1).T
    gg = (lines**2).sum(2) @ (cover**2).reshape(count, -1).T
    return _Sums((a**2).sum((1, 2)), ag, (b**2).sum((1, 2, 3)) - 2 * bg + gg)


def _scores(change: np.ndarray, backdrop: Backdrop, size: str) -> np.ndarray:
    """The gain of each pose at each corner, times the fourth power of Dice's coefficient: Y X P.

    The gain alone would prefer a big drawing over two small things, Dice's coefficient alone a
    small one inside a big thing.
    """
    flat, joint = _flat(size)
    sums = _sums(size, backdrop)
    ground = soft_backdrop(backdrop)
    windows = _cut(np.concatenate([change, (change * ground).sum(0, keepdims=True)]), size)
    lines = windows.reshape(*windows.shape[:3], -1)  # Y X 4 m²
    ra = lines[:, :, :3] @ flat  # Y X 3 P
    rb = lines.reshape(*windows.shape[:2], -1) @ joint  # Y X P
    colour = np.clip((ra + sums.ag) / sums.aa, 0, 255)  # Y X 3 P
    product = (colour * ra).sum(2) + rb  # <r, p>
    power = (colour * (colour * sums.aa - 2 * sums.ag)).sum(2) + sums.rest  # |p|²
    own = (lines[:, :, :3] ** 2).sum((2, 3))[..., None]  # |r|²
    dice = np.clip(2 * product / (own + power + 1), 0, 1)
    return (2 * product - power) * dice**4


def search(
    change: np.ndarray, backdrop: Backdrop, allowed: dict[str, np.ndarray]
) -> list[tuple[str, int, Corner]]:
    """The poses that explain most of the change, best first: the best one and those of the three
    best other kinds at its corner. Each is size, index of the pose, corner.

    change: 3 SIDE SIDE; allowed: for each size the corners to try, bool Y X.
    """
    best: tuple[float, str, int, int] = (-np.inf, "", 0, 0)
    for size in SIZES:
        if not allowed[size].any():
            continue
        score = _scores(change, backdrop, size)
        score[~allowed[size]] = -np.inf
        row, column, _ = np.unravel_index(score.argmax(), score.shape)
        if score[row, column].max() > best[0]:
            best = float(score[row, column].max()), size, int(row), int(column)
            here = score[row, column]
    _, size, row, column = best
    found: dict[str, int] = {}
    for index in np.argsort(-here):
        found.setdefault(POSES[index].kind, int(index))
        if len(found) == 4:
            break
    return [(size, index, (column, row)) for index in found.values()]


# --- The comparison of one pose, at every pixel ---------------------------------------------------


def compare(change: np.ndarray, backdrop: Backdrop, size: str, index: int, corner: Corner) -> Match:
    """Tone and line, whole and halves, of one pose near a corner: the best of REACH pixels each
    way and of both blurs."""
    x, y = corner[0] * CELL, corner[1] * CELL
    best = max(_compare(change, backdrop, size, index, x, y, level) for level in range(len(BLURS)))
    if best.match > 0.9:
        return best
    last = SIDE - SPAN[size] * CELL
    spots = [
        (min(max(x + dx, 0), last), min(max(y + dy, 0), last))
        for dx in range(-REACH, REACH + 1)
        for dy in range(-REACH, REACH + 1)
        if dx or dy
    ]
    return max(best, *(_compare(change, backdrop, size, index, *spot, 0) for spot in spots))


def _change(
    change: np.ndarray, backdrop: Backdrop, size: str, index: int, x: int, y: int, level: int
) -> tuple[np.ndarray, np.ndarray]:
    """p(c), 3 w w, in the colour c that fits the change best, and c."""
    a, b, cover = (layer[index] for layer in _drawings(size, level))
    width = a.shape[-1]
    here = np.s_[:, y : y + width, x : x + width]
    fixed = b - cover * soft_backdrop(backdrop)[here]  # p(c) = A c + fixed
    colour = np.clip(((change[here] - fixed) * a).sum((1, 2)) / (a * a).sum(), 0, 255)
    return colour[:, None, None] * a + fixed, colour


def _compare(
    change: np.ndarray, backdrop: Backdrop, size: str, index: int, x: int, y: int, level: int
) -> Match:
    p, colour = _change(change, backdrop, size, index, x, y, level)
    width = p.shape[-1]
    r = change[:, y : y + width, x : x + width]
    pair = np.stack([r, p])
    pair = np.stack([pair, pair - blur(pair, *WIDE)], 1)  # r and p, tone and line, 3 w w
    quarters = 2, 2, width // 2, 2, width // 2
    shared = (2 * pair[0] * pair[1]).sum(1).reshape(quarters).sum((2, 4))  # 2 2 2
    total = (pair[0] ** 2 + pair[1] ** 2).sum(1).reshape(quarters).sum((2, 4))
    whole = shared.sum((1, 2)) / (total.sum((1, 2)) + 1)
    half = min((shared.sum(i) / (total.sum(i) + 1)).mean(0).min() for i in (1, 2))
    red, green, blue = (round(float(value)) for value in colour)
    return Match(
        float(whole.mean()), float(half), POSES[index], size, (red, green, blue),
        (x / CELL, y / CELL),
    )  # fmt: skip


def lead(change: np.ndarray, backdrop: Backdrop, best: Match, other: Match) -> float:
    """How much nearer the change is to the best drawing than to another: 1 where it equals the
    best, 0 where it equals the other, 0.5 halfway between the two.

    Only pixels in which the two differ count, so what they have in common cannot hide a difference.
    """
    canvases = []
    for match in (best, other):
        x, y = (round(at * CELL) for at in match.corner)
        p, _ = _change(change, backdrop, match.size, POSES.index(match.pose), x, y, 0)
        canvas = np.zeros_like(change)
        canvas[:, y : y + p.shape[-1], x : x + p.shape[-1]] = p
        canvases.append(canvas)
    first, second = canvases
    apart = first - second
    return float(((change - second) * apart).sum() / ((apart**2).sum() + 1))


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
