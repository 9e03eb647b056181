"""Layouts: the corners on the lattice where things of given sizes may stand.

Pictures have a lattice of 12 × 12 cells, which is the dVAE's grid of codes as well. A corner is
the column and row of the upper left cell of a thing. Things stand on the ground, unless they are
above others or thrown into the air; none hides another.
"""

from functools import cache
from itertools import product

CELLS = 12  # cells across a picture
SPAN = {"small": 4, "middle": 6, "big": 8}  # cells across a thing
# Lower edges of the things that stand on the ground: behind others, or in front of them.
STANDING = {"small": (8, 9, 10, 11, 12), "middle": (9, 10, 11, 12), "big": (10, 11, 12)}
Corner = tuple[int, int]  # column and row
Corners = tuple[Corner, ...]


def centre(corner: Corner, size: str) -> tuple[float, float]:
    """The centre of a thing: x, y in cells."""
    return corner[0] + SPAN[size] / 2, corner[1] + SPAN[size] / 2


def relate(a: tuple[float, float], b: tuple[float, float]) -> str | None:
    """The relation of one thing to another, from their centres; None: neither is meant.

    y points down. A toy in the air beside its player is "played with".
    """
    right, down = b[0] - a[0], b[1] - a[1]
    if abs(down) < 3:
        return "left of" if right >= 3.5 else None
    if abs(right) < 2.5:
        return "above" if down > 0 else None
    return "playing with" if down < 0 else None


def overlap(a: Corner, b: Corner, size_a: str, size_b: str) -> bool:
    """Whether two things cover a cell both."""
    return all(
        a[axis] < b[axis] + SPAN[size_b] and b[axis] < a[axis] + SPAN[size_a] for axis in (0, 1)
    )


def _grounded(size: str) -> list[Corner]:
    """Every corner of a thing that stands on the ground."""
    columns = range(CELLS - SPAN[size] + 1)
    return [(column, foot - SPAN[size]) for column in columns for foot in STANDING[size]]


def _aloft(size: str) -> list[Corner]:
    """Every corner in the air, up to where a thing would stand."""
    columns, rows = range(CELLS - SPAN[size] + 1), range(STANDING[size][0] - SPAN[size] + 1)
    return list(product(columns, rows))


@cache
def lone(size: str) -> tuple[Corners, ...]:
    """The places of one thing."""
    return tuple((corner,) for corner in _grounded(size))


@cache
def group(size: str, count: int) -> tuple[Corners, ...]:
    """The places of two or three equal things, from left to right."""
    spots = _grounded(size)
    found: list[Corners] = [(spot,) for spot in spots]
    for _ in range(count - 1):
        found = [
            (*corners, spot)
            for corners in found
            for spot in spots
            if spot > corners[-1] and not any(overlap(spot, c, size, size) for c in corners)
        ]
    return tuple(found)


@cache
def pair(relation: str, size_a: str, size_b: str) -> tuple[Corners, ...]:
    """The places of two things of which the first is left of, above or playing with the second."""
    first = _aloft(size_a) if relation == "above" else _grounded(size_a)
    second = _aloft(size_b) if relation == "playing with" else _grounded(size_b)
    return tuple(
        (a, b)
        for a, b in product(first, second)
        if relate(centre(a, size_a), centre(b, size_b)) == relation
        and not overlap(a, b, size_a, size_b)
        and (relation != "left of" or abs(a[1] + SPAN[size_a] - b[1] - SPAN[size_b]) <= 1)
    )
