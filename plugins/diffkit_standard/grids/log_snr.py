"""Times at equal distances of log-SNR."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from torch import Tensor

from diffkit.component import Requirement
from diffkit.errors import IncompatibleError
from diffkit.interfaces.grid import Grid
from diffkit.interfaces.sde import SDE, GaussianSDE


@final
@attrs.frozen(kw_only=True)
class LogSNR(Grid):
    """Uniform in lambda = 2 log(alpha/sigma), the variable in which DPM-Solver's steps are equal.

    Source: Lu et al. 2022, arXiv 2206.00927, section 3.4.
    """

    source: ClassVar[str] = "Lu et al. 2022, arXiv 2206.00927, section 3.4"

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (
            Requirement(
                "sde.gaussian",
                "a log-SNR grid needs a process with a signal-to-noise ratio",
                "use grid uniform",
            ),
        )

    def times(self, sde: SDE, steps: int, start: float, stop: float) -> Tensor:
        if not isinstance(sde, GaussianSDE):
            raise IncompatibleError(
                f"{type(sde).__name__} has no log-SNR", "a Gaussian process", "use grid uniform"
            )
        ends = sde.log_snr(torch.tensor([start, stop], dtype=torch.float64))
        shares = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64)
        times = sde.time_of(ends[0] + shares * (ends[1] - ends[0]))
        times[0], times[-1] = start, stop
        return times
