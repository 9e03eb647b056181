"""One training loop for every model: `fit` is a generator, and whoever calls it decides the rest.

    state = TrainState.start(model, config)
    for record in fit(state, losses):          # yields a record a step
        print(record)                          # … or plot it, stop, save, draw a sample

`losses(model, step, progress)` makes its own batch (this process's share: `distributed.py`) and
returns a NamedTuple whose first field is what is minimised. Data is a function of the step, and the
dice are cast anew at every step, so that a run that is stopped and resumed goes on bit for bit as
if it had never stopped.
"""

import copy
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minidalle.errors import MinidalleError
from minidalle.training import distributed
from minidalle.training.weights import flatten, load_weights, unflatten


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a model is trained; the family of the paper's settings (appendices A and B)."""

    steps: int  # updates
    batch_size: int = 64  # pictures an update
    accumulate: int = 1  # parts in which a batch is drawn, one after the other, to save memory
    lr: float = 1e-3  # peak learning rate
    warmup: int = 100  # updates from 0 to the peak
    final_lr: float = 0.02  # share of the peak left at the end of the cosine
    betas: tuple[float, float] = (0.9, 0.999)  # AdamW
    weight_decay: float = 1e-4  # on matrices only
    clip: float = 1.0  # longest gradient
    ema: float = 0.999  # decay of the running mean of the weights, which is what is used in the end
    seed: int = 0  # of the weights, the data and every chance in between

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.accumulate) < 1:
            raise MinidalleError("steps, batch_size and accumulate must be at least 1")


class Record(NamedTuple):
    """What one step of `fit` tells."""

    step: int  # updates made, from 1
    steps: int  # updates in all
    losses: dict[str, float]  # by name, before the update
    lr: float
    gradient: float  # its length before clipping
    images_per_second: float


@dataclass
class TrainState:
    """All that a run is: weights, their running mean, the optimiser, and how far it has come."""

    model: nn.Module
    ema: nn.Module
    optimizer: torch.optim.Optimizer
    config: FitConfig
    step: int = 0

    @classmethod
    def start(cls, model: nn.Module, config: FitConfig) -> "TrainState":
        decayed = [p for p in model.parameters() if p.ndim >= 2]
        rest = [p for p in model.parameters() if p.ndim < 2]
        optimizer = torch.optim.AdamW(
            [{"params": decayed}, {"params": rest, "weight_decay": 0.0}],
            lr=config.lr, betas=config.betas, eps=1e-8, weight_decay=config.weight_decay,
        )  # fmt: skip
        ema = copy.deepcopy(model).requires_grad_(False).eval()
        return cls(model, ema, optimizer, config)

    def dump(self) -> tuple[dict, dict]:
        """Tensors and documents for `checkpoint.save`."""
        moments, numbers = flatten(self.optimizer.state_dict())
        tensors = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": moments,
        }
        fit_config = {"step": self.step, "fit": asdict(self.config), "ranks": distributed.ranks()}
        model_config = asdict(self.model.config)
        return tensors, {"config": fit_config, "model_config": model_config, "optimizer": numbers}

    def restore(self, tensors: dict, documents: dict, file) -> None:
        """Go on from a checkpoint.

        Raises MinidalleError where it belongs to another model, or to a training with other
        settings: going on from there would be neither the one run nor the other.
        """
        now = json.loads(json.dumps(asdict(self.config)))
        then = {"accumulate": 1, **documents["config"]["fit"]}  # which older checkpoints lack
        fixed = [k for k in now if k != "accumulate"]
        changed = [f"{k} was {then.get(k)} and is {now[k]}" for k in fixed if then.get(k) != now[k]]
        if changed:
            raise MinidalleError(
                f"{file} was trained otherwise: {', '.join(changed)}; go on with the settings that"
                " it began with, or choose another --out"
            )
        ranks, parts = documents["config"].get("ranks", 1), then["accumulate"]
        otherwise = ""
        if ranks != distributed.ranks():
            otherwise = f"by {ranks} processes and now there are {distributed.ranks()}"
        elif parts != now["accumulate"]:
            otherwise = f"in {parts} parts a batch and now there are {now['accumulate']}"
        if otherwise:
            warnings.warn(
                f"{file} was trained {otherwise}: the same pictures in the same order, but no"
                " longer bit for bit the same weights",
                stacklevel=2,
            )
        configs = {"config": asdict(self.model.config), "saved_config": documents["model_config"]}
        load_weights(self.model, tensors["model"], file=file, **configs)
        load_weights(self.ema, tensors["ema"], file=file, **configs)
        self.optimizer.load_state_dict(unflatten(tensors["optimizer"], documents["optimizer"]))
        self.step = documents["config"]["step"]


def out_of_memory(error: Exception) -> bool:
    """A GPU's allocator and Python's have errors of their own, torch's on a CPU only its words."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in ("can't allocate memory", "bad_alloc"))


def pick_device(name: str | None = None) -> torch.device:
    """The device asked for, else an NVIDIA or AMD GPU where there is one, else the CPU.

    Apple's is taken only by its name, "mps". Raises MinidalleError for a device that is not there.
    """
    there = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    asked = "cuda:0" if name == "cuda" else name
    if asked not in there:
        raise MinidalleError(
            f"no device {name!r} here; there are: {', '.join(there)}. On the CPU: --device cpu"
        )
    return torch.device(name)


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 arithmetic where the hardware has it: about 1.7 times faster on such a CPU."""
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported()
    else:  # without native support bfloat16 is emulated, and slower
        has = getattr(torch.cpu, "get_capabilities", dict)()
        has_bf16 = device.type == "cpu" and (has.get("avx512_bf16") or has.get("amx_bf16", False))
    return torch.autocast(device.type, torch.bfloat16, enabled=bool(has_bf16))


def lr_at(step: int, config: FitConfig) -> float:
    """The learning rate of a step: up in a line, down in half a cosine."""
    rise = min(1.0, (step + 1) / max(1, config.warmup))
    fall = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.lr * rise * (config.final_lr + (1 - config.final_lr) * fall)


def fit(
    state: TrainState, losses: Callable[[nn.Module, int, float], NamedTuple]
) -> Iterator[Record]:
    """Train from where `state` is to its end, a record a step. Stop by leaving the loop.

    Raises MinidalleError when the loss is no longer finite, naming the step and the part, before
    anything is harmed: `state` is still as the step found it.
    """
    config, model = state.config, state.model
    device = next(model.parameters()).device
    while state.step < config.steps:
        began = time.perf_counter()
        model.train()
        buffers = [buffer.clone() for buffer in model.buffers()]  # running statistics, if any
        torch.manual_seed(config.seed * 1_000_003 + state.step + (distributed.rank() << 40))
        lr = lr_at(state.step, config)
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        state.optimizer.zero_grad(set_to_none=True)
        try:
            told = [_backward(state, losses, device, number) for number in range(config.accumulate)]
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise MinidalleError(
                f"out of memory on {device} at batch size {config.batch_size}: {_smaller(config)}"
            ) from error
        names, values = told[0]._fields, torch.stack([torch.stack(parts) for parts in told]).mean(0)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        distributed.average([*gradients, values, *_statistics(model)])
        gradient = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        numbers = dict(zip(names, values.tolist(), strict=True))
        # The parts are asked before their sum: the message should name what went wrong first.
        checks = [*names[1:], names[0]]
        for name, value in [(n, numbers[n]) for n in checks] + [("gradient", gradient.item())]:
            if not math.isfinite(value):
                for buffer, kept in zip(model.buffers(), buffers, strict=True):
                    buffer.copy_(kept)
                raise MinidalleError(
                    f"step {state.step + 1}: {name} is {value}. Nothing of this step was kept;"
                    f" train again with a lower learning rate ({config.lr / 2:g}, or --lr"
                    f" {config.lr / 2:g})"
                )
        state.optimizer.step()
        state.step += 1
        _follow(state)
        speed = config.batch_size / (time.perf_counter() - began)
        yield Record(state.step, config.steps, numbers, lr, gradient.item(), speed)


def _smaller(config: FitConfig) -> str:
    """What to do with a batch that does not fit: parts that it divides into, or fewer pictures."""
    rows = config.batch_size // distributed.ranks()
    finer = (n for n in range(config.accumulate + 1, rows + 1) if rows % n == 0)
    parts, half = next(finer, None), max(1, config.batch_size // 2)
    again = f"begin again with a batch size of {half} (--batch-size {half})"
    if parts is None:
        return again
    return (
        f"draw it in parts (accumulate {parts}, or --accumulate {parts}; CLIP's cannot be), or"
        f" {again}"
    )


def _backward(state: TrainState, losses, device: torch.device, number: int) -> NamedTuple:
    """Add the gradient of one part of the batch; its losses, as numbers."""
    config = state.config
    with distributed.part(number, config.accumulate), autocast(device):
        parts = losses(state.model, state.step, state.step / config.steps)
    (parts[0] / config.accumulate).backward()
    return type(parts)(*(part.detach().float() for part in parts))


def _statistics(model: nn.Module) -> list[Tensor]:
    """Running means that a model keeps: the only buffers that a batch changes."""
    return [buffer for buffer in model.buffers() if buffer.is_floating_point()]


@torch.no_grad()
def _follow(state: TrainState) -> None:
    """Move the running mean; it starts short and grows to its full decay."""
    decay = min(state.config.ema, (1 + state.step) / (10 + state.step))
    mean, now = list(state.ema.parameters()), [p.detach() for p in state.model.parameters()]
    torch._foreach_lerp_(mean, now, 1 - decay)
    for kept, buffer in zip(state.ema.buffers(), state.model.buffers(), strict=True):
        kept.copy_(buffer)
