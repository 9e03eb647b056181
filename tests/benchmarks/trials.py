"""What the benchmarks that train small priors share: losses, drawings, reports that resume."""

import json
from collections import deque
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minidalle.datasets.source import Source
from minidalle.prior import Prior
from minidalle.sampling import SamplingConfig, candidate_generators, sample_codes
from minidalle.tensors import to_uint8
from minidalle.training.presets import CLASS
from minidalle.training.stage import Inputs
from minidalle.training.stages import STAGES
from minidalle.training.trainer import TrainConfig
from minidalle.world import judge


@torch.no_grad()
def image_loss(prior: nn.Module, source: Source, n: int, given: Inputs) -> float:
    """Nats per code on the first n training examples of a source, nothing left out."""
    given = given._replace(source=source, preset=CLASS.without_dropout())
    size = min(16, n)
    objective = STAGES["prior"].objective(given, TrainConfig(steps=1, batch_size=size))
    losses = [objective(prior, step, 1.0, range(size))[2] for step in range(n // size)]
    return torch.stack(losses).mean().item()


@torch.no_grad()
def draw(
    prior: Prior, captions: list[str], given: Inputs, sampling: SamplingConfig, seed: int = 0
) -> Tensor:
    """The codes of the first drawing of each caption, B N."""
    assert given.tokenizer
    length = prior.config.text_length
    text = given.tokenizer.batch(captions, length)
    empty = given.tokenizer.empty_captions(1, length)
    generators = candidate_generators(seed, len(captions))
    return deque(sample_codes(prior, text, empty, sampling, generators), maxlen=1).pop()


def decode(codes: Tensor, given: Inputs) -> np.ndarray:
    """Pictures of codes B N: uint8 B H W 3."""
    assert given.dvae
    grid = given.dvae.config.grid
    with torch.no_grad():
        return to_uint8(given.dvae.decode(codes.view(-1, grid, grid)))


def shares_right(images: np.ndarray, captions: list[str]) -> dict[str, float]:
    """The share of pictures that are right in all facts, and the share of facts that are right."""
    verdicts = [judge.score(x, c) for x, c in zip(images, captions, strict=True)]
    facts = [holds for verdict in verdicts for holds in verdict.facts.values()]
    return {
        "right": round(sum(v.right for v in verdicts) / len(captions), 4),
        "facts_right": round(sum(facts) / len(facts), 4),
    }


def begin(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The report so far. Raises SystemExit where it belongs to another bundle or other settings."""
    if not out.exists():
        return {"settings": settings, "rows": [], "drawings": {}}
    report: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    if report["settings"] != settings:
        raise SystemExit(f"{out} has other settings or another bundle: move it away")
    return report


def missing(report: dict[str, Any], names: list[str], seeds: list[int]) -> list[tuple[int, str]]:
    """Seed by seed, so that the whole table is there early, with one seed."""
    done = {(row["seed"], row["row"]) for row in report["rows"]}
    return [pair for pair in product(seeds, names) if pair not in done]
