"""Where pictures and captions come from, and how they get in and out of tensors.

A source is a function: sample i of a split is always the same, and there is no end to them. The
storybook world is one; `FolderSource` makes another of one's own pictures.
"""

import hashlib
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from minidalle.datasets.image_folder import ImageFolder
from minidalle.world.captions import LANGUAGES


class Source(Protocol):
    """Where pictures and captions come from: sample i of a split, always the same."""

    size: int  # pixels across
    name: str  # tells this source from any other: a run goes on with the one it began with
    epoch: int | None  # training pairs before they come again; None: never

    def image(self, split: str, i: int) -> np.ndarray: ...  # uint8 H W 3

    def page(self, i: int) -> np.ndarray: ...  # a picture for the dVAE, uint8 H W 3

    def caption(self, split: str, i: int, language: str = "en") -> str: ...


class FolderSource:
    """An ImageFolder as an endless source: each epoch shows every training pair once.

    About a tenth of the pictures are its validation split, and are not trained on.
    """

    def __init__(self, folder: ImageFolder, seed: int = 0) -> None:
        self.folder, self.seed, self.size = folder, seed, folder.image_size
        train, validation = folder.split()
        self.splits = {"train": train, "validation": validation or train[:1]}
        self.epoch = len(train)
        captions = "\n".join(folder.caption(i) for i in train)
        digest = hashlib.sha256(captions.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        self.name = f"{len(train)} captioned pictures ({digest})"

    def _index(self, split: str, i: int) -> int:
        members = self.splits[split]
        epoch, place = divmod(i, len(members))
        return members[_shuffled(len(members), self.seed, epoch)[place]]

    def image(self, split: str, i: int) -> np.ndarray:
        return self.folder.image(self._index(split, i))

    def page(self, i: int) -> np.ndarray:
        return self.image("train", i)

    def caption(self, split: str, i: int, language: str = "en") -> str:
        return self.folder.caption(self._index(split, i))


@lru_cache(maxsize=4)
def _shuffled(n: int, seed: int, epoch: int) -> np.ndarray:
    """0 … n − 1 in the order of an epoch; kept, since every sample of the epoch asks for it."""
    return np.random.default_rng((seed, epoch)).permutation(n)


def to_tensor(images: list[np.ndarray] | np.ndarray, device: torch.device) -> Tensor:
    """uint8 pictures, B H W 3, to B 3 H W in [0, 1]."""
    batch = torch.from_numpy(np.stack(images)).to(device)
    return batch.permute(0, 3, 1, 2).float().div_(255)


def to_uint8(images: Tensor) -> np.ndarray:
    """B 3 H W in [0, 1] to uint8 pictures, B H W 3."""
    return (images * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def caption_of(source: Source, split: str, i: int) -> str:
    """Caption i, in the languages by turns."""
    return source.caption(split, i, LANGUAGES[i % len(LANGUAGES)])
