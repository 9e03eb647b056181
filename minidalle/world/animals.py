"""The animals of the storybook: bear, dog, cat, rabbit, bird, fish and butterfly.

One function per drawing, in the units of `brush`. Things face left; scenes mirror some of them.
"""

from minidalle.world.brush import (
    BASE,
    CREAM,
    DARK,
    GOLD,
    INK,
    LIGHT,
    ROSE,
    WHITE,
    Brush,
)


def bear_sitting(b: Brush) -> None:
    for x in (3.4, 12.6):
        b.oval(x, 3.2, 2.1, 2.1)
    b.oval(8, 12.2, 5.2, 3.0)
    b.oval(8, 7, 5.0, 3.9, edge=DARK)
    b.oval(8, 8.4, 2.4, 1.7, CREAM)
    b.oval(8, 13, 2.4, 1.6, LIGHT)
    b.dot(5, 6)
    b.dot(10, 6)
    b.dot(7.5, 7.5, INK)


def bear_walking(b: Brush) -> None:
    for x in (5.2, 11.4):
        b.box(x, 9, x + 2.6, 15)
    b.box(3.4, 9, 4.8, 14.6, DARK)
    b.box(9.6, 9, 11, 14.6, DARK)
    b.oval(9.6, 8.4, 5.2, 3.6)
    b.oval(4.8, 3.4, 1.3, 1.3)
    b.oval(5.0, 6.2, 3.4, 3.0, edge=DARK)
    b.oval(2.8, 7.2, 1.7, 1.4, CREAM)
    b.dot(1.2, 6, INK)
    b.dot(4, 5)


def dog_standing(b: Brush) -> None:
    b.line([(13.2, 7.6), (14.6, 3.6)], width=1.5, role=BASE)
    for x in (4.6, 11.2):
        b.box(x, 9, x + 2, 15)
    b.box(7, 9, 8, 14, DARK)
    b.box(4.4, 6.6, 14, 11)
    b.box(2.4, 2.4, 7.2, 7.8)
    b.box(0.9, 4.6, 3, 7.4, CREAM)
    b.oval(6.6, 5.2, 1.5, 3.0, DARK)
    b.dot(3, 4)
    b.dot(1, 4.6, INK)


def dog_sitting(b: Brush) -> None:
    b.line([(11, 13.4), (14, 11)], width=1.5, role=BASE)
    b.oval(8, 11.6, 4.4, 3.6)
    b.oval(8, 5.4, 4.6, 4.2, edge=DARK)
    for x in (3.2, 12.8):
        b.oval(x, 6, 1.7, 3.6, DARK)
    b.oval(8, 7, 2.1, 2.2, CREAM)
    for x in (5.4, 8.8):
        b.box(x, 11.4, x + 1.8, 15, LIGHT)
    b.dot(5.4, 4)
    b.dot(9.6, 4)
    b.dot(7.5, 6, INK)


def cat_sitting(b: Brush) -> None:
    b.line([(11, 14), (14, 13), (14, 9)], width=1.4, role=BASE)
    b.poly([(3, 7), (3, 1), (7, 4)])
    b.poly([(13, 7), (13, 1), (9, 4)])
    b.oval(8, 12, 4, 3.2)
    b.oval(8, 6.4, 5.2, 3.8, edge=DARK)
    b.oval(8, 12.6, 1.8, 2.4, LIGHT)
    b.dot(5, 5)
    b.dot(10, 5)
    b.dot(7.5, 7, ROSE)


def cat_walking(b: Brush) -> None:
    b.line([(13.6, 9), (14.3, 5), (13, 2)], width=1.5, role=BASE)
    for x in (4.4, 8.8, 12.2):
        b.box(x, 9.4, x + 1.6, 15)
    b.box(6, 9.4, 7.2, 14, DARK)
    b.box(4, 7.6, 14, 11.4)
    b.poly([(1.6, 5), (1.6, 1.4), (4, 3.4)])
    b.poly([(7.4, 5), (7.4, 1.4), (5, 3.4)])
    b.oval(4.5, 6, 3.4, 2.9, edge=DARK)
    b.dot(2.6, 5)
    b.dot(5.6, 5)
    b.dot(4, 7, ROSE)


def rabbit_sitting(b: Brush) -> None:
    for x in (5.6, 10.4):
        b.oval(x, 3.8, 1.5, 3.1)
        b.oval(x, 4.0, 0.7, 2.0, ROSE)
    b.oval(8, 12.2, 4.4, 3.0)
    b.oval(8, 8.2, 4.2, 3.2, edge=DARK)
    b.oval(8, 12.8, 2.2, 2.0, WHITE)
    b.dot(5.5, 7)
    b.dot(9.5, 7)
    b.dot(7.5, 8.5, ROSE)


def rabbit_hopping(b: Brush) -> None:
    b.oval(13.6, 9.6, 1.5, 1.5, WHITE)
    b.oval(9.4, 10.4, 4.6, 3.6)
    b.box(3.6, 11, 5.6, 14.6)
    b.oval(10.6, 13.2, 3.6, 1.7, edge=DARK)
    b.oval(6.4, 3.8, 1.2, 3.0)
    b.oval(8.6, 4.2, 1.2, 2.6, DARK)
    b.oval(4.6, 8, 3.2, 2.8, edge=DARK)
    b.dot(3, 7)
    b.dot(1.4, 8.4, ROSE)


def bird_standing(b: Brush) -> None:
    for x in (7, 9.2):
        b.line([(x, 11), (x, 15)], GOLD)
    b.poly([(11, 8), (15, 5), (14.8, 9.6), (11, 11)], DARK)
    b.oval(8.4, 9, 4.8, 3.6)
    b.poly([(4, 4), (0.8, 5.4), (4, 6.6)], GOLD)
    b.oval(5.6, 5, 3, 2.9)
    b.oval(9.6, 8.6, 2.8, 1.8, DARK)
    b.dot(4.4, 4)


def bird_flying(b: Brush) -> None:
    b.poly([(11, 9), (15, 7.4), (14.6, 11.4)], DARK)
    b.oval(8, 10, 4.8, 2.7)
    b.poly([(3, 7.6), (0.8, 9), (3, 10)], GOLD)
    b.oval(4.8, 8.6, 2.5, 2.4)
    b.poly([(6, 9.6), (8.4, 4.4), (13.4, 1.6), (12.8, 6), (10.6, 10)], edge=DARK)
    b.dot(3.6, 7.6)


def fish_round(b: Brush) -> None:
    b.poly([(10.4, 8), (15, 3.6), (14, 8), (15, 12.4)], DARK)
    b.poly([(5, 5), (8.4, 1.8), (10.4, 5.4)], DARK)
    b.oval(6.8, 8.2, 5.8, 4.4)
    b.line([(6.6, 5.2), (7.4, 8.2), (6.6, 11.2)], DARK)
    b.oval(3.6, 6.8, 1.5, 1.5, WHITE)
    b.dot(3, 6.4, INK)


def fish_long(b: Brush) -> None:
    b.poly([(11, 8), (15, 4.6), (15, 11.4)])
    b.poly([(5.4, 6.4), (11, 6.4), (9.4, 3.2)], DARK)
    b.poly([(6, 10), (10, 10), (10.4, 12.8)], DARK)
    b.oval(7.2, 8, 6.2, 2.9)
    for x in (7.2, 9.6):
        b.line([(x, 5.8), (x, 10.2)], LIGHT)
    b.dot(3, 7)


def butterfly(b: Brush) -> None:
    for side in (-1, 1):
        b.oval(8 + 3.9 * side, 5.4, 2.9, 3.7)
        b.oval(8 + 3.4 * side, 11.4, 2.3, 2.9, edge=DARK)
        b.oval(8 + 4.0 * side, 5.2, 1.3, 1.5, GOLD)
        b.line([(8, 4), (8 + 2 * side, 1.4)])
    b.oval(8, 8.6, 0.9, 5, INK)
