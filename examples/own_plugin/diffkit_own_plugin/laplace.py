"""lambda(t) = b sgn(t - 1/2) log(1 - 2|t - 1/2|): log-SNRs spread by Laplace's law."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from attrs.validators import gt
from diffkit.component import parameter
from diffkit.interfaces.schedule import Schedule
from diffkit.tensors import float64
from torch import Tensor


@final
@attrs.frozen(kw_only=True)
class Laplace(Schedule):
    """With q = min(t, 1 - t) and r = exp(-lambda) = (2 q)^b up to t = 1/2, (2 q)^(-b) after it:

    B = log(1 + r),  beta = b r / (q (1 + r)). Half of all times see |lambda| < b log 2. t_max = 0.995.
    """

    source: ClassVar[str] = "Hang et al. 2024, arXiv 2407.03297"

    b: float = parameter("mean distance of the log-SNR from 0", 1.0, validator=gt(0.0))

    provides = frozenset({"schedule.preserving", "schedule.pole"})
    t_min, t_max = 1e-5, 0.995

    @float64
    def rate(self, t: Tensor) -> Tensor:
        r = self._noise_to_signal(t)
        return self.b * r / (torch.minimum(t, 1.0 - t) * (1.0 + r))

    @float64
    def integral(self, t: Tensor) -> Tensor:
        return torch.log1p(self._noise_to_signal(t))

    @float64
    def time(self, integral: Tensor) -> Tensor:
        root = torch.expm1(integral) ** (1.0 / self.b)
        return torch.where(root < 1.0, 0.5 * root, 1.0 - 0.5 / root)

    def _noise_to_signal(self, t: Tensor) -> Tensor:
        return torch.where(t < 0.5, 2.0 * t, 0.5 / (1.0 - t)) ** self.b
