"""Orders of convergence, measured against exact solutions in float64.

A deterministic sampler is held pathwise against the exact quantile map of a 1-d mixture, a stochastic one
by the moments of Gaussian data, exactly propagated. The steps of the grids are unequal on purpose (lengths
1, 2, 1.5 in turn, in log-SNR): a wrong ratio of two steps is invisible where all steps are alike. The
interval stays away from sigma = 0 and from t = 0, where VP's sigma' diverges.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Literal

import attrs
import torch
from torch import Tensor

from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.testing.exact import GaussianProblem, MixtureProblem
from diffkit.testing.impulses import propagate_moments

__all__ = ["OrderMeasurement", "irregular_times", "measure_order", "measure_weak_order", "order_interval"]

FLOOR = 1e-11
"""Errors below it are rounding, not method."""

_PATTERN = (1.0, 2.0, 1.5)
_LEAD = 6  # exact steps before the measured ones: enough history for any multistep method of order 6


@attrs.frozen(kw_only=True)
class OrderMeasurement:
    """A measured order.

    Args:
        order: the slope of log error against log step size, by least squares over the finest runs above
            the rounding floor; infinite where already the coarsest run is exact.
        steps, errors: every run.
    """

    order: float
    steps: tuple[int, ...]
    errors: tuple[float, ...]


def standard_mixture() -> MixtureProblem:
    """A 1-d mixture of three overlapping bumps without a symmetry that could hide an error."""
    return MixtureProblem(weights=[0.3, 0.5, 0.2], means=[[-1.0], [0.3], [1.4]], variances=[0.3, 0.15, 0.25])


def order_interval(sde: GaussianSDE) -> tuple[float, float]:
    """Log-SNRs between which orders are measured: within [-5, 4], with room for a history before them."""
    ends = sde.log_snr(torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64)).tolist()
    low, high = max(ends[0], -5.0), min(ends[1], 4.0)
    return low + 0.4 * (high - low), high


def irregular_times(sde: GaussianSDE, steps: int, low: float, high: float, lead: int = 0) -> Tensor:
    """Times for `steps` unequal intervals from log-SNR `low` up to `high`, and `lead` intervals before."""
    lengths = torch.tensor([_PATTERN[i % len(_PATTERN)] for i in range(-lead, steps)], dtype=torch.float64)
    ends = torch.cat((torch.zeros(1, dtype=torch.float64), lengths.cumsum(0)))
    ends = (ends - ends[lead]) / (ends[-1] - ends[lead])
    return sde.time_of(low + ends * (high - low))


def measure_order(
    sampler: Sampler,
    sde: GaussianSDE,
    problem: MixtureProblem | None = None,
    *,
    history: Literal["exact", "own"] = "exact",
    steps: Sequence[int] = (16, 32, 64, 128),
    count: int = 24,
) -> OrderMeasurement:
    """The pathwise order of a deterministic sampler.

    Args:
        problem: 1-d; a mixture of three by default.
        history: `exact` = the carry is built by stepping through exact states before the measured
            interval (the order of the bulk formula); `own` = a cold start.
        steps: counts of steps, each the double of the one before.
        count: how many paths the RMS error is taken over.
    """
    problem = problem or standard_mixture()
    low, high = order_interval(sde)
    noise = Noise(seed=0, index=torch.arange(count))
    start = sde.time_of(torch.tensor(low, dtype=torch.float64))
    paths = problem.draw_at(sde, start, noise)

    def error(number: int) -> float:
        lead = _LEAD if history == "exact" else 0
        times = tuple(irregular_times(sde, number, low, high, lead).unbind())
        given = Problem.build(problem.model(sde), sde, times, noise.index, paths)
        carry = None
        for t, s in itertools.pairwise(times[: lead + 1]):
            _, carry = sampler.step(given, problem.flow(sde, paths, start, t), t, s, carry, noise)
        x = problem.flow(sde, paths, start, times[lead])
        for t, s in itertools.pairwise(times[lead:]):
            x, carry = sampler.step(given, x, t, s, carry, noise)
        return float((x - problem.flow(sde, paths, start, times[-1])).square().mean().sqrt())

    return _measured(error, steps)


def measure_weak_order(
    sampler: Sampler,
    sde: GaussianSDE,
    problem: GaussianProblem | None = None,
    *,
    steps: Sequence[int] = (24, 48, 96),
) -> OrderMeasurement:
    """The weak order of an affine sampler: the slower of the errors of mean and covariance.

    The run starts at the exact marginal; its moments at the end are propagated exactly.
    """
    problem = problem or GaussianProblem(mean=[0.7, -0.4], covariance=[[0.1, 0.03], [0.03, 0.06]])
    low, high = order_interval(sde)

    def error(number: int) -> float:
        times = tuple(irregular_times(sde, number, low, high).unbind())
        mean, covariance = propagate_moments(sampler, sde, problem, times)
        true_mean, true_covariance = problem.moments(sde, times[-1])
        return float((mean - true_mean).norm() + (covariance - true_covariance).norm())

    return _measured(error, steps)


def _measured(error: Callable[[int], float], steps: Sequence[int]) -> OrderMeasurement:
    counts: list[int] = []
    errors: list[float] = []
    for number in steps:
        counts.append(number)
        errors.append(error(number))
        if not errors[-1] > FLOOR:  # NaN ends the measurement too
            break
    usable = [(n, e) for n, e in zip(counts, errors, strict=True) if e > FLOOR]
    if any(math.isnan(e) for e in errors):
        order = math.nan
    elif len(usable) < 2:
        order = math.inf
    else:
        counted, found = ([math.log(value) for value in column] for column in zip(*usable[-3:], strict=True))
        order = -statistics.linear_regression(counted, found).slope
    return OrderMeasurement(order=order, steps=tuple(counts), errors=tuple(errors))
