"""The storybook: scenes, pictures and captions in two languages as an endless data set.

Data is a function: sample i of a split is f(split, seed, i), with no state to save or lose.

    >>> book = Storybook()
    >>> scene = book.scene("validation", 7)
    >>> image, caption = book.image("validation", 7), book.caption("validation", 7, "en")
"""

import random
from dataclasses import dataclass

import numpy as np

from minidalle.world.captions import LANGUAGES, CaptionDetail, describe
from minidalle.world.scenes import (
    Scene,
    colour_jittered,
    one_fact_changed,
    render,
    sample_crowded_scene,
    sample_scene,
    swapped,
)

# How much captions state. Training leaves less open than validation: which of two things is where,
# and in which colour, is learnt last.
FULL_DETAIL = CaptionDetail(colours=1.0, relation=1.0)
TRAIN_DETAIL = CaptionDetail(colours=0.9, relation=0.8)
DETAIL = {
    "train": TRAIN_DETAIL,
    "validation": CaptionDetail(),
    "compositions": CaptionDetail(colours=1.0),
}
JITTERED_SHARE = 0.75  # of the training pictures, while colour jitter is on


@dataclass(frozen=True)
class Storybook:
    """The world as an endless source of training data (`datasets.source.Source`).

    size: pixels across a picture; seed: another seed is another draw of every split.
    """

    size: int = 48
    seed: int = 0
    epoch: None = None  # no pair need come again

    @property
    def name(self) -> str:
        return f"the storybook of {self.size} pixels, seed {self.seed}"

    def scene(self, split: str, i: int) -> Scene:
        return sample_scene(f"{self.seed} {i}", split)

    def image(self, split: str, i: int) -> np.ndarray:
        """uint8, size × size × 3."""
        return render(self.scene(split, i), self.size)

    def caption(self, split: str, i: int, language: str = "en") -> str:
        """Captions of `compositions` always state the colour: that is what they test."""
        seed = f"{split} {self.seed} {i}"
        return describe(self.scene(split, i), language, seed, DETAIL[split])

    def crowded_image(self, i: int) -> np.ndarray:
        """Crowded picture i, for the dVAE: uint8, size × size × 3."""
        return render(sample_crowded_scene(f"{self.seed} {i}"), self.size)

    def training_image(self, i: int, *, colour_jitter: bool) -> np.ndarray:
        """Training picture i; with colour jitter, three in four have shades of their colours."""
        scene = self.scene("train", i)
        jittered = random.Random(f"shown {self.seed} {i}").random() < JITTERED_SHARE
        if colour_jitter and jittered:
            scene = colour_jittered(scene, f"{self.seed} {i}")
        return render(scene, self.size)

    def contrastive_pairs(self, i: int, *, swaps_only: bool) -> list[tuple[str, np.ndarray]]:
        """Training pair i and a hard negative: its two things swapped, or one fact changed.

        swaps_only: nothing unless its things can be swapped, and captions that state everything.
        """
        scene = self.scene("train", i)
        other = swapped(scene, i)
        if other is None and not swaps_only:
            other = one_fact_changed(scene, i)
        if other is None:
            return []
        detail = FULL_DETAIL if swaps_only else TRAIN_DETAIL
        language = LANGUAGES[i % len(LANGUAGES)]
        return [
            (describe(s, language, f"clip {i}", detail), render(s, self.size))
            for s in (scene, other)
        ]
