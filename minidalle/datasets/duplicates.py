"""Pictures that occur twice: pixel for pixel, and nearly.

Nearly the same are copies that were scaled, saved again as JPEG, or touched up a little. A
*perceptual hash* finds them, a number that such changes leave alone (difference hash, dHash):

    picture ─ grey, 9 × 8 pixels ─ is each pixel brighter than its right neighbour? ─ 64 bits

Two hashes that differ in few bits make a candidate. The colours of 16 × 16 thumbnails decide, since
the hash knows none, and takes every clock for the same clock.
"""

import hashlib
from typing import NamedTuple

import numpy as np
from PIL import Image

BITS = 6  # of 64 in which the hashes of near duplicates may differ
# Differences of their thumbnails, of 255. Copies of emoji that were scaled and saved as JPEG of
# quality 40 differ by 5 at most on average, and 95 % of them by 44 at most in any pixel. Clocks
# that show another time differ by 58 or more in some pixel.
MEAN, LARGEST = 6.0, 48
STEP = 3  # grey levels that count as brighter: JPEG turns white into almost white
MOST = 30_000  # different pictures that are compared; each is compared with each


class Duplicates(NamedTuple):
    """Groups of at least two names each; the first name of a group comes first in the data."""

    exact: list[list[str]]
    near: list[list[str]]  # one name for each group of `exact`
    compared: int  # different pictures that were compared for `near`


def difference_hash(image: np.ndarray) -> int:
    """64 bits: whether a pixel is brighter than its right neighbour. image: uint8, H W 3."""
    grey = Image.fromarray(image).convert("L").resize((9, 8), Image.Resampling.BOX)
    values = np.asarray(grey, dtype=np.int16)
    bits = values[:, :-1] > values[:, 1:] + STEP  # 8 8
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def thumbnail(image: np.ndarray) -> np.ndarray:
    """The colours of a picture: uint8, 16 16 3."""
    return np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BOX))


class DuplicateFinder:
    """Collects pictures one by one, and keeps a few hundred bytes of each."""

    def __init__(self) -> None:
        self._groups: dict[bytes, list[str]] = {}  # names by the hash of the pixels
        self._hashes: list[int] = []
        self._thumbnails: list[np.ndarray] = []

    def add(self, name: str, image: np.ndarray) -> None:
        """Add a picture, uint8, H W 3; all are of one size."""
        group = self._groups.setdefault(hashlib.sha256(image.tobytes()).digest(), [])
        group.append(name)
        if len(group) == 1 and len(self._hashes) < MOST:
            self._hashes.append(difference_hash(image))
            self._thumbnails.append(thumbnail(image))

    def find(self) -> Duplicates:
        """The duplicates among all pictures so far."""
        groups, n = list(self._groups.values()), len(self._hashes)
        names = [group[0] for group in groups[:n]]
        hashes = np.array(self._hashes, dtype=np.uint64)
        near = _group(names, hashes, np.array(self._thumbnails, dtype=np.uint8))
        return Duplicates([g for g in groups if len(g) > 1], near, n)


def _group(names: list[str], hashes: np.ndarray, thumbnails: np.ndarray) -> list[list[str]]:
    """Each name that has no group yet, with all later ones that are near it."""
    groups = []
    free = np.ones(len(names), dtype=bool)
    for i in range(len(names)):
        if not free[i]:
            continue
        distance = np.bitwise_count(hashes[i + 1 :] ^ hashes[i])
        others = i + 1 + np.flatnonzero((distance <= BITS) & free[i + 1 :])
        difference = np.abs(thumbnails[others].astype(np.int16) - thumbnails[i])  # n 16 16 3
        mean, largest = difference.mean((1, 2, 3)), difference.max((1, 2, 3))
        others = others[(mean <= MEAN) & (largest <= LARGEST)]
        if len(others):
            free[others] = False
            groups.append([names[j] for j in (i, *others)])
    return groups
