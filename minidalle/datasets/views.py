"""Sources made from other sources: held out, fewer, augmented, mixed with the storybook.

HeldOut     the pictures of a held-out split in place of the training pictures, for its loss
Limited     the first n training pictures only, again and again: a data set that can be learnt
            by heart
Augmented   each training picture shifted, mirrored and in another light, differently each time
Replayed    a share of the examples from another source, so that what was learnt there stays
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minidalle.datasets.source import Pair, Source, bilingual_caption

SIDES = re.compile(r"\b(?:left|right)\b|[左右]", re.IGNORECASE)  # a mirror would make them wrong
MAX_SHIFT = 2 / 48  # of the side of a picture
LIGHT = 0.1  # by which an augmented picture is brighter or darker, at most


@dataclass(frozen=True)
class View:
    """A source that shows another one as it is; the views below change a part of it."""

    source: Source

    @property
    def size(self) -> int:
        return self.source.size

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def epoch(self) -> int | None:
        return self.source.epoch

    @property
    def validation_size(self) -> int | None:
        return self.source.validation_size

    def image(self, split: str, i: int) -> np.ndarray:
        return self.source.image(split, i)

    def caption(self, split: str, i: int, language: str = "en") -> str:
        return self.source.caption(split, i, language)

    def crowded_image(self, i: int) -> np.ndarray:
        return self.source.crowded_image(i)

    def training_caption(self, i: int, *, colour_jitter: bool) -> str:
        return self.source.training_caption(i, colour_jitter=colour_jitter)

    def training_image(self, i: int, *, colour_jitter: bool) -> np.ndarray:
        return self.source.training_image(i, colour_jitter=colour_jitter)

    def mismatched_caption(self, i: int) -> str:
        return self.source.mismatched_caption(i)

    def contrastive_pairs(self, i: int, *, swaps_only: bool) -> Sequence[Pair]:
        return self.source.contrastive_pairs(i, swaps_only=swaps_only)


@dataclass(frozen=True)
class HeldOut(View):
    """A held-out split as if it were trained on, without colour jitter: what is lost on it is a
    validation loss."""

    split: str = "validation"

    @property
    def epoch(self) -> int | None:
        return self.source.validation_size

    def crowded_image(self, i: int) -> np.ndarray:
        return self.source.image(self.split, i)

    def training_caption(self, i: int, *, colour_jitter: bool) -> str:
        return bilingual_caption(self.source, self.split, i)

    def training_image(self, i: int, *, colour_jitter: bool) -> np.ndarray:
        return self.source.image(self.split, i)

    def mismatched_caption(self, i: int) -> str:
        return bilingual_caption(self.source, self.split, i + 1)

    def contrastive_pairs(self, i: int, *, swaps_only: bool) -> Sequence[Pair]:
        return [(bilingual_caption(self.source, self.split, i), self.crowded_image(i))]


@dataclass(frozen=True)
class Limited(View):
    """The first n training examples of a source, again and again.

    The dVAE sees the same n pictures as the prior and CLIP.
    """

    n: int = 200

    @property
    def name(self) -> str:
        return f"the first {self.n} of {self.source.name}"

    @property
    def epoch(self) -> int | None:
        return self.n

    def crowded_image(self, i: int) -> np.ndarray:
        return self.source.training_image(i % self.n, colour_jitter=False)

    def training_caption(self, i: int, *, colour_jitter: bool) -> str:
        return self.source.training_caption(i % self.n, colour_jitter=False)

    def training_image(self, i: int, *, colour_jitter: bool) -> np.ndarray:
        return self.source.training_image(i % self.n, colour_jitter=False)

    def mismatched_caption(self, i: int) -> str:
        return self.source.mismatched_caption(i % self.n)

    def contrastive_pairs(self, i: int, *, swaps_only: bool) -> Sequence[Pair]:
        i %= self.n
        caption = self.source.training_caption(i, colour_jitter=False)
        return [(caption, self.source.training_image(i, colour_jitter=False))]


@dataclass(frozen=True)
class Augmented(View):
    """Training pictures shifted by up to 1/24 of their side, mirrored every other time unless the
    caption says left or right, and up to 10 % brighter or darker. Example i is always the same."""

    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.source.name}, augmented"

    def crowded_image(self, i: int) -> np.ndarray:
        return augment(self.source.crowded_image(i), f"crowded {self.seed} {i}", mirror=True)

    def training_image(self, i: int, *, colour_jitter: bool) -> np.ndarray:
        image = self.source.training_image(i, colour_jitter=colour_jitter)
        caption = self.source.training_caption(i, colour_jitter=colour_jitter)
        return augment(image, f"{self.seed} {i}", mirror=not SIDES.search(caption))

    def contrastive_pairs(self, i: int, *, swaps_only: bool) -> Sequence[Pair]:
        pairs = self.source.contrastive_pairs(i, swaps_only=swaps_only)
        mirror = not any(SIDES.search(caption) for caption, _ in pairs)
        # The same change for all of them: they are to differ in what their captions say.
        return [(c, augment(image, f"clip {self.seed} {i}", mirror)) for c, image in pairs]


def augment(image: np.ndarray, seed: int | str, mirror: bool) -> np.ndarray:
    """Shift, mirror every other time where `mirror`, and change the light: uint8, S S 3.

    The edge is repeated where a shift leaves a gap.
    """
    rng = random.Random(f"augment {seed}")
    most = round(MAX_SHIFT * len(image))
    down, across = rng.randint(-most, most), rng.randint(-most, most)
    light = 1 + rng.uniform(-LIGHT, LIGHT)
    at = np.arange(len(image))
    rows, columns = (np.clip(at - shift, 0, len(at) - 1) for shift in (down, across))
    shifted = image[rows[:, None], columns]
    if mirror and rng.random() < 0.5:
        shifted = shifted[:, ::-1]
    return np.clip(shifted * light, 0, 255).round().astype(np.uint8)


@dataclass(frozen=True)
class Replayed(View):
    """A share of the training examples comes from `world`, at random (experience replay).

    A model that goes on with new pictures alone forgets what it knew (McCloskey and Cohen 1989).
    """

    world: Source | None = None
    share: float = 0.25  # 0 … 1

    @property
    def name(self) -> str:
        assert self.world
        return f"{self.source.name}, and {self.share:g} of {self.world.name}"

    def _at(self, i: int) -> Source:
        """The source of example i."""
        assert self.world
        return self.world if random.Random(f"replay {i}").random() < self.share else self.source

    def crowded_image(self, i: int) -> np.ndarray:
        return self._at(i).crowded_image(i)

    def training_caption(self, i: int, *, colour_jitter: bool) -> str:
        return self._at(i).training_caption(i, colour_jitter=False)

    def training_image(self, i: int, *, colour_jitter: bool) -> np.ndarray:
        return self._at(i).training_image(i, colour_jitter=False)

    def mismatched_caption(self, i: int) -> str:
        return self._at(i).mismatched_caption(i)

    def contrastive_pairs(self, i: int, *, swaps_only: bool) -> Sequence[Pair]:
        # In a batch of swapped pairs alone there would be none of the new pictures.
        return self._at(i).contrastive_pairs(i, swaps_only=False)
