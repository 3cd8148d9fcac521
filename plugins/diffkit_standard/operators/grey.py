"""Grey from colour: the luma of an RGB picture."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from torch import Tensor

from diffkit.errors import DataError
from diffkit.interfaces.operator import Operator

_LUMA = (0.299, 0.587, 0.114)


@final
@attrs.frozen(kw_only=True)
class Grey(Operator):
    """A x = 0.299 R + 0.587 G + 0.114 B, from (3, H, W) to (1, H, W).

    With w the three weights, A A* = |w|^2, so A+ y = w y / |w|^2.

    Source: ITU-R BT.601, section 2.5.1.
    """

    source: ClassVar[str] = "ITU-R BT.601, section 2.5.1"

    def measured_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) < 2 or shape[0] != 3:
            raise DataError(
                f"samples of shape {shape} have no three colours",
                "(3, H, W): red, green and blue on the first axis",
                "Use the operator `grey` on a model of colour images",
            )
        return (1, *shape[1:])

    def apply(self, x: Tensor) -> Tensor:
        return (_weights(x) * x).sum(1, keepdim=True)

    def adjoint(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        return _weights(y) * y

    def pinv(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        weights = _weights(y)
        return weights * y / weights.square().sum()


def _weights(x: Tensor) -> Tensor:
    return torch.tensor(_LUMA, dtype=x.dtype, device=x.device).reshape(3, *(1,) * (x.ndim - 2))
