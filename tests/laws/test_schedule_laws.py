"""Every built-in schedule, held against the laws of its kind."""

from __future__ import annotations

from typing import Any

from diffkit.testing import Law, parametrize_with_laws

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
