"""Fitted grids kept beside the checkpoint they were fitted to, so that the fit is paid for once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from diffkit import registry, storage
from diffkit.checkpoint import TrainedModel
from diffkit.errors import ConfigError
from diffkit.fitting import fit_grid
from diffkit.interfaces.conditioner import Conditioner
from diffkit.interfaces.grid import Grid
from diffkit.interfaces.sampler import Sampler

__all__ = ["found_or_fitted"]


def found_or_fitted(
    model: TrainedModel,
    folder: Path,
    sampler: Sampler,
    steps: int | None,
    conditioners: Sequence[Conditioner],
    say: Callable[[str], None],
) -> Grid:
    """The grid fitted to a model for a sampler, a number of steps and conditioners: found, or fitted now.

    Args:
        model: what is sampled.
        folder: the model's; grids are kept in `grids`, one for each checkpoint and purpose.
        steps: as for `diffkit.sample`.
        say: told what the fit costs, before and after.
    """
    steps = sampler.default_steps if steps is None else steps
    purpose = {
        "step": model.step,
        "sampler": registry.describe(sampler),
        "steps": steps,
        "conditioners": [registry.describe(each) for each in conditioners],
    }
    key = hashlib.sha256(json.dumps(purpose, sort_keys=True).encode()).hexdigest()[:10]
    path = folder / "grids" / f"{key}.json"
    if path.is_file():
        kept: Grid = registry.create("grid", storage.read_json(path)["grid"])
        return kept
    if steps < 3:
        raise ConfigError(
            f"grid: fitted was asked for {steps} steps",
            "at least 3, for there to be a time to choose",
            "Set sampling.steps higher, or choose another grid",
        )
    say(f"grid: fitting {steps} steps of {registry.current().name(sampler)} to the model")
    grid = fit_grid(
        model, sde=model.sde, sampler=sampler, steps=steps, shape=model.spec.shape, conditioners=conditioners
    )
    described = registry.describe(grid)
    storage.write_json(path, {"purpose": purpose, "grid": described})
    if isinstance(described, dict):
        before, after = described["error_before"], described["error"]
        say(f"grid: {described['calls']:,} forward passes; error {before:.3g} before and {after:.3g} after")
    return grid
