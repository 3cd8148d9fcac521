"""Every built-in process, held against the laws of its kind, with each schedule it takes."""

from __future__ import annotations

from typing import Any

from diffkit.testing import Law, parametrize_with_laws

PRESERVING = ("linear", "cosine", "offset-cosine", "scaled-linear", "sigmoid", "constant", "discrete")
PROCESSES: list[Any] = [
    *({"name": name, "schedule": schedule} for name in ("vp", "sub-vp", "ve") for schedule in PRESERVING),
    {"name": "ve", "schedule": "geometric"},
    {"name": "ve", "schedule": "edm"},
    "flow",
]


@parametrize_with_laws("sde", PROCESSES)
def test_sde_laws(law: Law, component: Any) -> None:
    law(component)
