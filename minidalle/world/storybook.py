"""The storybook: an endless data set of scenes, pictures, and captions in two languages.

Sample i of a split is a function of (split, seed, i), so there is no state to save.

    >>> book = Storybook()
    >>> scene = book.scene("validation", 7)
    >>> image, caption = book.image("validation", 7), book.caption("validation", 7, "en")
"""

import random
from dataclasses import dataclass

import numpy as np

from minidalle.world.captions import CaptionDetail, describe, parse
from minidalle.world.judge import holds
from minidalle.world.negatives import one_fact_changed, swapped
from minidalle.world.scenes import (
    Scene,
    colour_jittered,
    render,
    sample_crowded_scene,
    sample_scene,
)
from minidalle.world.vocabulary import LANGUAGES

# Training captions leave less open than those of validation: a model learns last which of two
# things is where, and in which colour. Captions of `compositions` always state the colour, since
# they test it.
FULL_DETAIL = CaptionDetail(colours=1.0, relation=1.0)
TRAIN_DETAIL = CaptionDetail(colours=0.9, relation=0.8)
DETAIL = {
    "train": TRAIN_DETAIL,
    "validation": CaptionDetail(),
    "compositions": CaptionDetail(colours=1.0),
}
JITTERED_SHARE = 0.75  # of the training pictures, 0 … 1, while colour jitter is on


@dataclass(frozen=True)
class Storybook:
    """The world as an endless source of training data (`datasets.source.Source`).

    size: pixels across a picture; seed: each seed gives another sample of every split; lone: only
    scenes of one thing, an easier world for a short training.
    """

    size: int = 48
    seed: int = 0
    lone: bool = False
    epoch: None = None  # there is no epoch, since samples do not repeat
    validation_size: None = None

    @property
    def name(self) -> str:
        """Tells this storybook from any other source."""
        lone = ", lone things" if self.lone else ""
        return f"the storybook, second edition, {self.size} pixels, seed {self.seed}{lone}"

    def scene(self, split: str, i: int) -> Scene:
        """Scene i of a split."""
        return sample_scene(f"{self.seed} {i}", split, self.lone)

    def image(self, split: str, i: int) -> np.ndarray:
        """Picture i of a split: uint8, size × size × 3."""
        return render(self.scene(split, i), self.size)

    def caption(self, split: str, i: int, language: str = "en") -> str:
        """Caption i of a split."""
        seed = f"{split} {self.seed} {i}"
        return describe(self.scene(split, i), language, seed, DETAIL[split])

    def crowded_image(self, i: int) -> np.ndarray:
        """Picture i for the dVAE: uint8, size × size × 3. Every fourth is a plain training scene,
        which has more of the backdrops."""
        if i % 4 == 0:
            return render(self.scene("train", i), self.size)
        return render(sample_crowded_scene(f"{self.seed} {i}"), self.size)

    def training_scene(self, i: int, *, colour_jitter: bool) -> Scene:
        """Training scene i; with colour jitter, 75 % of the scenes have jittered colours."""
        scene = self.scene("train", i)
        jittered = random.Random(f"shown {self.seed} {i}").random() < JITTERED_SHARE
        return colour_jittered(scene, f"{self.seed} {i}") if colour_jitter and jittered else scene

    def training_caption(self, i: int, *, colour_jitter: bool) -> str:
        """Caption of training scene i, in English for even i and in Chinese for odd i."""
        scene = self.training_scene(i, colour_jitter=colour_jitter)
        language, seed = LANGUAGES[i % len(LANGUAGES)], f"train {self.seed} {i}"
        return describe(scene, language, seed, TRAIN_DETAIL)

    def training_image(self, i: int, *, colour_jitter: bool) -> np.ndarray:
        """Picture of training scene i: uint8, size × size × 3."""
        return render(self.training_scene(i, colour_jitter=colour_jitter), self.size)

    def mismatched_caption(self, i: int) -> str:
        """Caption of training scene i with one fact changed: it is wrong for the picture."""
        scene, language = self.scene("train", i), LANGUAGES[i % len(LANGUAGES)]
        others = (one_fact_changed(scene, f"{i} {attempt}") for attempt in range(100))
        captions = (
            describe(other, language, f"train {self.seed} {i}", TRAIN_DETAIL)
            for other in others
            if other is not None
        )
        # A caption that leaves the changed fact open is right.
        return next(c for c in captions if not holds(parse(c), scene.facts).right)

    def contrastive_pairs(self, i: int, *, swaps_only: bool) -> list[tuple[str, np.ndarray]]:
        """Training pair i and a hard negative: the same scene swapped, or with one fact changed.

        swaps_only: return no pairs if the scene cannot be swapped; captions then state every fact.
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
