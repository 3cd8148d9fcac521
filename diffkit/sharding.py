"""Work on samples cut into chunks and dealt to the processes of a `torch.distributed` group.

Chunks are cut at multiples of the global sample index, so that the same samples are computed together
whatever the number of processes, and every process ends with the same bits.
"""

from __future__ import annotations

import itertools
import os

import torch
import torch.distributed as distributed
from torch import Tensor

from diffkit.device import best_device

__all__ = ["barrier", "chunks", "join", "processes", "shared"]


def join() -> None:
    """Joins the group that a launcher (`torchrun`, `accelerate launch`) started this process in, if any."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and processes()[0] == 1:
        from accelerate import PartialState  # slow to import, and seldom needed

        PartialState(cpu=best_device().type == "cpu")


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


def shared(tensor: Tensor | None, owner: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A tensor that `owner` has computed, on every process.

    Args:
        tensor: it, on the owner; None elsewhere.
        owner: the rank that has it.
        shape: its shape.
        like: a tensor of its dtype on the device that communicates.
    """
    world, _ = processes()
    if world == 1:
        assert tensor is not None
        return tensor
    if tensor is None:
        tensor = torch.empty(shape, dtype=like.dtype, device=like.device)
    tensor = tensor.to(like).contiguous()
    if tensor.numel():
        distributed.broadcast(tensor, src=owner)
    return tensor
