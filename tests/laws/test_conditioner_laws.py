"""Every built-in conditioner, held against the laws of its kind."""

from __future__ import annotations

from typing import Any

from diffkit.testing import Law, parametrize_with_laws

CONDITIONERS: list[Any] = [
    {"name": "class-guidance", "label": 2},
    {"name": "class-guidance", "label": [0, 1], "scale": 0.0},
    {"name": "class-guidance", "label": "each", "scale": 3.0},
    {"name": "class-guidance", "label": 1, "scale": 3.0, "interval": [0.2, 0.6]},
    *({"name": "threshold", "method": method} for method in ("static", "dynamic", "state")),
]


@parametrize_with_laws("conditioner", CONDITIONERS)
def test_conditioner_laws(law: Law, component: Any) -> None:
    law(component)
