"""Measuring systems side by side: what is drawn, what is counted, and what is timed."""

import itertools

import pytest
import torch

from minidalle.errors import MinidalleError
from minidalle.evaluation.compare import (
    EXAMPLES,
    LONE_EXAMPLES,
    draw_examples,
    measure,
    pictures_per_second,
    skills,
)
from minidalle.evaluation.diversity import fresh_renders
from minidalle.evaluation.systems import (
    MODULES,
    NAMES,
    Cost,
    System,
    code_lines,
    lines_of_code,
)
from minidalle.tensors import to_tensor
from minidalle.training.stages import STAGES
from minidalle.world.captions import parse
from minidalle.world.facts import SKILLS
from minidalle.world.scenes import HELD_OUT
from minidalle.world.storybook import Storybook

BOOK, CAPTIONS = Storybook(), 12
COST = Cost(1, 1.0, 1, 1)


class Quarters:
    """Stands in for CLIP: the mean of each quarter of each channel, 12 features."""

    device = torch.device("cpu")

    @property
    def clip(self):
        return self

    def encode_image(self, x):
        return x.unflatten(2, (2, -1)).unflatten(4, (2, -1)).mean((3, 5)).flatten(1)


def perfect(caption, n, seed):
    """The world's own pictures: alone, that of the validation split, if it has the caption."""
    own = [i for i in range(CAPTIONS) if BOOK.caption("validation", i) == caption]
    if own and n == 1:
        return to_tensor([BOOK.image("validation", own[0])], torch.device("cpu"))
    return to_tensor(fresh_renders(parse(caption), n, seed), torch.device("cpu"))


def grey(caption, n, seed):
    """The same picture always."""
    return torch.full((n, 3, 48, 48), 0.5)


def test_each_number_is_of_what_it_says():
    """Catches a FID of the wrong split, a diversity of several captions, columns exchanged."""
    calls = []

    def recorded(draw):
        def inner(*arguments):
            calls.append((draw, *arguments))
            return draw(*arguments)

        return inner

    systems = [System(stage, 0, recorded(draw), COST)
               for stage, draw in (("prior", perfect), ("gan", grey))]  # fmt: skip
    bars = []

    def progress(items, name):
        bars.append((name, len(items)))
        return items

    options = {"captions": CAPTIONS, "candidates": 4, "seed": 5, "progress": progress}
    good, bad = measure(systems, Quarters(), BOOK, **options)
    assert good.system is systems[0] and bad.system is systems[1]
    assert sum(good.right["validation"]) >= CAPTIONS - 1
    assert sum(good.right["compositions"]) >= CAPTIONS - 1
    assert not any(bad.right["validation"] + bad.right["compositions"])
    assert all(len(m.right[split]) == CAPTIONS for m in (good, bad) for split in m.right)
    assert good.fid == pytest.approx(0, abs=1e-6) and bad.fid > 0.01
    assert sum(good.diversity) / CAPTIONS > 0.8 and max(bad.diversity) <= 0.5
    assert bars == [("judging", 4 * CAPTIONS), ("diversity", 2 * CAPTIONS), ("speed", 12)]
    # Both were asked for the same captions, with the same seeds.
    asked = {draw: [call[1:] for call in calls if call[0] is draw] for draw in (perfect, grey)}
    assert asked[perfect] == asked[grey]
    assert asked[grey][3] == (BOOK.caption("validation", 3), 1, 8)
    assert asked[grey][CAPTIONS] == (BOOK.caption("compositions", 0), 1, 5)
    assert asked[grey][2 * CAPTIONS + 1] == (BOOK.caption("validation", 1), 4, 6)


def test_too_little_to_count_is_refused():
    for options in ({"captions": 9}, {"candidates": 1}):
        with pytest.raises(MinidalleError, match="captions must be at least 10 and candidates at"):
            measure([], Quarters(), BOOK, **options)


def test_the_speed_is_the_median_of_rounds_in_turn():
    """Catches a warm-up that counts, a mean that one slow round spoils, systems one by one."""
    now, turns = [0.0], []

    def timed(name, seconds):
        durations = iter(seconds)

        def draw(caption, n, seed):
            turns.append(name)
            now[0] += next(durations)
            return torch.zeros(n, 3, 8, 8)

        return System(name, 0, draw, COST)

    systems = [timed("prior", [50, 50, 1, 2, 4]), timed("gan", [1, 1, 70, 2, 0.5])]
    speeds = pictures_per_second(systems, "a cat", 8, repeats=4, clock=lambda: now[0])
    assert speeds == pytest.approx([8 / 3, 8 / 1.5])
    assert turns == ["prior", "gan"] * 5


def test_the_skills_are_those_of_the_captions():
    own = [parse(BOOK.caption("validation", i)).skill for i in range(60)]
    assert skills(BOOK, 60) == own and len(set(own)) > 4


def test_the_examples_were_chosen_for_all_skills():
    """Catches a caption that nobody can draw, and a sheet without a test of new combinations."""
    assert {parse(caption).skill for caption in EXAMPLES} == set(SKILLS)
    assert all(len(parse(caption).things) == 1 for caption in LONE_EXAMPLES)
    for captions in (EXAMPLES, LONE_EXAMPLES):
        assert len(captions) == len(set(captions)) == 8
        pairs = {(t.kind, t.colour) for caption in captions for t in parse(caption).things}
        assert len(pairs & HELD_OUT) == 1
        assert all(len(fresh_renders(parse(caption), 1, 0)) == 1 for caption in captions)


def test_the_rows_of_the_sheet_are_captions():
    systems = [System("prior", 0, perfect, COST), System("gan", 0, grey, COST)]
    captions, rows = draw_examples(systems, lone=True)
    assert captions == list(LONE_EXAMPLES) and [len(row) for row in rows] == [2] * 8
    assert all((row[1] == row[1][0, 0]).all() and (row[0] != row[0][0, 0]).any() for row in rows)


def test_lines_of_code_are_statements():
    """Catches docstrings, comments and layout counted as code."""
    source = '''"""A module."""

import os  # 1


class A:  # 2
    """A class.

    At length.
    """

    # A comment.
    x = [  # 3
        1,
        2,
    ]

    def f(self, a):  # 4
        """Do."""
        if a:  # 5
            return "one\\n\\ntwo"  # 6
        return (  # 7
            a
            + 1
        )
'''
    assert code_lines(source) == 7
    assert code_lines('"""Nothing."""\n') == 0


def test_every_system_has_its_modules():
    """Catches a module that moved, and a system that is not in the table of stages."""
    assert list(MODULES) == list(NAMES) and set(NAMES) <= set(STAGES)
    for stage in NAMES:
        own = STAGES[stage].model.__module__.removeprefix("minidalle.").replace(".", "/")
        assert own in MODULES[stage] and lines_of_code(stage) > 50
    assert set(NAMES) == set(STAGES) - {"dvae", "clip"}
    for a, b in itertools.combinations(NAMES, 2):
        assert MODULES[a] != MODULES[b]
