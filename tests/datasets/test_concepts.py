"""Which pictures belong together."""

import numpy as np
from PIL import Image

from minidalle.datasets.concepts import MOST_ALIKE, group_concepts
from minidalle.datasets.duplicates import Duplicates
from minidalle.datasets.image_folder import CaptionedImageFolder

NONE = Duplicates([], [], 0)


def grouped(pairs, duplicates=NONE):
    return sorted(sorted(group) for group in group_concepts(pairs, duplicates))


def test_a_caption_in_whatever_spelling_joins_its_pictures():
    pairs = [("a", "A cat"), ("a", "一只猫"), ("b", "a  cat"), ("c", "一只猫"), ("d", "a dog")]
    assert grouped(pairs) == [["a", "b", "c"], ["d"]]


def test_duplicates_join_chains_of_pictures():
    """Catches groups that overlap, so that a picture is in two splits."""
    pairs = [(name, name) for name in "abcdef"]
    duplicates = Duplicates([["a", "b"], ["e", "f"]], [["b", "c"], ["c", "e"]], 6)
    assert grouped(pairs, duplicates) == [["a", "b", "c", "e", "f"], ["d"]]


def test_a_label_of_many_pictures_joins_none():
    """Catches a folder in which every caption is "a photo", with nothing left for validation."""
    pairs = [(str(i), "a photo") for i in range(MOST_ALIKE + 1)]
    assert len(grouped(pairs)) == MOST_ALIKE + 1
    assert len(grouped(pairs[1:])) == 1


def test_no_twin_is_in_two_splits(tmp_path):
    """The same concept in three styles, and copies: each whole in one of the three splits."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(60):
        for style in "abc":
            image = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
            image.save(tmp_path / f"{i} {style}.png")
            rows.append((f"{i} {style}.png", f"thing {i}"))
        image.save(tmp_path / f"copy of {i}.png")
        rows.append((f"copy of {i}.png", f"something else {i}"))
    lines = "".join(f"{name},{caption}\n" for name, caption in rows)
    (tmp_path / "metadata.csv").write_text("file_name,text\n" + lines)
    folder = CaptionedImageFolder(tmp_path, 16)
    splits = folder.split(0.2, 0.2)
    assert sorted(i for side in splits for i in side) == list(range(240))
    numbers = [{folder.caption(i).split()[-1] for i in side} for side in splits]
    assert not (numbers[0] & numbers[1] or numbers[0] & numbers[2] or numbers[1] & numbers[2])
    assert all(4 <= len(side) <= 24 for side in numbers[1:])
