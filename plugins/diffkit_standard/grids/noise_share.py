"""Times at equal distances of (sigma / (alpha + sigma))^(1 / rho)."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from attrs.validators import gt
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.errors import IncompatibleError
from diffkit.interfaces.grid import Grid
from diffkit.interfaces.sde import SDE, GaussianSDE


@final
@attrs.frozen(kw_only=True)
class NoiseShare(Grid):
    """Uniform in r^(1/rho), r = sigma / (alpha + sigma), the share of noise in x_t; r = 1/(1 + e^(lambda/2)).

    r is the time of the flow process, whatever the process at hand, and the variable in which Adams methods
    on the velocity work. rho = 2 is DDIM's quadratic rule in that time: dense at low noise, yet not wasteful
    at the noisy end, where a log-SNR grid spends a third of its steps on levels that hold no signal.

    Source: after Song, Meng and Ermon 2021, arXiv 2010.02502, appendix D.2 (the quadratic rule), and Liu,
    Gong and Liu 2023, arXiv 2209.03003 (the time).
    """

    source: ClassVar[str] = (
        "after Song et al. 2021, arXiv 2010.02502, appendix D.2; Liu et al. 2023, arXiv 2209.03003"
    )

    rho: float = parameter("exponent: the larger, the more steps at low noise", 2.0, validator=gt(0.0))

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (
            Requirement(
                "sde.gaussian",
                "a noise-share grid needs a process with signal and noise rates",
                "use grid uniform",
            ),
        )

    def times(self, sde: SDE, steps: int, start: float, stop: float) -> Tensor:
        if not isinstance(sde, GaussianSDE):
            raise IncompatibleError(
                f"{type(sde).__name__} has no sigma/alpha", "a Gaussian process", "use grid uniform"
            )
        log_snr = sde.log_snr(torch.tensor([start, stop], dtype=torch.float64))
        ends = torch.sigmoid(-0.5 * log_snr) ** (1.0 / self.rho)
        shares = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64)
        r = (ends[0] + shares * (ends[1] - ends[0])) ** self.rho
        times = sde.time_of(-2.0 * torch.logit(r))
        times[0], times[-1] = start, stop
        return times
