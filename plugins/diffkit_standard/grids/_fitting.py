"""Fits the times of a sampling run to the model at hand, from a few trial trajectories.

A few noises are followed by many steps; then the times of the short run are moved until it ends as near
to those trajectories as it can. With u the share of steps done, the length of interval i in log-SNR is

    Delta_i  proportional to  Delta_i^0 exp(theta(u_i)),   theta piecewise linear with up to six knots,

Delta^0 being the best of the plain grids, and theta is found by the simplex method of Nelder and Mead 1965.
In the spirit of Sabour, Fidler and Kreis 2024, arXiv 2404.14507, and Chen et al. 2024, arXiv 2405.11326;
the objective here is the error itself: the geometric mean over noises of the RMS distance to the fine end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from diffkit import registry
from diffkit.errors import ComponentError, ConfigError, IncompatibleError
from diffkit.interfaces.grid import Grid
from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.noise import Noise
from diffkit.progress import Watch
from diffkit.sampling import sample
from diffkit.sampling_run import SamplingRun

__all__ = ["fit"]

_KNOTS = 6
_FURTHEST = 4.0  # an interval grows or shrinks by a factor of e^4 at most
_REFERENCE = 10  # the trajectories aimed at take this many times the steps, and 200 at least


def fit(
    run: SamplingRun, steps: int, shape: Sequence[int], count: int, stop: float | None, trials: int
) -> Grid:
    """A `fitted` grid for a run; as `diffkit.fit_grid`, which has made it."""
    if steps < 2 or count < 1 or trials < 1:
        raise ConfigError(
            f"steps is {steps}, count {count}, trials {trials}",
            "at least 2 steps, 1 noise and 1 trial",
            "A single step has no times to choose",
        )
    if run.sampler.stochastic or run.sampler.adaptive:
        raise IncompatibleError(
            f"{type(run.sampler).__name__} is {'stochastic' if run.sampler.stochastic else 'adaptive'}",
            "a deterministic sampler with fixed steps, whose every run can be held against a finer one",
            "fit for a deterministic one, such as dpm-solver++ or adams",
        )
    noise = Noise(seed=run.seed, index=torch.arange(count)).stream("fit-grid")
    x_init = run.sde.prior((count, *shape), noise, run.dtype, run.device)
    times = [float(time) for time in run.times if time is not None]
    fine = max(_REFERENCE * steps, 200)
    with Watch("fitting the grid", count * (fine + trials * steps), "passes") as watch:
        trial = _Trial(run=run, steps=steps, stop=stop, x_init=x_init, watch=watch)
        trial.target = trial.end(fine, registry.create("grid", run.sampler.default_grid))
        return _fitted(trial, times[0], times[-1], len(times) - 1, trials)


@attrs.define(kw_only=True, eq=False)
class _Trial:
    """Runs of one set of noises, their cost kept.

    Args:
        target: where they should end.
        calls: forward passes so far, all samples together.
    """

    run: SamplingRun
    steps: int
    stop: float | None
    x_init: Tensor
    watch: Watch
    target: Tensor | None = None
    calls: int = 0

    def end(self, steps: int, grid: Grid) -> Tensor:
        result = sample(
            self.run.model,
            sde=self.run.sde,
            sampler=self.run.sampler,
            steps=steps,
            x_init=self.x_init,
            grid=grid,
            stop=self.stop,
            conditioners=self.run.conditioners,
            batch_size=len(self.x_init),
        )
        self.calls += int(result.nfe_per_sample.sum())
        self.watch.at(self.calls)
        return result.x.to(torch.float64)

    def error(self, grid: Grid) -> float:
        """The geometric mean over samples of the RMS distance to the target; infinite for a run astray."""
        assert self.target is not None
        distance = (self.end(self.steps, grid) - self.target).flatten(1)
        # Least in float64, so that a sample that is met exactly does not rule the mean.
        logarithms = distance.square().mean(1).clamp(min=1e-30).log() * 0.5
        mean = float(logarithms.mean())
        return math.inf if math.isnan(mean) else math.exp(mean)


def _fitted(trial: _Trial, start: float, stop: float, intervals: int, trials: int) -> Grid:
    process, sampler = trial.run.sde, trial.run.sampler
    before, plain = min(
        (
            (trial.error(_table(process, sampler, times)), times)
            for times in _plain(process, start, stop, intervals)
        ),
        key=lambda pair: pair[0],
    )
    lengths = np.diff(_position(process, plain))
    best = (before, plain)

    def objective(theta: NDArray[np.float64]) -> float:
        nonlocal best
        times = _bent(process, plain, lengths, theta)
        error = trial.error(_table(process, sampler, times)) if bool((times.diff() < 0).all()) else math.inf
        best = min(best, (error, times), key=lambda pair: pair[0])
        return math.log(error) if 0.0 < error < math.inf else 50.0

    knots = min(intervals, _KNOTS)
    if intervals > 1:
        simplex = np.vstack([np.zeros(knots), 0.5 * np.eye(knots)])
        options = {"initial_simplex": simplex, "maxfev": trials, "xatol": 1e-2, "fatol": 1e-3}
        minimize(objective, np.zeros(knots), method="Nelder-Mead", options=options)
    error, times = best
    return _table(process, sampler, times, error=error, error_before=before, calls=trial.calls)


def _plain(process: SDE, start: float, stop: float, intervals: int) -> list[Tensor]:
    """The times of every grid that stands for itself and serves the process."""
    found = []
    for info in registry.components("grid"):
        try:
            grid: Grid = registry.create("grid", info.identity)
            found.append(grid.times(process, intervals, start, stop).to("cpu", torch.float64))
        except (ComponentError, ConfigError, IncompatibleError):
            continue
    return found


def _position(process: SDE, times: Tensor) -> NDArray[np.float64]:
    """Where the times lie in the variable that is bent: the log-SNR, or the time where there is none."""
    place = process.log_snr(times) if isinstance(process, GaussianSDE) else times
    return np.asarray(place.numpy(), dtype=np.float64)


def _bent(process: SDE, plain: Tensor, lengths: NDArray[np.float64], theta: NDArray[np.float64]) -> Tensor:
    """The plain times with the lengths of their intervals multiplied by exp(theta(u))."""
    shares = np.linspace(0.0, 1.0, len(lengths))
    bend = np.interp(shares, np.linspace(0.0, 1.0, len(theta)), np.clip(theta, -_FURTHEST, _FURTHEST))
    bent = lengths * np.exp(bend)
    bent *= lengths.sum() / bent.sum()
    places = torch.from_numpy(_position(process, plain)[0] + np.concatenate(([0.0], np.cumsum(bent))))
    times = process.time_of(places) if isinstance(process, GaussianSDE) else places
    times = times.clone()
    times[0], times[-1] = plain[0], plain[-1]
    return times


def _table(process: SDE, sampler: Sampler, times: Tensor, **record: Any) -> Grid:
    fields = {"table": tuple(times.tolist()), "sde": process, "sampler": sampler, **record}
    grid: Grid = registry.create("grid", {"name": "fitted", **fields})
    return grid
