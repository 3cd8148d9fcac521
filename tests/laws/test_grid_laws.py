"""Every built-in grid that needs no fitting, held against the laws of its kind."""

from __future__ import annotations

from typing import Any

from diffkit.testing import Law, parametrize_with_laws


@parametrize_with_laws("grid", ["uniform", "log-snr", "karras", "quadratic"])
def test_grid_laws(law: Law, component: Any) -> None:
    law(component)
