"""dx = -beta/2 x dt + sqrt(beta (1 - exp(-2B))) dw: alpha = exp(-B/2), sigma = 1 - exp(-B)."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.interfaces.schedule import Schedule
from diffkit.interfaces.sde import ScheduledSDE
from diffkit.tensors import float64
from diffkit_standard.schedules.linear import Linear


@final
@attrs.frozen(kw_only=True)
class SubVP(ScheduledSDE):
    """The sub-VP process: VP's signal with less noise, sigma = 1 - exp(-B).

    f = -beta/2, g^2 = beta (1 - exp(-2B)), alpha/sigma = 1 / (2 sinh(B/2)), B = 2 asinh(e^(-lambda/2) / 2).
    alpha^2 + sigma^2 is not 1, and sigma^2 is about B^2 for small t.

    Source: Song et al. 2021, arXiv 2011.13456, eq. 12.
    """

    source: ClassVar[str] = "Song et al. 2021, arXiv 2011.13456, eq. 12"

    schedule: Schedule = parameter("the rate beta and its integral B", factory=Linear)

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (
            Requirement(
                "schedule.preserving",
                "sub-VP reads exp(-B/2) as its signal rate, and this schedule does not declare that its B, "
                "which may run far beyond the point where that vanishes, suits it (schedule.preserving)",
                "use linear or cosine here, or sde ve with this schedule; one of your own may declare it",
            ),
        )

    @float64
    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-0.5 * self.schedule.integral(t))

    @float64
    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(-self.schedule.integral(t))

    @float64
    def log_snr(self, t: Tensor) -> Tensor:
        B = self.schedule.integral(t)
        return -B - 2.0 * torch.log(-torch.expm1(-B))

    @float64
    def integral_of(self, log_snr: Tensor) -> Tensor:
        return 2.0 * torch.asinh(0.5 * torch.exp(-0.5 * log_snr))

    @float64
    def drift_rate(self, t: Tensor) -> Tensor:
        return -0.5 * self.schedule.rate(t)

    @float64
    def diffusion(self, t: Tensor) -> Tensor:
        return torch.sqrt(-self.schedule.rate(t) * torch.expm1(-2.0 * self.schedule.integral(t)))
