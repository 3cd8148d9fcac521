"""The laws of a schedule: B is the antiderivative of beta, increases, and can be inverted."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffkit.interfaces.schedule import Schedule
from diffkit.testing.lawbook.base import book_of, ensure, ensure_close
from diffkit.testing.lawbook.others import hold_for_others
from diffkit.testing.lawbook.slopes import ensure_slope, times_between

__all__ = ["LAWS"]


def range_of_times(schedule: Schedule) -> None:
    """0 <= t_min < t_max <= 1, and t_min = 0 only where B(0) > 0."""
    low, high = schedule.t_min, schedule.t_max
    ensure(0.0 <= low < high <= 1.0, f"t_min is {low} and t_max is {high}")
    start = float(schedule.integral(torch.tensor(0.0, dtype=torch.float64)))
    ensure(low > 0.0 or start > 0.0, f"t_min is 0 and B(0) is {start}")


def rate_is_derivative(schedule: Schedule) -> None:
    """beta(t) = dB/dt, beta >= 0."""
    t = times_between(schedule.t_min, schedule.t_max)
    rate = schedule.rate(t)
    ensure((rate >= 0.0).all(), f"beta falls to {float(rate.min()):.9g}")
    ensure_slope(schedule.integral, rate, t, schedule.t_max, "beta")


def mean_rate(schedule: Schedule) -> None:
    """In each of a thousand equal cells [t, u], (B(u) - B(t)) / (u - t) lies between the least and the
    largest beta: a rate that is wrong for a short while, or a B that jumps, shows in no slope beside it."""
    t = torch.linspace(schedule.t_min, schedule.t_max, 1001, dtype=torch.float64)
    B, width = schedule.integral(t), t.diff()
    # The mean of a parabola lies between its values at nine places, and so does that of a kink or a step.
    shares = torch.linspace(0.0, 1.0, 9, dtype=torch.float64)
    rate = schedule.rate(torch.lerp(t[:-1, None], t[1:, None], shares))
    mean, least, largest = B.diff() / width, rate.amin(1), rate.amax(1)
    # The difference of B loses digits of double precision; beta may be no better than single precision.
    slack = 1e-14 * B[1:].abs() / width + 1e-6 * largest.abs()
    wrong = ~((mean >= least - slack) & (mean <= largest + slack))
    place = int(wrong.int().argmax())
    ensure(
        ~wrong.any(),
        f"from t = {float(t[place]):.9g} to {float(t[place + 1]):.9g} beta is {float(least[place]):.9g} to "
        f"{float(largest[place]):.9g}, and B grows by {float(mean[place]):.9g} a unit of time",
    )


def integral_increases(schedule: Schedule) -> None:
    """B is finite, B(0) >= 0, and B(t) < B(u) for t < u."""
    t = times_between(0.0, schedule.t_max, 1001)
    B = schedule.integral(t)
    ensure(B.isfinite().all(), f"B is not finite at t = {t[~B.isfinite()][:1].tolist()}")
    ensure(B[0] >= 0.0, f"B(0) is {float(B[0]):.9g}")
    steps = torch.where(t.diff() > 0.0, B.diff(), torch.inf)
    place = int(steps.argmin())
    ensure(
        steps[place] > 0.0,
        f"B falls from {float(B[place]):.12g} to {float(B[place + 1]):.12g} "
        f"between t = {float(t[place]):.9g} and {float(t[place + 1]):.9g}",
    )


def time_inverts(schedule: Schedule) -> None:
    """time(B(t)) = t, within 1e-9."""
    t = times_between(schedule.t_min, schedule.t_max)
    ensure_close(schedule.time(schedule.integral(t)), t, 1e-9, "time(B(t))", t)


def precision(schedule: Schedule) -> None:
    """beta and B in float32 are those of float64 within 1e-6; so is the time; shapes and dtypes are kept."""
    single = times_between(max(schedule.t_min, 1e-6), schedule.t_max).to(torch.float32)
    single = single[(single >= schedule.t_min) & (single <= schedule.t_max)]
    double = single.to(torch.float64)
    for what, function in (("beta", schedule.rate), ("B", schedule.integral)):
        exact = function(double)
        ensure_close(function(single), exact, 1e-6 * exact.abs(), f"{what} in float32", single)
    B = schedule.integral(double).to(torch.float32)
    exact = schedule.time(B.to(torch.float64))
    ensure_close(schedule.time(B), exact, 1e-6 * exact.abs(), "time(B) in float32", single)
    middle = 0.5 * (schedule.t_min + schedule.t_max)
    for dtype in (torch.float32, torch.float64):
        for shape in ((), (1,), (5,), (2, 3)):
            t = torch.full(shape, middle, dtype=dtype)
            functions: dict[str, Callable[[Tensor], Tensor]] = {
                "rate": schedule.rate,
                "integral": schedule.integral,
                "time": schedule.time,
            }
            for name, method in functions.items():
                result = method(t)
                ensure(
                    result.shape == t.shape and result.dtype == dtype,
                    f"{name} of a {dtype} tensor of shape {shape} is {result.dtype} of {tuple(result.shape)}",
                )


def batch_independent(schedule: Schedule) -> None:
    """beta(t)_i depends on t_i alone: a vector of times gives what its elements give."""
    t = times_between(schedule.t_min, schedule.t_max, 11)
    for what, function in (("beta", schedule.rate), ("B", schedule.integral)):
        single = torch.stack([function(each) for each in t])
        ensure_close(function(t), single, 1e-13 * single.abs(), what, t)


def other_parameters(schedule: Schedule) -> None:
    """With each of its numbers changed in turn, as far as its validator accepts, B is still increasing, with
    beta as its derivative and time as its inverse: no formula is right for the defaults alone."""
    hold_for_others(
        "schedule", schedule, range_of_times, rate_is_derivative, mean_rate, integral_increases, time_inverts
    )


LAWS = book_of(
    "schedule",
    range_of_times,
    rate_is_derivative,
    mean_rate,
    integral_increases,
    time_inverts,
    precision,
    batch_independent,
    other_parameters,
)
