"""Numerical derivatives for functions that may have kinks, and the times at which laws are tried."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffkit.testing.lawbook.base import ensure

__all__ = ["ensure_slope", "times_between"]

_STEP = 1e-5


def times_between(low: float, high: float, count: int = 101) -> Tensor:
    """Times from `low` to `high`, ends included: evenly spread, and crowded towards `low`."""
    even = torch.linspace(low, high, count, dtype=torch.float64)
    crowded = low + (high - low) * torch.logspace(-6, -2, 17, dtype=torch.float64)
    t = torch.cat((even, crowded)).sort().values
    apart = t.diff() > 1e-9 * (high - low)  # of two that rounding alone tells apart, the first
    return t[torch.cat((torch.tensor([True]), apart))]


def ensure_slope(
    function: Callable[[Tensor], Tensor],
    rate: Tensor,
    t: Tensor,
    high: float,
    what: str,
    scale: Tensor | None = None,
) -> None:
    """`rate` is the derivative of `function` at the times t.

    One-sided differences of second order, (-3 f(t) + 4 f(t + h) - f(t + 2h)) / 2h, on both sides: at a kink
    the rate may be either, or between. Tolerance 1e-5 of the larger of |rate| and `scale`, plus twice what
    steps of half the length change in the differences.
    """
    sides, doubt = [], torch.zeros_like(t)
    for h in (_STEP, -_STEP):
        inside = (t + 2 * h >= 0.0) & (t + 2 * h <= high)
        slope, finer = (_difference(function, t, step) for step in (h, 0.5 * h))
        doubt = torch.where(inside, torch.maximum(doubt, (slope - finer).abs()), doubt)
        sides.append(torch.where(inside, slope, torch.nan))
    left, right = (torch.where(side.isnan(), other, side) for side, other in (sides, sides[::-1]))
    size = rate.abs() if scale is None else torch.maximum(rate.abs(), scale)
    # The difference quotient itself is no better than the rounding of f over h.
    slack = 1e-5 * size + 1e-14 * function(t).abs() / _STEP + 2.0 * doubt
    low_end, high_end = torch.minimum(left, right) - slack, torch.maximum(left, right) + slack
    wrong = ~((rate >= low_end) & (rate <= high_end))
    if bool(wrong.any()):
        miss = torch.maximum(low_end - rate, rate - high_end).nan_to_num(nan=torch.inf)
        place = int(torch.where(wrong, miss, -torch.inf).argmax())
        ensure(
            False,
            f"{what} at t = {float(t[place]):.9g} is {float(rate[place]):.9g}, and the difference "
            f"quotient is {float(left[place]):.9g}",
        )


def _difference(function: Callable[[Tensor], Tensor], t: Tensor, h: float) -> Tensor:
    return (-3.0 * function(t) + 4.0 * function(t + h) - function(t + 2 * h)) / (2.0 * h)
