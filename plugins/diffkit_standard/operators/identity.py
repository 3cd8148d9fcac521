"""A = 1: the sample itself, which with noise on it is a denoising problem."""

from __future__ import annotations

from typing import final

import attrs
from torch import Tensor

from diffkit.interfaces.operator import Operator


@final
@attrs.frozen(kw_only=True)
class Identity(Operator):
    """A x = x, for samples of any shape."""

    def measured_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def apply(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        return y

    def pinv(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        return y
