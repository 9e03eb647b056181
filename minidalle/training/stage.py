"""A row of the table of stages, and what it is made from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from minidalle.clip import CLIP
from minidalle.datasets.source import Source
from minidalle.dvae import DVAE
from minidalle.errors import MinidalleError
from minidalle.tokenizer import Tokenizer
from minidalle.training import distributed
from minidalle.training.presets import Preset
from minidalle.training.trainer import Objective, TrainConfig


class Inputs(NamedTuple):
    """What a stage is built from: the source, the preset, and what earlier stages gave."""

    source: Source
    preset: Preset
    device: torch.device
    tokenizer: Tokenizer | None = None
    dvae: DVAE | None = None
    clip: CLIP | None = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One model that is trained in steps."""

    needs: tuple[str, ...]  # the stages that it learns from
    model: Any  # the class of the model
    config: Any  # and of its config
    configure: Callable[[Inputs], Any]  # the preset's config, with sizes that earlier stages set
    objective: Callable[[Inputs, TrainConfig], Objective]
    prepare: Callable[[Any, Inputs], None] | None = None  # a new model, before its first step
    grow: Callable[[Any, Inputs], Any] | None = None  # a trained model, for these inputs
    min_batch_size: int = 1
    distinct_captions: bool = False  # whether no caption may occur twice in a batch

    def check(self, name: str, config: TrainConfig, source: Source) -> None:
        """Raises MinidalleError where a batch does not divide among processes and microbatches, is
        larger than the data, or is too small for the loss."""
        distributed.local_rows(config.batch_size, 0, config.accumulate)
        size, epoch = config.batch_size, source.epoch
        if size < self.min_batch_size:
            raise MinidalleError(
                "CLIP learns by telling the captions of a batch apart: choose a --batch-size of 2"
                " or more"
            )
        if epoch is None:
            return
        kind, available = "pictures", epoch
        if self.distinct_captions:
            kind = "different captions"
            available = len({source.caption("train", i) for i in range(epoch)})
        if available < size:
            smaller = f", or choose --batch-size {available} or less"
            raise MinidalleError(
                f"{name} needs {size} {kind} per batch and there are only {available} to train"
                f" on: add some{smaller if available >= self.min_batch_size else ''}"
            )
