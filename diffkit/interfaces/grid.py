"""The grid: at which times a sampler stops on its way."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from diffkit.component import Component
from diffkit.interfaces.sde import SDE

__all__ = ["Grid"]


class Grid(Component):
    """Places the times of a sampling run."""

    @abstractmethod
    def times(self, sde: SDE, steps: int, start: float, stop: float) -> Tensor:
        """(steps + 1,) float64 times, strictly decreasing, the first `start` and the last `stop` exactly.

        `start > stop`, both within the process's range; `steps >= 1`. The last move to clean data
        (sigma = 0) is the sampling loop's own and not part of the grid.
        """
