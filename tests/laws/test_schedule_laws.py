"""Every built-in schedule, held against the laws of its kind."""

from __future__ import annotations

from typing import Any

import pytest

from diffkit.testing import Law, parametrize_with_laws
from diffkit.testing.lawbook.slopes import ensure_slope, times_between

SCHEDULES: list[Any] = [
    "linear",
    {"name": "linear", "beta_min": 5.0, "beta_max": 1.0},
    "cosine",
    {"name": "cosine", "s": 0.0},
    "offset-cosine",
    "scaled-linear",
    "sigmoid",
    "constant",
    "geometric",
    "edm",
    "discrete",
    {"name": "discrete", "steps": 300},
]


@parametrize_with_laws("schedule", SCHEDULES)
def test_schedule_laws(law: Law, component: Any) -> None:
    law(component)


def test_a_wrong_slope_is_told_where_it_misses_most() -> None:
    """B = t^3 / 2 beside beta = t^2 misses by t^2 / 2: most at the end, next to nothing at the start."""
    t = times_between(0.0, 1.0)
    with pytest.raises(Exception, match=r"beta at t = 1 is 1, and the difference quotient is 1\.5"):
        ensure_slope(lambda at: 0.5 * at**3, t**2, t, 1.0, "beta")
    ensure_slope(lambda at: at**3 / 3.0, t**2, t, 1.0, "beta")
