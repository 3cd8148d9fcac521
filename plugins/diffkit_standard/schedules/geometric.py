"""B(t) = sigma_min^2 (sigma_max / sigma_min)^(2 t)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, final

import attrs
import torch
from attrs.validators import gt
from torch import Tensor

from diffkit.component import parameter
from diffkit.interfaces.schedule import Schedule
from diffkit.tensors import float64


def _above_sigma_min(schedule: Geometric, attribute: Any, value: float) -> None:
    if value <= schedule.sigma_min:
        raise ValueError(f"sigma_max must exceed sigma_min = {schedule.sigma_min:g}")


@final
@attrs.frozen(kw_only=True)
class Geometric(Schedule):
    """Noise that grows by the same factor in equal times; for VE, whose sigma is sqrt(B).

    beta(t) = 2 log(sigma_max / sigma_min) B(t). B(0) = sigma_min^2 > 0, so t_min = 0.

    Source: Song et al. 2021, arXiv 2011.13456, appendix C.
    """

    source: ClassVar[str] = "Song et al. 2021, arXiv 2011.13456, eq. 30"

    sigma_min: float = parameter("sqrt(B) at t = 0, in data units", 0.01, validator=gt(0.0))
    sigma_max: float = parameter("sqrt(B) at t = 1, in data units", 50.0, validator=_above_sigma_min)

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    @float64
    def rate(self, t: Tensor) -> Tensor:
        return 2.0 * self._log_ratio * self.integral(t)

    @float64
    def integral(self, t: Tensor) -> Tensor:
        return self.sigma_min**2 * torch.exp(2.0 * self._log_ratio * t)

    @float64
    def time(self, integral: Tensor) -> Tensor:
        return torch.log(integral / self.sigma_min**2) / (2.0 * self._log_ratio)
