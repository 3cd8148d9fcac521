"""Super-resolution: what is left of a picture when every block of pixels becomes one."""

from __future__ import annotations

import math
from typing import final

import attrs
from attrs.validators import ge
from torch import Tensor

from diffkit.component import parameter
from diffkit.errors import DataError
from diffkit.interfaces.operator import Operator


@final
@attrs.frozen(kw_only=True)
class SuperResolution(Operator):
    """A x is the mean of every block of `factor` elements along each spatial axis (all but the channels).

    With d spatial axes A A* = factor^-d, so A+ y repeats y over its block and A* y = factor^-d A+ y.
    """

    factor: int = parameter("how many elements along an axis become one", 2, validator=ge(1))

    def measured_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) < 2 or any(size % self.factor for size in shape[1:]):
            raise DataError(
                f"samples of shape {shape} do not divide into blocks of {self.factor}",
                f"(C, H, W) with every size but the first a multiple of {self.factor}",
                "Choose a `factor` that divides the sizes",
            )
        return (shape[0], *(size // self.factor for size in shape[1:]))

    def apply(self, x: Tensor) -> Tensor:
        small = self.measured_shape(tuple(x.shape[1:]))
        blocks = [part for size in small[1:] for part in (size, self.factor)]
        inner = tuple(range(3, 3 + 2 * (len(small) - 1), 2))
        return x.reshape(*x.shape[:2], *blocks).mean(inner)

    def adjoint(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        return self.pinv(y, shape) / math.prod(self.factor for _ in shape[1:])

    def pinv(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        for axis in range(2, y.ndim):
            y = y.repeat_interleave(self.factor, dim=axis)
        return y
