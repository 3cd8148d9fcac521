"""exp(-B(t)) = cos^2(angle(t)) / cos^2(angle(0)), angle(t) = pi/2 (t + s) / (1 + s)."""

from __future__ import annotations

import math
from typing import ClassVar, final

import attrs
import torch
from attrs.validators import ge
from torch import Tensor

from diffkit.component import parameter
from diffkit.interfaces.schedule import Schedule
from diffkit.tensors import float64


@final
@attrs.frozen(kw_only=True)
class Cosine(Schedule):
    """A squared-cosine signal rate. beta is unbounded at t = 1, so the schedule ends at t_max = 0.9946.

    With d = pi t / (2 (1 + s)) and a0 = pi s / (2 (1 + s)):

        beta(t) = pi / (1 + s) tan(d + a0),   B(t) = -log1p(-sin(d) sin(d + 2 a0) / cos^2 a0).

    The rate is never clipped: B would no longer be its integral.

    Source: Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 17.
    """

    source: ClassVar[str] = "Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 17"

    s: float = parameter("offset of the angle, keeping beta(0) above 0", 0.008, validator=ge(0.0))

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"schedule.preserving", "schedule.pole"})

    @property
    def t_max(self) -> float:
        return 0.9946

    @property
    def _a0(self) -> float:
        return 0.5 * math.pi * self.s / (1.0 + self.s)

    def _d(self, t: Tensor) -> Tensor:
        return 0.5 * math.pi * t / (1.0 + self.s)

    @float64
    def rate(self, t: Tensor) -> Tensor:
        return math.pi / (1.0 + self.s) * torch.tan(self._d(t) + self._a0)

    @float64
    def integral(self, t: Tensor) -> Tensor:
        d = self._d(t)
        return -torch.log1p(-torch.sin(d) * torch.sin(d + 2.0 * self._a0) / math.cos(self._a0) ** 2)

    @float64
    def time(self, integral: Tensor) -> Tensor:
        sine_squared = math.sin(self._a0) ** 2 - torch.expm1(-integral) * math.cos(self._a0) ** 2
        cosine = torch.exp(-0.5 * integral) * math.cos(self._a0)
        # sin d = -expm1(-B) cos^2 a0 / sin(d + 2 a0), so that no angle is subtracted from another.
        angle = torch.atan2(torch.sqrt(sine_squared), cosine) + self._a0
        d = torch.asin(-torch.expm1(-integral) * math.cos(self._a0) ** 2 / torch.sin(angle))
        return torch.where(integral > 0.0, 2.0 * (1.0 + self.s) / math.pi * d, 0.0 * integral)
