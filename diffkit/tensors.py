"""Broadcasting and precision: the two things only the core does to a coefficient."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["Device", "expand", "float64", "per_channel", "per_sample_norm", "take"]

Self = TypeVar("Self")
Device = torch.device | str | None
"""Where tensors are made or go: a device, its name, or None for the default."""


def expand(coefficient: Tensor, x: Tensor) -> Tensor:
    """A coefficient of shape () or (B,) made ready to multiply `x` of shape (B, ...).

    A 0-d tensor is returned as it is: torch lets it keep its own (higher) precision and its place
    on the CPU without changing the dtype of `x`.
    """
    if coefficient.ndim == 0:
        return coefficient
    coefficient = coefficient.to(dtype=x.dtype, device=x.device)
    return coefficient.reshape(-1, *(1,) * (x.ndim - 1))


def float64(method: Callable[[Self, Tensor], Tensor]) -> Callable[[Self, Any], Tensor]:
    """Decorates `method(self, t) -> tensor of t's shape` so that it computes in float64.

    The result is cast last, to the dtype of `t`. A Python number is taken as a 0-d tensor of
    torch's default dtype.
    """

    @functools.wraps(method)
    def computed(self: Self, t: Any) -> Tensor:
        if not isinstance(t, Tensor):
            value = method(self, torch.as_tensor(t, dtype=torch.float64))
            return value.to(torch.get_default_dtype())
        dtype = t.dtype if t.is_floating_point() else torch.get_default_dtype()
        return method(self, t.to(torch.float64)).to(dtype)

    return computed


def take(value: Tensor, rows: Tensor) -> Tensor:
    """The rows of a (B, ...) tensor; a 0-d one, shared by the batch, stays as it is."""
    return value if value.ndim == 0 else value[rows.to(value.device)]


def per_sample_norm(x: Tensor) -> Tensor:
    """The Euclidean norm of each sample, shape (B,)."""
    norm: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return norm


def per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    """One value, or one a channel, made ready to meet `like` (B, C, ...)."""
    tensor = torch.tensor(values, dtype=like.dtype, device=like.device)
    return tensor.reshape(-1, *(1,) * (like.ndim - 2))
