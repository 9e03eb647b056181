"""Audit a model: how it shares out what a caption leaves open, and what it has learnt by heart.

total variation  ½ Σ |p − q|: the share that must change hands to make p out of q
tempered         what temperature makes of shares: p^(1/τ), normalised
Wilson           the interval of a share that was counted
exposure         log₂ n − log₂ rank of a secret among the n texts that it might have been
                 (Carlini et al. 2019): how many bits a model gives away to whoever may guess
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from minidalle.prior import Prior
from minidalle.tokenizer import Tokenizer
from minidalle.world import judge

Shares = Mapping[str, float]  # by name; they sum to 1


def shares_of(items: Iterable[str | None], names: Sequence[str]) -> dict[str, float]:
    """The share of each name among the items; items of no name are left out."""
    counts = Counter(item for item in items if item in names)
    return {name: counts[name] / max(1, counts.total()) for name in names}


def total_variation(p: Shares, q: Shares) -> float:
    """Half the sum of all differences, 0 … 1."""
    return sum(abs(p.get(name, 0.0) - q.get(name, 0.0)) for name in p.keys() | q.keys()) / 2


def tempered(p: Shares, temperature: float) -> dict[str, float]:
    """The shares of a single choice at a temperature, from those at temperature 1."""
    top = max(p.values())
    powers = {name: (share / top) ** (1 / temperature) for name, share in p.items()}
    total = sum(powers.values())
    return {name: power / total for name, power in powers.items()}


def wilson(count: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a share, of which `count` in n were counted (Wilson 1927)."""
    p, extra = count / n, z * z / n
    middle = (p + extra / 2) / (1 + extra)
    half = z * math.sqrt(p * (1 - p) / n + extra / (4 * n)) / (1 + extra)
    return middle - half, middle + half


def colours_of(images: Iterable[np.ndarray], kind: str) -> list[str | None]:
    """The colour of the first thing of a kind in each picture; None where there is none."""
    found = []
    for image in images:
        things = (f.thing for f in judge.read(image).found)
        found.append(next((t.colour for t in things if t and t.kind == kind), None))
    return found


@torch.no_grad()
def caption_nats(
    prior: Prior, tokenizer: Tokenizer, captions: Sequence[str], batch: int = 100
) -> Tensor:
    """−ln p of each caption as the prior models text; the picture is not needed."""
    length, device = prior.config.text_length, prior.start.device
    angles = None if prior.angles is None else prior.angles[: 1 + length]
    masks, nats = prior.masks(0, 1 + length), []
    for start in range(0, len(captions), batch):
        text = tokenizer.batch(captions[start : start + batch], length).to(device)  # B T
        y = prior.transformer(prior.embed_text(text), masks, angles=angles)
        log_p = prior.text_head(y[:, :length]).float().log_softmax(-1)  # B T vocabulary
        is_word = text < prior.config.vocab_size
        own = log_p.gather(-1, text.where(is_word, 0)[..., None])[..., 0]
        nats.append(-(own * is_word).sum(1).cpu())
    return torch.cat(nats)


def exposure(nats: Tensor, i: int) -> float:
    """Exposure of text i among all, in bits: log₂ n where the model finds none more likely, and
    about 1.4 on average where it knows nothing of it."""
    rank = 1 + int((nats < nats[i]).sum())
    return math.log2(len(nats) / rank)
