"""In-painting: the elements that a mask lets through."""

from __future__ import annotations

from typing import final

import attrs
from torch import Tensor

from diffkit.component import parameter
from diffkit.interfaces.operator import Operator
from diffkit_standard.operators._masks import Values, mask_for, same_values


@final
@attrs.frozen(kw_only=True)
class InPainting(Operator):
    """A x = m x with a mask m, 1 where observed and 0 where missing: a projection, so A* = A+ = A.

    Missing elements of a measurement are 0, so that it has the shape of the sample.
    """

    mask: Values = parameter(
        "1 where observed, 0 where missing: centre, border, left-half or random:SHARE (what is missing), a "
        "file (.npy, .npz or a picture) or an array, one for all samples",
        "centre",
        same=same_values,
    )

    def measured_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        mask_for(self.mask, shape)
        return shape

    def apply(self, x: Tensor) -> Tensor:
        return x * mask_for(self.mask, tuple(x.shape[1:])).to(dtype=x.dtype, device=x.device)

    def adjoint(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        return self.apply(y)

    def pinv(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        return self.apply(y)
