"""Sprites: every kind of thing in its drawings, mirrored or not, in any colour and size."""

from collections.abc import Callable
from functools import cache

import numpy as np

from minidalle.world import animals, objects
from minidalle.world.brush import CLEAR, Brush, palette
from minidalle.world.facts import KINDS, RGB

# The drawings of each kind. A caption does not say which of them it means.
DRAWINGS: dict[str, tuple[Callable[[Brush], None], ...]] = {
    "circle": (objects.circle,),
    "square": (objects.square,),
    "triangle": (objects.triangle,),
    "star": (objects.star,),
    "heart": (objects.heart,),
    "car": (objects.car_saloon, objects.car_van),
    "bear": (animals.bear_sitting, animals.bear_walking),
    "dog": (animals.dog_standing, animals.dog_sitting),
    "cat": (animals.cat_sitting, animals.cat_walking),
    "house": (objects.house_cottage, objects.house_tower),
    "tree": (objects.tree_round, objects.tree_pine),
    "boat": (objects.boat_sailing, objects.boat_steamer),
    "fish": (animals.fish_round, animals.fish_long),
    "flower": (objects.flower_daisy, objects.flower_tulip),
    "bird": (animals.bird_standing, animals.bird_flying),
    "ball": (objects.ball_beach, objects.ball_striped),
    "apple": (objects.apple,),
    "mushroom": (objects.mushroom_round, objects.mushroom_tall),
    "rabbit": (animals.rabbit_sitting, animals.rabbit_hopping),
    "umbrella": (objects.umbrella_open, objects.umbrella_folded),
    "robot": (objects.robot_walking, objects.robot_rolling),
    "rocket": (objects.rocket_standing, objects.rocket_flying),
    "butterfly": (animals.butterfly,),
    "chair": (objects.chair_arm, objects.chair_side),
}
assert tuple(DRAWINGS) == KINDS


@cache
def roles(kind: str, drawing: int, mirrored: bool, width: int) -> np.ndarray:
    """The roles of a drawing: uint8, width × width."""
    brush = Brush(width)
    DRAWINGS[kind][drawing](brush)
    finished = brush.finish()
    return finished[:, ::-1] if mirrored else finished


def sprite(kind: str, drawing: int, mirrored: bool, colour: RGB, width: int) -> np.ndarray:
    """A thing on a transparent background: uint8, width × width × 4; alpha is 0 or 255."""
    drawn = roles(kind, drawing, mirrored, width)
    alpha = np.where(drawn == CLEAR, 0, 255)[..., None]
    return np.concatenate([palette(colour)[drawn], alpha], -1).astype(np.uint8)


@cache
def is_symmetric(kind: str, drawing: int) -> bool:
    """Whether a drawing equals its mirror image."""
    drawn = roles(kind, drawing, False, 48)
    return bool((drawn == drawn[:, ::-1]).mean() > 0.93)
