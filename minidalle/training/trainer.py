"""One training loop for every model: `fit` is a generator, and the caller decides the rest.

    state = TrainState.start(model, config)
    for record in fit(state, objective):       # yields one record per step
        print(record)                          # … or plot it, stop, save, draw a sample

`objective(model, step, progress, rows)` makes some rows of the step's batch and returns their
losses, a NamedTuple whose first field is minimised. Data is a function of the step, and the RNG is
reseeded every step, so a run that is stopped and resumed ends bit for bit like an unbroken one.
"""

import copy
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from minidalle.bundle import load_weights
from minidalle.errors import MinidalleError
from minidalle.tensors import autocast, out_of_memory
from minidalle.training import distributed
from minidalle.training.config import TrainConfig
from minidalle.training.optimizers import make_optimizers

# (model, step, progress 0..1, rows of the batch) → losses. Of a batch of n at a step, row r is
# training example step · n + r.
Objective = Callable[[Any, int, float, range], NamedTuple]
FLAT = StateDictOptions(flatten_optimizer_state_dict=True)  # keys are parameter names


class Record(NamedTuple):
    """One step of `fit`."""

    step: int  # updates made, from 1
    steps: int  # updates in all
    losses: dict[str, float]  # by name, before the update
    lr: float
    grad_norm: float  # before clipping
    images_per_second: float
    validation: float | None = None  # the loss of held-out examples, where it was computed


@dataclass
class TrainState:
    """Everything a run consists of: weights, their running mean, the optimizers, the step."""

    model: nn.Module
    ema: nn.Module
    optimizers: list[torch.optim.Optimizer]
    config: TrainConfig
    step: int = 0

    @classmethod
    def start(cls, model: nn.Module, config: TrainConfig) -> "TrainState":
        ema = copy.deepcopy(model).requires_grad_(False).eval()
        return cls(model, ema, make_optimizers(model, config), config)

    def dump(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """Tensors and metadata for `checkpoint.save`."""
        optimizer: dict[str, Any] = {}
        if self.optimizers[0].state:  # before, torch would make it up with a step of zeros
            optimizer = get_optimizer_state_dict(self.model, self.optimizers, options=FLAT)
        tensors = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": {k: v for k, v in optimizer.items() if isinstance(v, Tensor)},
        }
        metadata = {
            "step": self.step,
            "train_config": asdict(self.config),
            "world_size": distributed.world_size(),
            "threads": torch.get_num_threads(),
            "model_config": asdict(self.model.config),  # type: ignore[call-overload]
            "optimizer": {k: v for k, v in optimizer.items() if not isinstance(v, Tensor)},
        }
        return tensors, metadata

    def restore(
        self, tensors: dict[str, dict[str, Tensor]], metadata: dict[str, Any], file: Path
    ) -> None:
        """Continue from a checkpoint.

        Raises MinidalleError where it belongs to another model, or was trained with other settings:
        the result would be neither the one run nor the other.
        """
        now = json.loads(json.dumps(asdict(self.config)))
        then = metadata["train_config"]
        usual = json.loads(json.dumps(asdict(TrainConfig(steps=1))))
        then = {**usual, **then}  # a field that is younger than the checkpoint had its usual value
        fixed = [k for k in now if k != "accumulate"]
        changed = [f"{k} was {then[k]} and is {now[k]}" for k in fixed if then[k] != now[k]]
        if changed:
            raise MinidalleError(
                f"{file} was trained otherwise: {', '.join(changed)}; continue with the settings"
                " that it began with, or choose another --out"
            )
        world_size, parts = metadata["world_size"], then["accumulate"]
        difference = ""
        if world_size != distributed.world_size():
            difference = f"by {world_size} processes and now there are {distributed.world_size()}"
        elif parts != now["accumulate"]:
            difference = f"in {parts} microbatches and now there are {now['accumulate']}"
        elif metadata.get("threads") != torch.get_num_threads():
            threads = torch.get_num_threads()
            difference = f"by {metadata.get('threads')} threads and now there are {threads}"
        if difference:
            warnings.warn(
                f"{file} was trained {difference}: the same pictures in the same order, but no"
                " longer bit for bit the same weights",
                stacklevel=2,
            )
        configs = {"config": self.model.config, "saved_config": metadata["model_config"]}
        load_weights(self.model, tensors["model"], file=file, **configs)
        load_weights(self.ema, tensors["ema"], file=file, **configs)
        groups = {
            k: tuple(v) if isinstance(v, list) else v for k, v in metadata["optimizer"].items()
        }
        optimizer: dict[str, Any] = {**tensors["optimizer"], **groups}
        if optimizer:
            set_optimizer_state_dict(self.model, self.optimizers, optimizer, options=FLAT)
        self.step = metadata["step"]


def lr_at(step: int, config: TrainConfig) -> float:
    """The learning rate of a step: a linear rise, then half a cosine down."""
    rise = min(1.0, (step + 1) / max(1, config.warmup_steps))
    fall = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.lr * rise * (config.final_lr_ratio + (1 - config.final_lr_ratio) * fall)


def fit(state: TrainState, objective: Objective) -> Iterator[Record]:
    """Train from where `state` is to its end, one record per step. Stop by leaving the loop.

    Raises MinidalleError when the loss is no longer finite, naming the step and the term, before
    any harm is done: `state` is still as the step found it.
    """
    config, model = state.config, state.model
    device = next(model.parameters()).device
    while state.step < config.steps:
        began = time.perf_counter()
        model.train()
        buffers = [buffer.clone() for buffer in model.buffers()]  # running statistics, if any
        torch.manual_seed(config.seed * 1_000_003 + state.step + (distributed.rank() << 40))
        lr = lr_at(state.step, config)
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * lr / config.lr
        model.zero_grad(set_to_none=True)
        try:
            microbatch_losses = [
                _backward(state, objective, device, i) for i in range(config.accumulate)
            ]
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise MinidalleError(
                f"out of memory on {device} at batch size {config.batch_size}:"
                f" {_smaller_batch_advice(config)}"
            ) from error
        names = microbatch_losses[0]._fields
        values = torch.stack([torch.stack(losses) for losses in microbatch_losses]).mean(0)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        distributed.all_reduce_mean([*gradients, values, *_running_statistics(model)])
        grad_norm = nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm).item()
        losses = dict(zip(names, values.tolist(), strict=True))
        # The terms are checked before their sum: the message should name what went wrong first.
        for name, value in [*[(n, losses[n]) for n in (*names[1:], names[0])],
                            ("gradient", grad_norm)]:  # fmt: skip
            if not math.isfinite(value):
                for buffer, kept in zip(model.buffers(), buffers, strict=True):
                    buffer.copy_(kept)
                raise MinidalleError(
                    f"step {state.step + 1}: {name} is {value}. Nothing of this step was kept;"
                    f" train again with a lower learning rate ({config.lr / 2:g}, or --lr"
                    f" {config.lr / 2:g})"
                )
        for optimizer in state.optimizers:
            optimizer.step()
        state.step += 1
        _update_ema(state)
        speed = config.batch_size / (time.perf_counter() - began)
        yield Record(state.step, config.steps, losses, lr, grad_norm, speed)


def _smaller_batch_advice(config: TrainConfig) -> str:
    """What to do with a batch that does not fit: more microbatches, or fewer examples."""
    rows = config.batch_size // distributed.world_size()
    finer = (n for n in range(config.accumulate + 1, rows + 1) if rows % n == 0)
    parts, half = next(finer, None), max(1, config.batch_size // 2)
    again = f"begin again with a batch size of {half} (--batch-size {half})"
    if parts is None:
        return again
    return (
        f"compute it in microbatches (accumulate {parts}, or --accumulate {parts}; CLIP's cannot"
        f" be), or {again}"
    )


def _backward(
    state: TrainState, objective: Objective, device: torch.device, microbatch: int
) -> NamedTuple:
    """Add the gradient of one microbatch; its losses, detached."""
    config = state.config
    rows = distributed.local_rows(config.batch_size, microbatch, config.accumulate)
    with autocast(device):
        losses = objective(state.model, state.step, state.step / config.steps, rows)
    (losses[0] / config.accumulate).backward()
    return type(losses)(*(loss.detach().float() for loss in losses))


def _running_statistics(model: nn.Module) -> list[Tensor]:
    """Running means that a model keeps: the only buffers that a batch changes."""
    return [buffer for buffer in model.buffers() if buffer.is_floating_point()]


@torch.no_grad()
def _update_ema(state: TrainState) -> None:
    """Move the running mean of the weights; its decay starts small and grows to its full value."""
    decay = min(state.config.ema_decay, (1 + state.step) / (10 + state.step))
    mean: list[Tensor] = list(state.ema.parameters())
    now = [p.detach() for p in state.model.parameters()]
    torch._foreach_lerp_(mean, now, 1 - decay)
    for kept, buffer in zip(state.ema.buffers(), state.model.buffers(), strict=True):
        kept.copy_(buffer)
