"""dx = -beta/2 x dt + sqrt(beta) dw: alpha = exp(-B/2), sigma = sqrt(1 - exp(-B))."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from torch import Tensor
from torch.nn.functional import softplus

from diffkit.component import Requirement, parameter
from diffkit.interfaces.schedule import Schedule
from diffkit.interfaces.sde import ScheduledSDE
from diffkit.tensors import float64
from diffkit_standard.schedules.linear import Linear


@final
@attrs.frozen(kw_only=True)
class VP(ScheduledSDE):
    """The variance-preserving (Ornstein-Uhlenbeck) process: alpha^2 + sigma^2 = 1.

    f = -beta/2, g^2 = beta, alpha = exp(-B/2), sigma = sqrt(1 - exp(-B)), B = softplus(-lambda).

    Source: Song et al. 2021, arXiv 2011.13456, eq. 11.
    """

    source: ClassVar[str] = "Song et al. 2021, arXiv 2011.13456, eq. 11"

    schedule: Schedule = parameter("the rate beta and its integral B", factory=Linear)

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (
            Requirement(
                "schedule.preserving",
                "VP reads exp(-B/2) as its signal rate, and this schedule does not declare that its B, which "
                "may run far beyond the point where that vanishes, suits it (schedule.preserving)",
                "use linear or cosine here, or sde ve with this schedule; one of your own may declare it",
            ),
        )

    @float64
    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-0.5 * self.schedule.integral(t))

    @float64
    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(-self.schedule.integral(t)))

    @float64
    def log_snr(self, t: Tensor) -> Tensor:
        B = self.schedule.integral(t)
        return -B - torch.log(-torch.expm1(-B))

    @float64
    def integral_of(self, log_snr: Tensor) -> Tensor:
        return softplus(-log_snr, threshold=float("inf"))

    @float64
    def drift_rate(self, t: Tensor) -> Tensor:
        return -0.5 * self.schedule.rate(t)

    @float64
    def diffusion(self, t: Tensor) -> Tensor:
        return torch.sqrt(self.schedule.rate(t))
