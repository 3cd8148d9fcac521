"""dx = sqrt(beta) dw: alpha = 1, sigma = sqrt(B)."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from torch import Tensor

from diffkit.component import parameter
from diffkit.interfaces.schedule import Schedule
from diffkit.interfaces.sde import ScheduledSDE
from diffkit.tensors import float64
from diffkit_standard.schedules.geometric import Geometric


@final
@attrs.frozen(kw_only=True)
class VE(ScheduledSDE):
    """The variance-exploding (Brownian) process: the signal stays, the noise grows.

    f = 0, g^2 = beta, alpha = 1, sigma = sqrt(B), B = exp(-lambda). The prior N(0, sigma_max^2) is only as
    good as sigma_max is large against the data.

    Source: Song et al. 2021, arXiv 2011.13456, eq. 9 and appendix B.
    """

    source: ClassVar[str] = "Song et al. 2021, arXiv 2011.13456, eq. 9"

    schedule: Schedule = parameter(
        "the rate beta = d sigma^2 / dt and its integral B = sigma^2", factory=Geometric
    )

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"sde.gaussian"})

    @float64
    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    @float64
    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(self.schedule.integral(t))

    @float64
    def log_snr(self, t: Tensor) -> Tensor:
        return -torch.log(self.schedule.integral(t))

    @float64
    def integral_of(self, log_snr: Tensor) -> Tensor:
        return torch.exp(-log_snr)

    @float64
    def drift_rate(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    @float64
    def diffusion(self, t: Tensor) -> Tensor:
        return torch.sqrt(self.schedule.rate(t))
