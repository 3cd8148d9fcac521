"""Deals examples into groups by their index, and takes errors from groups left out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["group_of", "jackknife", "rank_of"]

_GOLDEN = 2654435769  # 2^32 divided by the golden ratio


def rank_of(index: Tensor) -> Tensor:
    """frac(index * golden ratio) * 2^32: a number that no other index below 2^32 has.

    Any interval of ranks holds its share of consecutive indices, and of every arithmetic progression of
    them. Source: Knuth, The Art of Computer Programming, volume 3, section 6.4, on multiplicative hashing.
    """
    return (index * _GOLDEN) % 2**32


def group_of(index: Tensor, groups: int) -> Tensor:
    """The group, 0 .. groups - 1, of each example: the integer part of groups * frac(index * golden ratio).

    Consecutive indices fill the groups evenly, and so does every arithmetic progression of them: samples
    whose classes come in turn (class = index modulo 10) meet every group with every class.
    """
    return (rank_of(index) * groups) >> 32


def jackknife(values: Sequence[float]) -> float | None:
    """The standard error from figures with one of G groups left out: sqrt((G - 1)/G sum (v - mean)^2)."""
    if len(values) < 2:
        return None
    spread = torch.tensor(values, dtype=torch.float64).var(unbiased=False).item()
    return math.sqrt((len(values) - 1) * spread)
