"""Times at equal distances."""

from __future__ import annotations

from typing import final

import attrs
import torch
from torch import Tensor

from diffkit.interfaces.grid import Grid
from diffkit.interfaces.sde import SDE


@final
@attrs.frozen(kw_only=True)
class Uniform(Grid):
    """Uniform in t: t_i = start + (stop - start) i / steps. Serves every process."""

    def times(self, sde: SDE, steps: int, start: float, stop: float) -> Tensor:
        return torch.linspace(start, stop, steps + 1, dtype=torch.float64)
