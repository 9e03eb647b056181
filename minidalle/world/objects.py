"""The other things of the storybook: shapes, plants, vehicles and household things.

One function per drawing, in the units of `brush`. Things face left; scenes mirror some of them.
"""

import math

from minidalle.world.brush import (
    BASE,
    CREAM,
    DARK,
    GLASS,
    GOLD,
    INK,
    LEAF,
    LIGHT,
    METAL,
    STRIPE,
    WOOD,
    Brush,
    ring,
)


def circle(b: Brush) -> None:
    b.oval(8, 8, 6.6, 6.6)


def square(b: Brush) -> None:
    b.box(2, 2, 14, 14)


def triangle(b: Brush) -> None:
    b.poly([(8, 1.2), (15, 14), (1, 14)])


def star(b: Brush) -> None:
    b.poly(ring(5, 8, 8.6, 7.6, 3.4))


def heart(b: Brush) -> None:
    t = [2 * math.pi * i / 80 for i in range(80)]
    xs = [16 * math.sin(a) ** 3 for a in t]
    ys = [13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a) for a in t]
    b.poly([(8 + x / 2.35, 7.4 - y / 2.3) for x, y in zip(xs, ys, strict=True)])


def car_saloon(b: Brush) -> None:
    b.poly([(3.4, 7.4), (5.4, 3), (10.6, 3), (13, 7.4)])
    b.poly([(4.8, 7), (6.2, 4.2), (7.4, 4.2), (7.4, 7)], GLASS)
    b.poly([(8.6, 7), (8.6, 4.2), (10, 4.2), (11.4, 7)], GLASS)
    b.poly([(1, 8), (2, 7), (14, 7), (15, 8.4), (15, 12), (1, 12)])
    b.box(1, 8.6, 2, 10, GOLD)
    for x in (4.4, 11.6):
        b.oval(x, 12.2, 2.3, 2.3, INK)
        b.oval(x, 12.2, 0.9, 0.9, METAL)


def car_van(b: Brush) -> None:
    b.poly([(1, 8), (3.4, 2.6), (15, 2.6), (15, 12), (1, 12)])
    b.poly([(2.4, 7.4), (4.2, 4), (5.6, 4), (5.6, 7.4)], GLASS)
    b.box(7, 4, 10, 7.4, GLASS)
    b.box(11, 4, 14, 7.4, GLASS)
    b.box(1, 9, 15, 10, DARK)
    for x in (4.4, 11.6):
        b.oval(x, 12.2, 2.3, 2.3, INK)
        b.oval(x, 12.2, 0.9, 0.9, METAL)


def house_cottage(b: Brush) -> None:
    b.box(3, 7, 13, 14.8)
    b.box(10.6, 2, 12.6, 6, WOOD)
    b.poly([(1, 7.6), (8, 1.2), (15, 7.6)], DARK)
    b.box(7, 10, 9.6, 14.8, WOOD)
    b.box(4, 9, 6, 11, CREAM)
    b.box(10.6, 9, 12.2, 11, CREAM)


def house_tower(b: Brush) -> None:
    b.box(4, 5, 12, 14.8)
    b.poly([(3, 5.6), (8, 1), (13, 5.6)], DARK)
    for y in (6.6, 9.6):
        for x in (5, 9):
            b.box(x, y, x + 2, y + 2, CREAM)
    b.box(7, 12, 9, 14.8, WOOD)


def tree_round(b: Brush) -> None:
    b.box(7, 11, 9, 15, WOOD)
    b.oval(4.8, 7.4, 3.6, 3.4)
    b.oval(11.2, 7.4, 3.6, 3.4)
    b.oval(8, 4.6, 4.2, 3.6)
    b.oval(8, 9.4, 4.6, 2.8)
    b.oval(5.4, 5.4, 1.3, 1.1, LIGHT)
    for x, y in ((10, 5.4), (6.4, 9.4), (11.6, 8.6)):
        b.oval(x, y, 1.0, 0.8, DARK)


def tree_pine(b: Brush) -> None:
    b.box(7, 12, 9, 15, WOOD)
    b.poly([(8, 7.4), (14.4, 13), (1.6, 13)])
    b.poly([(8, 4), (13, 9.6), (3, 9.6)], edge=DARK)
    b.poly([(8, 1), (11.6, 5.8), (4.4, 5.8)], edge=DARK)


def boat_sailing(b: Brush) -> None:
    b.box(7.4, 1, 8.4, 11, WOOD)
    b.poly([(9, 1.6), (14.4, 9.6), (9, 9.6)])
    b.poly([(6.8, 4), (6.8, 9.6), (2.6, 9.6)], CREAM)
    b.poly([(1, 11), (15, 11), (12.6, 14.8), (3.4, 14.8)])


def boat_steamer(b: Brush) -> None:
    b.box(9, 1.4, 12, 6, DARK)
    b.box(9, 1.4, 12, 3, STRIPE)
    b.box(4, 5.6, 13, 10, CREAM)
    for x in (5, 8, 11):
        b.box(x, 7, x + 1.4, 8.6, GLASS)
    b.poly([(1, 9.6), (15, 9.6), (13.4, 14.6), (3, 14.6)])
    b.box(2, 11.4, 14, 12.4, LIGHT)


def flower_daisy(b: Brush) -> None:
    b.box(7.4, 8, 8.6, 15, LEAF)
    b.oval(10.6, 12.6, 2.2, 1.2, LEAF)
    for x, y in ring(6, 8, 5.6, 3.4):
        b.oval(x, y, 2.0, 2.0)
    b.oval(8, 5.6, 1.8, 1.8, GOLD, edge=DARK)


def flower_tulip(b: Brush) -> None:
    b.box(7.4, 8, 8.6, 15, LEAF)
    b.poly([(7.4, 14), (2.4, 9), (4.4, 14.8)], LEAF)
    b.poly([(8.6, 14), (13.6, 9), (11.6, 14.8)], LEAF)
    b.poly([(3.6, 2), (6, 4.4), (8, 1.2), (10, 4.4), (12.4, 2), (12.4, 6.4), (10, 9.4), (6, 9.4),
            (3.6, 6.4)])  # fmt: skip
    b.line([(8, 4), (8, 8.6)], DARK)


def ball_beach(b: Brush) -> None:
    b.oval(8, 8, 6.6, 6.6, STRIPE)
    for start in (-70, 50, 170):
        box = [v * b.scale for v in (1.4, 1.4, 14.6, 14.6)]
        b.draw.pieslice(box, start, start + 62, fill=BASE)
    b.oval(8, 8, 1.4, 1.4, BASE)


def ball_striped(b: Brush) -> None:
    b.oval(8, 8, 6.6, 6.6)
    b.poly([(1.6, 6.4), (14.4, 6.4), (14.4, 9.6), (1.6, 9.6)], STRIPE)


def apple(b: Brush) -> None:
    b.oval(5.4, 9.4, 4.2, 5)
    b.oval(10.6, 9.4, 4.2, 5)
    b.line([(8, 5.4), (8.6, 1.6)], WOOD, 1.3)
    b.oval(11.2, 3, 2.3, 1.3, LEAF)
    b.oval(4.6, 7.6, 1.2, 1.6, LIGHT)


def mushroom_round(b: Brush) -> None:
    b.box(5.6, 8, 10.4, 15, CREAM)
    b.draw.pieslice([v * b.scale for v in (1.2, 1.4, 14.8, 17)], 180, 360, fill=BASE)
    for x, y, r in ((5, 5.6, 1.3), (9.8, 4.2, 1.4), (11.8, 7.4, 1.0)):
        b.oval(x, y, r, r, STRIPE)


def mushroom_tall(b: Brush) -> None:
    b.box(6.6, 7, 9.4, 15, CREAM)
    b.poly([(8, 1.2), (12, 4.4), (14, 9), (2, 9), (4, 4.4)])
    b.box(2.6, 8, 13.4, 9, DARK)
    b.oval(8, 5, 1.3, 1.3, STRIPE)


def umbrella_open(b: Brush) -> None:
    b.line([(8, 7), (8, 13.4), (10, 14.4), (11, 13)], WOOD, 1.1)
    b.draw.pieslice([v * b.scale for v in (1, 1.6, 15, 14.4)], 180, 360, fill=BASE)
    b.draw.pieslice([v * b.scale for v in (5, 1.6, 11, 14.4)], 180, 360, fill=LIGHT)
    b.box(7.4, 1, 8.6, 2.4, WOOD)


def umbrella_folded(b: Brush) -> None:
    b.line([(8, 10), (8, 14), (10, 15), (11, 13.6)], WOOD, 1.1)
    b.poly([(8, 1.4), (12, 11.4), (4, 11.4)])
    b.line([(8, 4), (6.6, 11.4)], DARK)
    b.line([(8, 4), (9.4, 11.4)], DARK)
    b.box(7.4, 1, 8.6, 2.4, WOOD)


def robot_walking(b: Brush) -> None:
    b.line([(8, 1), (8, 3)], METAL)
    b.box(4, 2.6, 12, 8)
    b.box(5, 4, 11, 6.4, GLASS)
    b.box(3, 9, 13, 12.6)
    b.box(1.4, 9, 3, 12, METAL)
    b.box(13, 9, 14.6, 12, METAL)
    b.box(6.4, 10, 9.6, 11.4, GOLD)
    for x in (4.6, 9.2):
        b.box(x, 12.6, x + 2.2, 15, METAL)
    b.dot(6, 4.6, INK)
    b.dot(9, 4.6, INK)


def robot_rolling(b: Brush) -> None:
    b.oval(8, 5, 4.4, 3.8)
    b.oval(8, 5, 2.4, 1.8, GLASS)
    b.box(7, 8, 9, 10, METAL)
    b.poly([(4, 9), (12, 9), (13, 12), (3, 12)])
    b.oval(8, 13.2, 5.6, 1.8, INK)
    for x in (5, 8, 11):
        b.oval(x, 13.2, 0.8, 0.8, METAL)
    b.dot(7.5, 4.5, INK)


def rocket_standing(b: Brush) -> None:
    b.poly([(5, 9), (1.6, 14), (5, 13.4)], DARK)
    b.poly([(11, 9), (14.4, 14), (11, 13.4)], DARK)
    b.poly([(8, 1), (11, 5), (11, 13), (5, 13), (5, 5)])
    b.oval(8, 7, 1.6, 1.6, GLASS)
    b.poly([(6, 13), (10, 13), (8, 15.4)], GOLD)


def rocket_flying(b: Brush) -> None:
    b.poly([(5.4, 8.4), (1.4, 9.6), (5, 11.6)], DARK)
    b.poly([(8, 11), (7, 14.8), (10, 11.8)], DARK)
    b.poly([(14.6, 1.4), (14, 6), (8.4, 11.8), (4.4, 8), (10, 2.2)])
    b.oval(10.2, 6, 1.6, 1.6, GLASS)
    b.poly([(4.6, 9), (7.4, 11.6), (3, 14)], GOLD)


def chair_arm(b: Brush) -> None:
    for x in (3, 11.6):
        b.box(x, 13, x + 1.4, 15, WOOD)
    b.box(4, 2, 12, 10)
    b.box(3, 8.4, 13, 13)
    b.box(5, 8, 11, 10.4, LIGHT)
    b.box(1.2, 6.6, 4, 13, BASE, edge=DARK)
    b.box(12, 6.6, 14.8, 13, BASE, edge=DARK)


def chair_side(b: Brush) -> None:
    for x in (3.4, 11):
        b.box(x, 9, x + 1.5, 15, WOOD)
    b.box(10.6, 1.4, 13, 9)
    b.box(3, 7.6, 13, 10)
    b.box(3, 6.2, 10.6, 7.6, CREAM)
