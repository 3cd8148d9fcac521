"""Fits the times of a sampling run to the model at hand; how is the grid `fitted`'s own matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from diffkit import registry
from diffkit.interfaces.grid import Grid
from diffkit.sampling_run import DEFAULT_SAMPLER, Denoiser, SamplingRun
from diffkit.tensors import Device

__all__ = ["fit_grid"]


def fit_grid(
    model: Denoiser | None = None,
    *,
    score: Callable[[Tensor, Tensor], Tensor] | None = None,
    sde: Any = None,
    sampler: Any = DEFAULT_SAMPLER,
    steps: int,
    shape: Sequence[int],
    seed: int = 0,
    count: int = 16,
    conditioners: Sequence[Any] = (),
    stop: float | None = None,
    trials: int = 200,
    dtype: torch.dtype | None = None,
    device: Device = None,
) -> Grid:
    """A `fitted` grid for `diffkit.sample(model, sde=, sampler=, steps=, stop=, conditioners=)`.

    Args:
        model, score, sde, sampler, conditioners, stop, dtype, device: as for `diffkit.sample`; the sampler
            must be deterministic and not adaptive.
        steps: as it will be passed to `diffkit.sample`.
        shape: of one sample, without the batch.
        seed: of the trial noises, which are no others' noises, whatever the seed.
        count: how many trial noises; few elements a sample want more of them.
        trials: how many runs of `steps` steps the search may take.

    Returns:
        The grid, with its errors and its cost: about count * (trials * steps + max(10 steps, 200)) passes.

    Raises:
        ConfigError, IncompatibleError: as `diffkit.sample`; a sampler that cannot be fitted.
    """
    run = SamplingRun.build(
        model, score, sde, sampler, steps, None, None, stop, conditioners, seed, None, dtype, device
    )
    grid: Grid = registry.create("grid", "fitted").fit(run, steps, shape, count, stop, trials)
    return grid
