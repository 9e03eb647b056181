"""A thing is found by its words, or one line says why not."""

import random

import numpy as np
import pytest

from minidalle.errors import MinidalleError
from minidalle.world import judge
from minidalle.world.captions import parse
from minidalle.world.facts import Facts, Thing
from minidalle.world.finding import find_thing
from minidalle.world.scenes import lay_out, render


def picture_of(*things, relation="left of"):
    facts = Facts(things, relation if len(things) > 1 else None, "grass")
    return render(lay_out(facts, random.Random(0)))


CAR, DOG = Thing("car", "red", "small"), Thing("dog", "blue", "middle")


def test_a_thing_is_found_where_it_is():
    """Catches x and y exchanged, and the other thing."""
    scene = lay_out(Facts((CAR, DOG), "left of", "grass"), random.Random(3))
    image = render(scene)
    for words, corner, cells in (("the red car", 0, 4), ("the dog", 1, 6)):
        x, y = (4 * at for at in scene.corners[corner])
        assert (
            np.abs(
                np.subtract(find_thing(image, words), (x, y, x + 4 * cells, y + 4 * cells))
            ).max()
            <= 2
        )
    assert judge.score(image, parse("a red car left of a blue dog")).right


def test_two_of_a_kind_are_no_one_thing():
    with pytest.raises(MinidalleError, match="shows 2 of 'the car'"):
        find_thing(picture_of(CAR, Thing("car", "blue", "small")), "the car")
