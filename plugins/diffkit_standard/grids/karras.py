"""Times at equal distances of (sigma / alpha)^(1 / rho)."""

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
class Karras(Grid):
    """Uniform in (sigma/alpha)^(1/rho): rho = 1 in sigma/alpha itself, a large rho nearly in the log-SNR.

    Source: Karras et al. 2022, arXiv 2206.00364, eq. 5, for sigma/alpha in the place of sigma.
    """

    source: ClassVar[str] = "Karras et al. 2022, arXiv 2206.00364, eq. 5"

    rho: float = parameter("exponent: the larger, the more steps at low noise", 7.0, validator=gt(0.0))

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (
            Requirement(
                "sde.gaussian",
                "the Karras grid needs a process with a noise-to-signal ratio",
                "use grid uniform",
            ),
        )

    def times(self, sde: SDE, steps: int, start: float, stop: float) -> Tensor:
        if not isinstance(sde, GaussianSDE):
            raise IncompatibleError(
                f"{type(sde).__name__} has no sigma/alpha", "a Gaussian process", "use grid uniform"
            )
        # In logarithms: sigma/alpha = exp(-lambda / 2) covers many decades.
        ends = torch.exp(-0.5 * sde.log_snr(torch.tensor([start, stop], dtype=torch.float64)) / self.rho)
        shares = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64)
        times = sde.time_of(-2.0 * self.rho * torch.log(ends[0] + shares * (ends[1] - ends[0])))
        times[0], times[-1] = start, stop
        return times
