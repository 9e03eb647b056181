"""Many processes, one training: each draws its share of the batch, and gradients are averaged.

    torchrun --nproc_per_node 2 -m minidalle train prior --preset full

torchrun starts the command once a process (a *rank*) and tells each who it is. All of them begin
with the same weights, take their own rows of every batch, and make the same update from the mean of
all gradients, so that they stay equal without ever sending a weight: data parallelism. Rank 0 alone
writes and speaks. Alone, without torchrun, every function here does nothing, so that the training
loop is written once.

A batch that is too large for the memory can be drawn in parts, one after the other, whose gradients
are added up (`accumulate`): parts are ranks in time.

Data is a function of the step, so the same pictures come in the same order for any number of ranks,
and the prior and CLIP have the same loss and gradient but for the order of sums: a run is bit-exact
only with the number that it began with. The dVAE differs by more: its last norm and its bonus for
the spread of codes look at the pictures of a part alone, and noise is drawn part by part.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from minidalle.errors import MinidalleError

PATIENCE = timedelta(minutes=10)  # a rank that is not heard of for so long is taken for dead
_part = (0, 1)  # which part of this rank's share is being drawn, of how many


def join(device: torch.device | None = None) -> torch.device | None:
    """Meet the other processes that torchrun started, if any; the device that is this rank's."""
    if not dist.is_torchelastic_launched() or dist.is_initialized():
        return device
    on_gpu = device.type == "cuda" if device else torch.cuda.is_available()
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    if on_gpu:
        local, there = dist.get_node_local_rank(), torch.cuda.device_count()
        if local >= there:
            raise MinidalleError(
                f"process {local + 1} of this machine has no GPU of its own, there are {there}:"
                f" torchrun --nproc_per_node {there}, or --device cpu"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    return device


def leave() -> None:
    """Part from the others, once all is done."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Which of the processes this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(batch_size: int) -> range:
    """The rows of a batch that this rank draws now. Raises MinidalleError if it does not divide."""
    part, parts = _part
    if batch_size % (ranks() * parts):
        among = f"{ranks()} processes" + (f" in {parts} parts" if parts > 1 else "")
        raise MinidalleError(
            f"a batch of {batch_size} does not divide among {among}: choose another number of"
            " them, or another batch size"
        )
    rows = batch_size // (ranks() * parts)
    first = (rank() * parts + part) * rows
    return range(first, first + rows)


@contextmanager
def part(number: int, of: int) -> Iterator[None]:
    """Within it, `share` gives one part of this rank's rows."""
    global _part
    before, _part = _part, (number, of)
    try:
        yield
    finally:
        _part = before


def average(tensors: Iterable[Tensor]) -> None:
    """Put the mean over all ranks into each tensor: one message for all of them together."""
    tensors = list(tensors)
    if ranks() == 1 or not tensors:
        return
    flat = torch.cat([t.flatten() for t in tensors])
    with _heard():
        dist.all_reduce(flat)
    flat /= ranks()
    for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def gather(x: Tensor) -> Tensor:
    """Every rank's rows in order, b D → B D; gradients flow back to this rank's own.

    A loss of the whole batch (CLIP's) is the same on every rank, but each knows only how its own
    rows were made. `average` will divide those gradients by the number of ranks though no other
    rank adds to them, so they are multiplied by it here.
    """
    if ranks() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(ranks())]
    with _heard():
        dist.all_gather(parts, x.detach().contiguous())
    parts[rank()] = x + (ranks() - 1) * (x - x.detach())  # the value of x, and its gradient times n
    return torch.cat(parts)


def agree(number: int) -> int:
    """The largest that any rank says: when one has to stop (a signal's number), all of them do."""
    if ranks() == 1:
        return number
    said = torch.tensor(number, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    with _heard():
        dist.all_reduce(said, dist.ReduceOp.MAX)
    return int(said.item())


def wait() -> None:
    """Go on only when every rank has come this far."""
    if ranks() > 1:
        with _heard():
            dist.barrier()


@contextmanager
def _heard() -> Iterator[None]:
    """Say in one line that a rank has gone: gloo and NCCL raise RuntimeErrors of many."""
    try:
        yield
    except RuntimeError as error:
        cause = str(error).splitlines()[0].rstrip(".")
        raise MinidalleError(
            f"rank {rank()}: another process of this training has gone ({cause}); start all of them"
            " again with --resume"
        ) from error
