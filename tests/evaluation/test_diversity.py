"""Diversity: pictures are counted by what they show, against as many of the world's own."""

import random

import numpy as np
import pytest

from minidalle.evaluation.diversity import appearance, distinct, fresh_renders, relative_diversity
from minidalle.world import judge
from minidalle.world.captions import parse
from minidalle.world.scenes import complete, lay_out, render, sample_scene

CAPTIONS = [
    "a red car on the grass",
    "two cats",
    "a dog and a ball by the sea",
    "一只大熊",
    "a star",
]


@pytest.mark.parametrize("caption", CAPTIONS)
def test_fresh_renders_show_their_caption_and_differ(caption):
    """Catches a fact that is stated and not drawn, and one that is left open and never varies."""
    images = fresh_renders(parse(caption), 32, 0)
    assert sum(judge.score(image, caption).right for image in images) >= 31
    readings = [judge.read(image) for image in images]
    assert distinct(readings) >= 28
    for what in ("sky", "horizon", "layout"):
        assert len({getattr(r.backdrop, what) for r in readings if r.backdrop}) > 1


def test_one_picture_is_one_picture():
    """Catches noise that counts as diversity, and a picture that nobody can read."""
    caption, rng = "a red car on the grass", np.random.default_rng(0)
    image = fresh_renders(parse(caption), 1, 0)[0]
    noisy = [
        np.clip(image + rng.integers(-6, 7, image.shape), 0, 255).astype(np.uint8) for _ in range(8)
    ]
    readings = [judge.read(picture) for picture in [image, *noisy]]
    assert distinct(readings) == 1
    assert relative_diversity(caption, readings) == pytest.approx(1 / 9, abs=0.02)
    static = rng.integers(0, 256, image.shape).astype(np.uint8)
    assert appearance(judge.read(static)) is None and distinct([judge.read(static)] * 2) == 0


def test_the_world_is_as_diverse_as_itself():
    caption = "a big brown bear in the snow"
    images = fresh_renders(parse(caption), 32, "others")
    assert 0.85 < relative_diversity(caption, [judge.read(image) for image in images]) < 1.18


def test_completion_keeps_what_is_stated():
    """Catches a stated fact that chance overrules, and facts that cannot be drawn."""
    rng = random.Random(0)
    for i in range(300):
        stated = sample_scene(i, "validation").facts
        assert complete(stated, rng) == stated
    for caption in CAPTIONS:
        asked = parse(caption)
        for _ in range(50):
            done = complete(asked, rng)
            assert judge.holds(asked, done).right
            assert render(lay_out(done, rng)).shape == (48, 48, 3)
