"""beta(t) = b, B(t) = b t."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from attrs.validators import gt
from torch import Tensor

from diffkit.component import parameter
from diffkit.interfaces.schedule import Schedule
from diffkit.tensors import float64

__all__ = ["Constant"]


@final
@attrs.frozen(kw_only=True)
class Constant(Schedule):
    """A rate that stays the same: the plain Ornstein-Uhlenbeck process under VP, Brownian motion under VE.

    B(t) = b t;  t(B) = B / b.

    Source: Song et al. 2021, arXiv 2011.13456, eq. 9 and 11 with beta held constant.
    """

    source: ClassVar[str] = "Song et al. 2021, arXiv 2011.13456, eq. 9 and 11 with a constant beta"

    beta: float = parameter(
        "the rate, per unit of time; by default the signal ends about where linear's does",
        10.0,
        validator=gt(0.0),
    )

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"schedule.preserving"})

    @float64
    def rate(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.beta)

    @float64
    def integral(self, t: Tensor) -> Tensor:
        return self.beta * t

    @float64
    def time(self, integral: Tensor) -> Tensor:
        return integral / self.beta
