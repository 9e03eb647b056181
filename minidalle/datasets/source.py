"""Sources of pictures and captions for training.

A source is a function: sample i of a split is always the same, and i has no upper limit. The
storybook world is one source; `FolderSource` makes one from a folder of pictures.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np

from minidalle.datasets.image_folder import CaptionedImageFolder
from minidalle.world.vocabulary import LANGUAGES

Pair = tuple[str, np.ndarray]  # a caption and its picture, uint8 H W 3


class Source(Protocol):
    """Pictures and captions for any index i ≥ 0. Pictures are uint8, H W 3 with H = W = size."""

    @property
    def size(self) -> int:
        """Pixels across a picture."""

    @property
    def name(self) -> str:
        """Identifies the source: a run resumes only with the source it began with."""

    @property
    def epoch(self) -> int | None:
        """Number of training pairs before they repeat; None if they never do."""

    @property
    def validation_size(self) -> int | None:
        """Number of pairs of the validation split before they repeat; None if they never do."""

    def image(self, split: str, i: int) -> np.ndarray:
        """Picture i of a split."""

    def caption(self, split: str, i: int, language: str = "en") -> str:
        """Caption i of a split."""

    def crowded_image(self, i: int) -> np.ndarray:
        """Picture i for the dVAE, which reads no captions."""

    def training_caption(self, i: int, *, colour_jitter: bool) -> str:
        """Caption i for the tokenizer and the prior: that of `training_image` i."""

    def training_image(self, i: int, *, colour_jitter: bool) -> np.ndarray:
        """Picture i for the prior, with colour jitter if asked for and supported."""

    def mismatched_caption(self, i: int) -> str:
        """A wrong caption of training picture i, for the GAN: one fact changed, if the source can,
        else the caption of another picture."""

    def contrastive_pairs(self, i: int, *, swaps_only: bool) -> Sequence[Pair]:
        """Training pair i for CLIP, and its hard negatives if the source has any.

        swaps_only: only pairs that are hard negatives of each other.
        """


class FolderSource:
    """A CaptionedImageFolder as a source: each epoch has every training pair once.

    About 10 % of the pictures are the validation split, and as many the test split, which no
    training looks at; with few pictures it may be empty.
    """

    def __init__(self, folder: CaptionedImageFolder, seed: int = 0) -> None:
        self.folder, self.seed, self.size = folder, seed, folder.image_size
        train, validation, test = folder.split(0.1, 0.1)
        self.splits = {"train": train, "validation": validation or train[:1], "test": test}
        self.epoch, self.validation_size = len(train), len(self.splits["validation"])
        # of names, pixels and captions, in training and validation: any change is another source
        self.name = f"{len(train)} captioned pictures ({folder.digest[:8]})"
        self.name += f", seed {seed}" if seed else ""

    def _index(self, split: str, i: int) -> int:
        members = self.splits[split]
        epoch, position = divmod(i, len(members))
        return members[_shuffle(len(members), self.seed, epoch)[position]]

    def image(self, split: str, i: int) -> np.ndarray:
        return self.folder.image(self._index(split, i))

    def caption(self, split: str, i: int, language: str = "en") -> str:
        return self.folder.caption(self._index(split, i))

    def crowded_image(self, i: int) -> np.ndarray:
        return self.image("train", i)

    def training_caption(self, i: int, *, colour_jitter: bool) -> str:
        return self.caption("train", i)

    def training_image(self, i: int, *, colour_jitter: bool) -> np.ndarray:
        return self.image("train", i)  # without jitter, since captions may state colours

    def mismatched_caption(self, i: int) -> str:
        own = self.caption("train", i)
        others = (self.caption("train", i + k) for k in range(1, 100))
        return next((caption for caption in others if caption != own), own)

    def contrastive_pairs(self, i: int, *, swaps_only: bool) -> Sequence[Pair]:
        return [(self.caption("train", i), self.image("train", i))]


@lru_cache(maxsize=4)
def _shuffle(n: int, seed: int, epoch: int) -> np.ndarray:
    """0 … n − 1 in the order of an epoch; cached, since every sample of the epoch needs it."""
    return np.random.default_rng((seed, epoch)).permutation(n)


def bilingual_caption(source: Source, split: str, i: int) -> str:
    """Caption i, in English for even i and in Chinese for odd i."""
    return source.caption(split, i, LANGUAGES[i % len(LANGUAGES)])
