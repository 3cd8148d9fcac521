"""Work on samples cut into chunks and dealt to the processes of a `torch.distributed` group.

Chunks are cut at multiples of the global sample index, so that the same samples are computed together
whatever the number of processes, and every process ends with the same bits.
"""

from __future__ import annotations

import atexit
import itertools
import os
from collections.abc import Sequence

import torch
import torch.distributed as distributed
from torch import Tensor

from diffkit.device import best_device

__all__ = ["barrier", "chunks", "is_main", "join", "largest", "own", "processes", "share"]


def join() -> None:
    """Joins the group that a launcher (`torchrun`, `accelerate launch`) started this process in, if any.

    A group joined here is left before the interpreter goes: a thread of it that is still letting go of a
    tensor then aborts a process that has done all its work.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and processes()[0] == 1:
        # First imported when there is a group (DistributedDataParallel does), its functions keep that group
        # and its threads for good, as the default of an argument.
        import torch.distributed.nn.functional  # noqa: F401
        from accelerate import PartialState  # slow to import, and seldom needed

        atexit.register(PartialState(cpu=best_device().type == "cpu").destroy_process_group)


def barrier() -> None:
    """Waits until every process of the group is here."""
    if processes()[0] > 1:
        distributed.barrier()


def chunks(first: int, count: int, size: int) -> list[slice]:
    """Slices of the samples, cut where the global index is a multiple of `size`."""
    cuts = [0, *range(size - first % size, count, size), count]
    return [slice(low, high) for low, high in itertools.pairwise(cuts)]


def processes() -> tuple[int, int]:
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size(), distributed.get_rank()
    return 1, 0


def is_main() -> bool:
    """Whether this is the process that writes and speaks for all."""
    return processes()[1] == 0


def largest(value: int) -> int:
    """The largest of what the processes of the group have, on every one of them."""
    if processes()[0] == 1:
        return value
    found = torch.tensor(value, device=best_device())
    distributed.all_reduce(found, op=distributed.ReduceOp.MAX)
    return int(found)


def own(cuts: Sequence[slice]) -> Sequence[slice]:
    """The chunks that this process computes: number k is that of process k modulo their number."""
    world, rank = processes()
    return cuts[rank::world]


def share(whole: Tensor, cuts: Sequence[slice]) -> None:
    """Fills in the rows of the chunks that other processes have computed, bit by bit."""
    world, _ = processes()
    if world > 1 and whole.numel():
        for number, cut in enumerate(cuts):
            distributed.broadcast(whole[cut], src=number % world)
