"""Duplicates: exact ones by their pixels, near ones by hash and thumbnail."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from minidalle.datasets import duplicates
from minidalle.datasets.duplicates import DuplicateFinder, difference_hash


def scene(seed, size=48):
    """Some coloured shapes on white."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (96, 96), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        x, y = rng.integers(0, 60, 2).tolist()
        colour = tuple(rng.integers(0, 256, 3).tolist())
        draw.ellipse((x, y, x + 30, y + 30), fill=colour)
    return np.asarray(image.resize((size, size)))


def saved_as_jpeg(image, quality):
    data = io.BytesIO()
    Image.fromarray(image).resize((64, 64)).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data).resize((48, 48)))


def find_duplicates(pictures):
    finder = DuplicateFinder()
    for name, image in pictures:
        finder.add(name, image)
    return finder.find()


def test_the_hash_is_the_loop_of_its_definition():
    """The reference: a bit wherever a pixel is brighter by more than STEP than the next."""
    image = scene(1)
    grey = np.asarray(Image.fromarray(image).convert("L").resize((9, 8), Image.Resampling.BOX))
    value = 0
    for y in range(8):
        for x in range(8):
            value = 2 * value + (int(grey[y, x]) > int(grey[y, x + 1]) + duplicates.STEP)
    assert difference_hash(image) == value > 0


def test_groups_of_the_same_and_of_nearly_the_same():
    pictures = [(f"{seed}", scene(seed)) for seed in range(20)]
    pictures += [("3 again", scene(3)), ("3 once more", scene(3))]
    pictures += [(f"{seed}.jpg", saved_as_jpeg(scene(seed), 60)) for seed in (3, 5, 8)]
    exact, near, compared = find_duplicates(pictures)
    assert exact == [["3", "3 again", "3 once more"]]
    assert near == [["3", "3.jpg"], ["5", "5.jpg"], ["8", "8.jpg"]]
    assert compared == 23


@pytest.mark.parametrize("colour", ["blue", (255, 120, 0)])
def test_the_same_shape_in_another_colour_is_another_picture(colour):
    """Catches a hash that knows no colours and has the last word."""
    images = []
    for fill in ("red", colour):
        image = Image.new("RGB", (48, 48), "white")
        ImageDraw.Draw(image).ellipse((8, 8, 40, 40), fill=fill)
        images.append(np.asarray(image))
    assert difference_hash(images[0]) == difference_hash(images[1])
    assert not find_duplicates(zip("ab", images, strict=True)).near


def test_none_at_all_and_images_of_one_pixel():
    assert find_duplicates([]) == ([], [], 0)
    one = [(str(i), np.full((1, 1, 3), 100 * i, np.uint8)) for i in range(3)]
    assert find_duplicates(one) == ([], [], 3)


def test_no_more_than_the_limit_are_compared(monkeypatch):
    """Catches hours for a million pictures; exact ones are found among all of them."""
    monkeypatch.setattr(duplicates, "MOST", 2)
    pictures = [("a", scene(1)), ("b", scene(2)), ("c", scene(3)), ("c2", scene(3))]
    pictures.append(("a.jpg", saved_as_jpeg(scene(1), 60)))
    assert find_duplicates(pictures) == ([["c", "c2"]], [], 2)
