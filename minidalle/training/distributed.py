"""Data parallelism: many processes, one training.

    torchrun --nproc_per_node 2 -m minidalle train prior --preset full

torchrun starts the command once per process and gives each its rank. All of them begin with the
same weights, take their own rows of every batch, and make the same update from the mean of all
gradients, so they stay equal without ever sending a weight. Rank 0 alone writes and prints. In a
single process, without torchrun, every function here does nothing: the loop is written once.

Data is a function of the step, so the same pictures come in the same order for any number of
processes, and the prior and CLIP have the same loss and gradient but for the order of sums. A run
is bit-exact only with the number of processes that it began with. The dVAE differs by more: its
last norm and its entropy bonus see one microbatch only, and each process draws its own noise.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from minidalle.errors import MinidalleError

TIMEOUT = timedelta(minutes=10)  # a process that is silent for so long counts as dead


def init(device: torch.device | None = None) -> torch.device | None:
    """Meet the other processes that torchrun started, if any; returns this process's device."""
    if not dist.is_torchelastic_launched() or dist.is_initialized():
        return device
    on_gpu = device.type == "cuda" if device else torch.cuda.is_available()
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    if on_gpu:
        local, available = dist.get_node_local_rank(), torch.cuda.device_count()
        if local >= available:
            raise MinidalleError(
                f"process {local + 1} of this machine has no GPU of its own, there are"
                f" {available}: torchrun --nproc_per_node {available}, or --device cpu"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    return device


def shutdown() -> None:
    """Leave the other processes, once all is done."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Which of the processes this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main_process() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rows(batch_size: int, microbatch: int = 0, accumulate: int = 1) -> range:
    """The rows of a batch in one microbatch of this process.

    Microbatches are `accumulate` equal parts of a process's share, computed one after the other to
    save memory. Raises MinidalleError if the batch does not divide.
    """
    parts = world_size() * accumulate
    if batch_size % parts:
        among = f"{world_size()} processes" + (f" in {accumulate} parts" if accumulate > 1 else "")
        raise MinidalleError(
            f"a batch of {batch_size} does not divide among {among}: choose another number of"
            " them, or another batch size"
        )
    rows = batch_size // parts
    first = (rank() * accumulate + microbatch) * rows
    return range(first, first + rows)


def all_reduce_mean(tensors: Iterable[Tensor]) -> None:
    """Put the mean over all processes into each tensor, with one message for all of them."""
    tensors = list(tensors)
    if world_size() == 1 or not tensors:
        return
    flat = torch.cat([t.flatten() for t in tensors])
    with _one_line_errors():
        dist.all_reduce(flat)
    flat /= world_size()
    for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def all_gather(x: Tensor) -> Tensor:
    """Every process's rows in order, b D → B D; gradients flow back to this process's own.

    A loss of the whole batch (CLIP's) is the same in every process, but each knows only how its own
    rows were made. `all_reduce_mean` will divide those gradients by the number of processes though
    no other process adds to them, so they are multiplied by it here.
    """
    if world_size() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(world_size())]
    with _one_line_errors():
        dist.all_gather(parts, x.detach().contiguous())
    parts[rank()] = x + (world_size() - 1) * (x - x.detach())  # value of x, gradient times n
    return torch.cat(parts)


def all_reduce_max(number: int) -> int:
    """The largest number of any process: when one got a signal (its number), all of them stop."""
    if world_size() == 1:
        return number
    largest = torch.tensor(number, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    with _one_line_errors():
        dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest.item())


def barrier() -> None:
    """Wait until every process has come this far."""
    if world_size() > 1:
        with _one_line_errors():
            dist.barrier()


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn a lost process's RuntimeError, many lines of gloo or NCCL, into one line."""
    try:
        yield
    except RuntimeError as error:
        cause = str(error).splitlines()[0].rstrip(".")
        raise MinidalleError(
            f"rank {rank()}: another process of this training has gone ({cause}); start all of them"
            " again with --resume"
        ) from error
