"""B(t) = (sigma_max t)^2."""

from __future__ import annotations

from typing import Any, ClassVar, final

import attrs
import torch
from attrs.validators import gt
from torch import Tensor

from diffkit.component import parameter
from diffkit.interfaces.schedule import Schedule
from diffkit.tensors import float64

__all__ = ["EDM"]


def _above_sigma_min(schedule: EDM, attribute: Any, value: float) -> None:
    if value <= schedule.sigma_min:
        raise ValueError(f"sigma_max must exceed sigma_min = {schedule.sigma_min:g}")


@final
@attrs.frozen(kw_only=True)
class EDM(Schedule):
    """Noise that grows in proportion to time; for VE, whose sigma is sqrt(B) = sigma_max t.

    beta(t) = 2 sigma_max^2 t;  t(B) = sqrt(B) / sigma_max. It runs from t_min = sigma_min / sigma_max.
    Karras et al. let t be sigma itself; here t ends at 1.

    Source: Karras et al. 2022, arXiv 2206.00364, table 1 (EDM).
    """

    source: ClassVar[str] = "Karras et al. 2022, arXiv 2206.00364, table 1"

    sigma_min: float = parameter("sqrt(B) at t_min, in data units", 0.002, validator=gt(0.0))
    sigma_max: float = parameter("sqrt(B) at t = 1, in data units", 80.0, validator=_above_sigma_min)

    @property
    def t_min(self) -> float:
        return self.sigma_min / self.sigma_max

    @float64
    def rate(self, t: Tensor) -> Tensor:
        return 2.0 * self.sigma_max**2 * t

    @float64
    def integral(self, t: Tensor) -> Tensor:
        return (self.sigma_max * t) ** 2

    @float64
    def time(self, integral: Tensor) -> Tensor:
        return torch.sqrt(integral) / self.sigma_max
