"""A table of times made for one process, one sampler and one number of steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import attrs
import torch
from attrs.validators import ge
from torch import Tensor

from diffkit.checkpoint import TrainedModel
from diffkit.component import parameter
from diffkit.errors import IncompatibleError
from diffkit.interfaces.conditioner import Conditioner
from diffkit.interfaces.grid import Grid
from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.sde import SDE
from diffkit.sampling_run import SamplingRun
from diffkit.selection import Selection
from diffkit_standard.grids import _fitting, _kept

_REMEDY = "fit a grid for this run with diffkit.fit_grid, or choose another grid, such as log-snr"


def _decreasing(grid: Fitted, attribute: Any, value: tuple[float, ...]) -> None:
    if len(value) == 1 or any(later >= earlier for earlier, later in itertools.pairwise(value)):
        raise ValueError("the times of a table decrease, and there are two or more")


@final
@attrs.frozen(kw_only=True)
class Fitted(Grid):
    """The times that `diffkit.fit_grid` found for a model; without a table, a place to put them.

    It serves the process, the sampler, the number of steps and the end points that it was fitted for,
    and refuses every other, for which it would be no better than chance.

    Source: after Sabour, Fidler and Kreis 2024, arXiv 2404.14507, and Chen et al. 2024, arXiv 2405.11326.
    """

    source: ClassVar[str] = "Sabour et al. 2024, arXiv 2404.14507; Chen et al. 2024, arXiv 2405.11326"

    table: tuple[float, ...] = parameter("the times, decreasing", (), validator=_decreasing)
    sde: SDE | None = parameter("the process it was fitted for", None)
    sampler: Sampler | None = parameter("the sampler it was fitted for; null = any", None)
    error: float | None = parameter(
        "geometric mean of the samples' RMS errors on the noises of the fit", None
    )
    error_before: float | None = parameter("the same with the best of the grids it started from", None)
    calls: int = parameter("forward passes that the fit took, all samples together", 0, validator=ge(0))

    def refusals(self, selection: Selection) -> tuple[tuple[str, str], ...]:
        sampler, sde = selection.one("sampler"), selection.one("sde")
        found = []
        if None not in (self.sampler, sampler) and sampler != self.sampler:
            found.append(f"the fitted grid was made for the sampler {self.sampler}, and this is {sampler}")
        if None not in (self.sde, sde) and sde != self.sde:
            found.append(f"the fitted grid was made for the process {self.sde}, and this is {sde}")
        return tuple((reason, _REMEDY) for reason in found)

    def times(self, sde: SDE, steps: int, start: float, stop: float) -> Tensor:
        """The table.

        Raises:
            IncompatibleError: there is none yet, or it was fitted for something else.
        """
        if not self.table:
            raise _refusal("the fitted grid has no table of times yet")
        if self.sde is not None and sde != self.sde:
            raise _refusal(f"the fitted grid was made for the process {self.sde}, and this is {sde}")
        if steps != len(self.table) - 1:
            raise _refusal(
                f"the fitted grid has {len(self.table) - 1} intervals, and the run has {steps} "
                "(a run that ends in clean data has one less than steps)"
            )
        if (start, stop) != (self.table[0], self.table[-1]):
            raise _refusal(
                f"the fitted grid runs from t = {self.table[0]:g} to {self.table[-1]:g}, and the run from "
                f"{start:g} to {stop:g}"
            )
        return torch.tensor(self.table, dtype=torch.float64)

    @property
    def to_fit(self) -> bool:
        return not self.table

    def fit(
        self, run: SamplingRun, steps: int, shape: Sequence[int], count: int, stop: float | None, trials: int
    ) -> Grid:
        """The grid with the times that serve a run; what `diffkit.fit_grid` calls."""
        return _fitting.fit(run, steps, shape, count, stop, trials)

    def fitted_to(
        self,
        model: TrainedModel,
        folder: Path,
        sampler: Sampler,
        steps: int | None,
        conditioners: Sequence[Conditioner],
        say: Callable[[str], None],
    ) -> Grid:
        """The grid fitted to a model for a sampler and steps: found beside the model, or fitted now."""
        return self if self.table else _kept.found_or_fitted(model, folder, sampler, steps, conditioners, say)


def _refusal(got: str) -> IncompatibleError:
    return IncompatibleError(got, "the process, sampler, steps and end points of the fit", _REMEDY)
