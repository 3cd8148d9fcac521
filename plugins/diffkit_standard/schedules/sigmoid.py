"""beta(t) = b0 + (b1 - b0) sigmoid(12 t - 6)."""

from __future__ import annotations

import math
from typing import ClassVar, final

import attrs
import torch
from attrs.validators import gt
from torch import Tensor

from diffkit.component import parameter
from diffkit.interfaces.schedule import Schedule
from diffkit.interfaces.sde import bisect
from diffkit.tensors import float64

__all__ = ["Sigmoid"]

_SPAN = 12.0
_START = -6.0


@final
@attrs.frozen(kw_only=True)
class Sigmoid(Schedule):
    """A rate that rises from nearly `beta_min` to nearly `beta_max` along a sigmoid.

    B(t) = b0 t + (b1 - b0)/12 (softplus(12 t - 6) - softplus(-6)), where the difference is taken as
    log1p(sigmoid(-6) expm1(12 t)), which does not cancel. The inverse is found by bisection.

    Source: Xu et al. 2022, arXiv 2203.02923 (GeoDiff), whose public code's sigmoid table this is
    the continuous form of.
    """

    source: ClassVar[str] = "Xu et al. 2022, arXiv 2203.02923 (the public code's table)"

    beta_min: float = parameter("the rate that beta rises from, per unit of time", 0.1, validator=gt(0.0))
    beta_max: float = parameter("the rate that beta rises to, per unit of time", 20.0, validator=gt(0.0))

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"schedule.preserving"})

    @float64
    def rate(self, t: Tensor) -> Tensor:
        return self.beta_min + (self.beta_max - self.beta_min) * torch.sigmoid(_START + _SPAN * t)

    @float64
    def integral(self, t: Tensor) -> Tensor:
        at_start = 1.0 / (1.0 + math.exp(-_START))
        difference = torch.log1p(at_start * torch.expm1(_SPAN * t))
        return self.beta_min * t + (self.beta_max - self.beta_min) / _SPAN * difference

    @float64
    def time(self, integral: Tensor) -> Tensor:
        return bisect(self.integral, integral, 0.0, self.t_max)
