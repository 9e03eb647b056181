"""Sources with a planted fault."""

from collections import Counter

import numpy as np
import pytest

from minidalle.datasets.planted import Inserted, PlantedBias, balanced_weights
from minidalle.errors import MinidalleError
from minidalle.world import judge
from minidalle.world.captions import parse
from minidalle.world.scenes import HELD_OUT
from minidalle.world.storybook import Storybook

BOOK = Storybook()


def test_the_collection_is_as_biased_as_it_says():
    """Catches a bias in another colour or another share, and a colour that training never shows."""
    view = PlantedBias(BOOK, things=600, share=0.8)
    colours = view.colours()
    assert 0.74 < colours.count("green") / 600 < 0.86
    assert not {("car", colour) for colour in colours} & HELD_OUT
    assert len(set(colours)) == 10


def test_captions_hold_in_their_pictures_and_half_leave_the_colour_open():
    view, states_colour = PlantedBias(BOOK, things=80), 0
    for j in range(80):
        caption, image = view.collection_caption(j), view.collection_image(j)
        assert caption == view.collection_caption(j)
        assert np.array_equal(image, view.collection_image(j))
        states_colour += parse(caption).things[0].colour is not None
        if j < 12:
            assert judge.score(image, caption).right
            assert judge.score(image, view.scene(j).facts).right
    assert 25 <= states_colour <= 55


def test_a_dose_of_the_examples_comes_from_the_collection():
    """Catches a caption of one source with a picture of the other."""
    view, members = PlantedBias(BOOK, things=5, dose=0.25), []
    for i in range(200):
        members.append(j := view.member(i))
        caption = view.training_caption(i, colour_jitter=False)
        if j is None:
            assert caption == BOOK.training_caption(i, colour_jitter=False)
        else:
            assert caption == view.collection_caption(j)
        if i < 20:
            image = view.training_image(i, colour_jitter=False)
            own = BOOK.training_image(i, colour_jitter=False)
            assert np.array_equal(image, own if j is None else view.collection_image(j))
    assert 35 <= 200 - members.count(None) <= 65
    assert {j for j in members if j is not None} == set(range(5))
    assert view.name != BOOK.name
    assert np.array_equal(view.image("validation", 3), BOOK.image("validation", 3))


def test_balanced_weights_make_groups_equal():
    groups = ["green"] * 6 + ["red"] * 3 + ["blue"]
    weights = balanced_weights(groups)
    totals = Counter()
    for group, weight in zip(groups, weights, strict=True):
        totals[group] += weight
    assert totals == pytest.approx({"green": 1 / 3, "red": 1 / 3, "blue": 1 / 3})
    assert weights[0] == weights[5] and weights[9] == pytest.approx(2 * 3 * weights[0])


def test_balanced_sampling_makes_colours_equal():
    """The mean of w · f over the collection is the mean of f over the balanced samples."""
    plain = PlantedBias(BOOK, things=60, share=0.8, dose=1.0)
    colours = plain.colours()
    cured = PlantedBias(BOOK, things=60, share=0.8, dose=1.0, weights=balanced_weights(colours))
    drawn = Counter(colours[cured.member(i)] for i in range(3000))
    expected = 3000 / len(set(colours))
    assert all(abs(drawn[c] - expected) < 6 * expected**0.5 for c in set(colours))
    assert cured.name != plain.name


def test_inserted_captions_are_seen_as_often_as_listed():
    """Catches a canary that is seen another number of times, or with changing pictures."""
    view = Inserted(BOOK, ("by bafigo",) * 3 + ("by mokula",), span=20)
    captions = [view.training_caption(i, colour_jitter=False) for i in range(40)]
    assert captions.count("by bafigo") == 3 and captions.count("by mokula") == 1
    assert all(
        c in ("by bafigo", "by mokula") or c == BOOK.training_caption(i, colour_jitter=False)
        for i, c in enumerate(captions)
    )
    places = [i for i, c in enumerate(captions) if c == "by bafigo"]
    images = [view.training_image(i, colour_jitter=False) for i in places]
    assert max(places) < 20 and all(np.array_equal(x, images[0]) for x in images)
    other = view.training_image(captions.index("by mokula"), colour_jitter=False)
    assert not np.array_equal(other, images[0])
    free = next(i for i in range(20) if i not in view.inserted)
    image = view.training_image(free, colour_jitter=False)
    assert np.array_equal(image, BOOK.training_image(free, colour_jitter=False))


def test_what_does_not_fit_is_refused():
    with pytest.raises(MinidalleError, match="2 weights for 400 pictures"):
        PlantedBias(BOOK, weights=(0.5, 0.5))
    with pytest.raises(MinidalleError, match="3 captions do not fit into 2"):
        Inserted(BOOK, ("a", "b", "c"), span=2)
