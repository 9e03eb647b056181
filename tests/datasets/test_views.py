"""Sources made from other sources."""

import numpy as np
import pytest

from minidalle.datasets.source import bilingual_caption
from minidalle.datasets.views import Augmented, HeldOut, Limited, Replayed, augment
from minidalle.world import judge
from minidalle.world.storybook import Storybook

BOOK = Storybook()


def test_held_out_examples_are_the_validation_split():
    """Catches a validation loss of training examples, or of pictures with other captions."""
    view = HeldOut(BOOK)
    for i in range(6):
        caption = view.training_caption(i, colour_jitter=True)
        image = view.training_image(i, colour_jitter=True)
        assert caption == bilingual_caption(BOOK, "validation", i)
        assert np.array_equal(image, BOOK.image("validation", i))
        assert np.array_equal(image, view.crowded_image(i))
        [(paired, picture)] = view.contrastive_pairs(i, swaps_only=True)
        assert paired == caption and np.array_equal(picture, image)


def test_a_limited_source_repeats():
    view = Limited(BOOK, n=5)
    assert view.epoch == 5 and view.name != BOOK.name
    for i in range(5):
        assert view.training_caption(i + 5, colour_jitter=True) == BOOK.training_caption(
            i, colour_jitter=False
        )
        image = BOOK.training_image(i, colour_jitter=False)
        for again in (view.training_image(i + 10, colour_jitter=True), view.crowded_image(i + 5)):
            assert np.array_equal(again, image)
    assert np.array_equal(view.image("validation", 7), BOOK.image("validation", 7))


def test_an_augmented_picture_keeps_what_its_caption_says():
    """Catches a mirror image of "left of", a shift that loses a thing, a light that changes a
    colour; and augmentation that changes nothing."""
    view, wrong, same = Augmented(BOOK), 0, 0
    for i in range(120):
        image = view.training_image(i, colour_jitter=False)
        assert image.dtype == np.uint8 and image.shape == (48, 48, 3)
        assert np.array_equal(image, view.training_image(i, colour_jitter=False))
        wrong += not judge.score(image, view.training_caption(i, colour_jitter=False)).facts.get(
            "relation", True
        )
        same += np.array_equal(image, BOOK.training_image(i, colour_jitter=False))
    assert wrong <= 12  # the judge reads whole cells, and shifts are finer
    assert same <= 6


@pytest.mark.parametrize("mirror", [True, False])
def test_augmentation_shifts_mirrors_and_dims(mirror):
    image = np.zeros((48, 48, 3), np.uint8)
    image[20:24, 4:8] = 200
    seen = [augment(image, seed, mirror) for seed in range(200)]
    centres = np.array([np.argwhere(s[..., 0]).mean(0) for s in seen])
    assert set(np.round(centres[:, 0] - 21.5)) == {-2, -1, 0, 1, 2}
    assert (centres[:, 1] > 24).any() == mirror
    light = {int(s.max()) for s in seen}
    assert min(light) < 190 and max(light) > 210 and min(light) >= 180 and max(light) <= 220


def test_mirrored_unless_the_caption_names_a_side():
    class Sides(Storybook):
        def training_caption(self, i, *, colour_jitter):
            return ("a red car left of a cat", "红色的汽车在猫的右边", "a bright car")[i % 3]

        def training_image(self, i, *, colour_jitter):
            image = np.zeros((48, 48, 3), np.uint8)
            image[:, :10] = 250
            return image

    view = Augmented(Sides())
    mirrored = [view.training_image(i, colour_jitter=False)[:, -1].mean() > 100 for i in range(150)]
    assert not any(mirrored[0::3]) and not any(mirrored[1::3])
    assert 10 < sum(mirrored[2::3]) < 40


def test_a_share_of_the_examples_is_replayed():
    """Catches a caption of one source with a picture of the other."""
    other = Storybook(seed=5)
    view = Replayed(BOOK, other, share=0.25)
    from_other = 0
    for i in range(200):
        caption = view.training_caption(i, colour_jitter=True)
        replayed = caption == other.training_caption(i, colour_jitter=False)
        source = other if replayed else BOOK
        assert caption == source.training_caption(i, colour_jitter=False)
        assert np.array_equal(
            view.training_image(i, colour_jitter=True),
            source.training_image(i, colour_jitter=False),
        )
        from_other += replayed
    assert 35 <= from_other <= 65
    assert view.name != BOOK.name
    assert np.array_equal(view.image("validation", 3), BOOK.image("validation", 3))
