"""Early stopping: a training ends when the validation loss no longer falls.

Every `validate_every` updates, the loss of held-out pictures is computed with the running mean of
the weights. The weights with the lowest loss so far are kept. After `patience` looks without a
lower one, training ends, and these weights are its result (Prechelt 1998).

Raising the number of updates then costs nothing: it is only a limit.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from minidalle.datasets.views import HeldOut
from minidalle.errors import MinidalleError
from minidalle.training import distributed
from minidalle.training.config import TrainConfig
from minidalle.training.stage import Inputs, Stage
from minidalle.training.trainer import Record

MAX_VALIDATION = 256  # held-out examples per look


@dataclass
class EarlyStopping:
    """The lowest validation loss so far, and the weights that had it."""

    validation_loss: Callable[[nn.Module], float]
    config: TrainConfig  # its validate_every and patience
    best_loss: float = math.inf
    best_step: int = 0
    looks_since: int = 0  # looks after the best one
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether training ends here."""
        return 0 < self.config.patience <= self.looks_since

    def look(self, record: Record, model: nn.Module) -> Record:
        """The record, with the validation loss of `model` where one is due."""
        every = self.config.validate_every
        if not every or record.step % every:
            return record
        loss = self.validation_loss(model)
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.looks_since = loss, record.step, 0
            self.best = copy.deepcopy(model.state_dict())
        else:
            self.looks_since += 1
        return record._replace(validation=loss)

    def dump(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """Tensors and metadata to add to a checkpoint; none before the first look."""
        if not self.best:
            return {}, {}
        best = {"loss": self.best_loss, "step": self.best_step, "looks_since": self.looks_since}
        return {"best": self.best}, {"best": best, "ended_early": self.is_over}

    def restore(self, tensors: dict[str, dict[str, Tensor]], metadata: dict[str, Any]) -> None:
        """Continue from a checkpoint that `dump` was a part of."""
        if saved := metadata.get("best"):
            self.best, self.best_loss = tensors["best"], saved["loss"]
            self.best_step, self.looks_since = saved["step"], saved["looks_since"]


def validation_loss(
    stage: Stage, given: Inputs, config: TrainConfig
) -> Callable[[nn.Module], float]:
    """The loss of a model on held-out examples, at most 256, the same ones and the same noise at
    each look. The stage's own loss without dropout of captions or merges, as at its last step."""
    source = HeldOut(given.source)
    n = min(MAX_VALIDATION, source.epoch or MAX_VALIDATION)
    if stage.distinct_captions:  # a batch holds each caption once, and there is one batch
        captions = {source.training_caption(i, colour_jitter=False) for i in range(n)}
        n = min(config.batch_size, len(captions))
    size = min(config.batch_size, n)
    size -= size % distributed.world_size()  # each process has as many rows
    preset = given.preset.without_dropout()
    objective = stage.objective(
        given._replace(source=source, preset=preset), TrainConfig(steps=1, batch_size=max(1, size))
    )

    @torch.no_grad()
    def loss(model: nn.Module) -> float:
        if not size:
            raise MinidalleError(
                f"{n} held-out examples are too few for {distributed.world_size()} processes: add"
                " pictures, or train without validate_every"
            )
        was_training, device = model.training, next(model.parameters()).device
        rows = distributed.local_rows(size, 0, 1)
        model.eval()
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            losses = [objective(model, step, 1.0, rows)[0].float() for step in range(n // size)]
        model.train(was_training)
        mean = torch.stack(losses).mean()
        distributed.all_reduce_mean([mean])  # so that all processes stop at the same step
        return mean.item()

    return loss
