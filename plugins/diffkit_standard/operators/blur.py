"""Gaussian blur, with mirrored borders."""

from __future__ import annotations

import math
from typing import final

import attrs
import torch
from attrs.validators import gt
from torch import Tensor

from diffkit.component import parameter
from diffkit.errors import DataError
from diffkit.interfaces.operator import Operator

_LOST = 1e-3
"""A frequency that passes more weakly than this is blocked whole, so that A+ amplifies 1000 times at most."""


@final
@attrs.frozen(kw_only=True)
class Blur(Operator):
    """A Gaussian blur of standard deviation `width` along every spatial axis, mirrored at the borders.

    A mirrored border makes the cosine transform C its eigenbasis: along an axis of n elements
    A = C^T diag(h) C with h_k = exp(-(pi k width / n)^2 / 2), and h_k below 1e-3 set to 0. A is symmetric,
    and A+ divides by the h_k that are not 0. A constant picture stays what it is.

    Source: Strang 1999, "The discrete cosine transform", SIAM Review 41, section 2 (DCT-2).
    """

    width: float = parameter("standard deviation of the kernel, in elements", 1.0, validator=gt(0.0))

    def measured_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) < 2:
            raise DataError(
                f"samples of shape {shape} have no axis to blur along",
                "(C, L), (C, H, W) or more axes: channels first",
                "Use the operator `blur` on images or signals",
            )
        return shape

    def apply(self, x: Tensor) -> Tensor:
        return self._along_all(x, power=1)

    def adjoint(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        return self._along_all(y, power=1)

    def pinv(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        return self._along_all(y, power=-1)

    def _along_all(self, x: Tensor, power: int) -> Tensor:
        for axis in range(2, x.ndim):
            matrix = self._matrix(x.shape[axis], power).to(dtype=x.dtype, device=x.device)
            x = (x.movedim(axis, -1) @ matrix).movedim(-1, axis)
        return x

    def _matrix(self, size: int, power: int) -> Tensor:
        """A along one axis, or its pseudo-inverse; symmetric, (size, size) float64."""
        k = torch.arange(size, dtype=torch.float64)
        transform = torch.cos(math.pi / size * k[:, None] * (k + 0.5)) * math.sqrt(2.0 / size)
        transform[0] *= math.sqrt(0.5)
        passed = torch.exp(-0.5 * (math.pi * k * self.width / size) ** 2)
        kept = torch.where(passed >= _LOST, passed**power, 0.0)
        return transform.T @ (kept[:, None] * transform)
