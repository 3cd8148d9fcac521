"""exp(-B(t)/2) = cos(angle(t)), the angle linear in t between two signal rates."""

from __future__ import annotations

import math
from typing import Any, ClassVar, final

import attrs
import torch
from attrs.validators import and_, gt, lt
from torch import Tensor

from diffkit.component import parameter
from diffkit.interfaces.schedule import Schedule
from diffkit.tensors import float64

__all__ = ["OffsetCosine"]


def _below_signal_max(schedule: OffsetCosine, attribute: Any, value: float) -> None:
    if not 0.0 < value < schedule.signal_max:
        raise ValueError(f"signal_min must lie between 0 and signal_max = {schedule.signal_max:g}")


@final
@attrs.frozen(kw_only=True)
class OffsetCosine(Schedule):
    """A cosine signal rate that starts below 1 and ends above 0.

    With angle(t) = a0 + t (a1 - a0), a0 = acos(signal_max) and a1 = acos(signal_min):

        beta(t) = 2 (a1 - a0) tan(angle),   B(t) = -log1p(-sin^2(angle)),
        t(B) = (atan2(sqrt(-expm1(-B)), exp(-B/2)) - a0) / (a1 - a0).

    B(0) = -2 log(signal_max) = 0.1026 > 0, so t_min = 0; there VP's sigma is 0.312 already, and the
    move from it to clean data is one denoiser call.

    Source: Béres 2022, keras.io/examples/generative/ddim.
    """

    source: ClassVar[str] = "Béres 2022, keras.io/examples/generative/ddim"

    signal_max: float = parameter("exp(-B/2) at t = 0", 0.95, validator=and_(gt(0.0), lt(1.0)))
    signal_min: float = parameter("exp(-B/2) at t = 1", 0.02, validator=_below_signal_max)

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"schedule.preserving"})

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def _start(self) -> float:
        return math.acos(self.signal_max)

    @property
    def _span(self) -> float:
        return math.acos(self.signal_min) - self._start

    def _angle(self, t: Tensor) -> Tensor:
        return self._start + t * self._span

    @float64
    def rate(self, t: Tensor) -> Tensor:
        return 2.0 * self._span * torch.tan(self._angle(t))

    @float64
    def integral(self, t: Tensor) -> Tensor:
        angle = self._angle(t)
        # Each form is exact where the other cancels: the first near the pole, the second near no noise.
        return torch.where(
            angle > 0.25 * math.pi,
            -2.0 * torch.log(torch.cos(angle)),
            -torch.log1p(-(torch.sin(angle) ** 2)),
        )

    @float64
    def time(self, integral: Tensor) -> Tensor:
        sine, cosine = torch.sqrt(-torch.expm1(-integral)), torch.exp(-0.5 * integral)
        return (torch.atan2(sine, cosine) - self._start) / self._span
