"""The grid: at which times a sampler stops on its way."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from diffkit.component import Component
from diffkit.interfaces.sde import SDE

if TYPE_CHECKING:
    from diffkit.checkpoint import TrainedModel
    from diffkit.interfaces.conditioner import Conditioner
    from diffkit.interfaces.sampler import Sampler

__all__ = ["Grid"]


class Grid(Component):
    """Places the times of a sampling run."""

    @abstractmethod
    def times(self, sde: SDE, steps: int, start: float, stop: float) -> Tensor:
        """(steps + 1,) float64 times, strictly decreasing, the first `start` and the last `stop` exactly.

        `start > stop`, both within the process's range; `steps >= 1`. The last move to clean data
        (sigma = 0) is the sampling loop's own and not part of the grid.
        """

    @property
    def to_fit(self) -> bool:
        """Whether its times are still to be found for a model, by `fitted_to`."""
        return False

    def fitted_to(
        self,
        model: TrainedModel,
        folder: Path,
        sampler: Sampler,
        steps: int | None,
        conditioners: Sequence[Conditioner],
        say: Callable[[str], None],
    ) -> Grid:
        """This grid with its times found, where it suits itself to the model that is sampled.

        Args:
            model: what is sampled.
            folder: the model's, where a grid may keep what it found.
            sampler, steps, conditioners: as for `diffkit.sample`.
            say: told what finding them costs.
        """
        return self
