"""beta(t) = (r0 + t (r1 - r0))^2, with r0 and r1 the roots of the first and the last rate."""

from __future__ import annotations

import math
from typing import ClassVar, final

import attrs
from attrs.validators import gt
from torch import Tensor

from diffkit.component import parameter
from diffkit.interfaces.schedule import Schedule
from diffkit.tensors import float64

__all__ = ["ScaledLinear"]


@final
@attrs.frozen(kw_only=True)
class ScaledLinear(Schedule):
    """A rate whose root grows linearly: gentler at first than `linear`.

    With r(t) = r0 + t (r1 - r0), r0 = sqrt(beta_min) and r1 = sqrt(beta_max):

        beta(t) = r^2,   B(t) = t (r^2 + r r0 + r0^2) / 3,
        t(B) = 3 B / (y^2 + y r0 + r0^2)   with   y = cbrt(r0^3 + 3 (r1 - r0) B).

    B(1) = 5.27 by default, so VP ends with a signal rate of 0.07.

    Source: Rombach et al. 2022, arXiv 2112.10752, whose 1,000 betas from 0.00085 to 0.012 these are a
    thousand times.
    """

    source: ClassVar[str] = "Rombach et al. 2022, arXiv 2112.10752 (the public code's table)"

    beta_min: float = parameter("beta(0), per unit of time", 0.85, validator=gt(0.0))
    beta_max: float = parameter("beta(1), per unit of time", 12.0, validator=gt(0.0))

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"schedule.preserving"})

    @property
    def _r0(self) -> float:
        return math.sqrt(self.beta_min)

    @property
    def _slope(self) -> float:
        return math.sqrt(self.beta_max) - self._r0

    def _squares(self, r: Tensor) -> Tensor:
        """(r^3 - r0^3) / (r - r0), which the difference of the cubes would lose for small t."""
        return r * (r + self._r0) + self.beta_min

    @float64
    def rate(self, t: Tensor) -> Tensor:
        return (self._r0 + t * self._slope) ** 2

    @float64
    def integral(self, t: Tensor) -> Tensor:
        return t * self._squares(self._r0 + t * self._slope) / 3.0

    @float64
    def time(self, integral: Tensor) -> Tensor:
        root = (self._r0**3 + 3.0 * self._slope * integral) ** (1.0 / 3.0)
        return 3.0 * integral / self._squares(root)
