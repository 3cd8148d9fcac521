"""Times whose square roots are at equal distances."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from torch import Tensor

from diffkit.interfaces.grid import Grid
from diffkit.interfaces.sde import SDE


@final
@attrs.frozen(kw_only=True)
class Quadratic(Grid):
    """Uniform in sqrt(t): t_i = (sqrt(start) + (sqrt(stop) - sqrt(start)) i / steps)^2. Serves every process.

    Source: Song, Meng and Ermon 2021, arXiv 2010.02502, appendix D.2 (there with stop = 0).
    """

    source: ClassVar[str] = "Song, Meng and Ermon 2021, arXiv 2010.02502, appendix D.2"

    def times(self, sde: SDE, steps: int, start: float, stop: float) -> Tensor:
        roots = torch.tensor([start, stop], dtype=torch.float64).sqrt()
        times = (
            roots[0] + torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64) * (roots[1] - roots[0])
        ) ** 2
        times[0], times[-1] = start, stop
        return times
