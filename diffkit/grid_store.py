"""A grid fitted to a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diffkit import registry
from diffkit.checkpoint import TrainedModel
from diffkit.interfaces.grid import Grid

__all__ = ["awaits_fit", "fitted_grid"]


def awaits_fit(grid: Grid | None) -> bool:
    return grid is not None and grid.to_fit


def fitted_grid(
    model: TrainedModel,
    folder: Path,
    sampler: Any,
    steps: int | None,
    conditioners: Sequence[Any],
    say: Callable[[str], None],
) -> Grid:
    grid: Grid = registry.create("grid", "fitted")
    return grid.fitted_to(model, folder, sampler, steps, conditioners, say)
