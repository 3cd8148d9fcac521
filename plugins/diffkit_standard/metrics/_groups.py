"""Deals examples into groups by their index, so that neither order nor batches matter."""

from __future__ import annotations

from torch import Tensor

__all__ = ["group_of"]

_GOLDEN = 2654435769  # 2^32 divided by the golden ratio


def group_of(index: Tensor, groups: int) -> Tensor:
    """The group, 0 .. groups - 1, of each example: the integer part of groups * frac(index * golden ratio).

    Consecutive indices fill the groups evenly, and so does every arithmetic progression of them: samples
    whose classes come in turn (class = index modulo 10) meet every group with every class. Source: Knuth,
    The Art of Computer Programming, volume 3, section 6.4, on multiplicative hashing.
    """
    return ((index * _GOLDEN) % 2**32 * groups) >> 32
