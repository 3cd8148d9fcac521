"""Every built-in sampler, and its variants, held against the laws of its kind."""

from __future__ import annotations

from typing import Any

import pytest

from diffkit.registry import create
from diffkit.testing import Law, parametrize_with_laws
from diffkit.testing.order import measure_order

SAMPLERS: list[Any] = [
    "euler-maruyama",
    "reverse-diffusion",
    "ancestral",
    {"name": "ancestral", "variance": "large"},
    "predictor-corrector",
    {"name": "predictor-corrector", "predictor": "ddim", "corrector_steps": 0},
    {"name": "probability-flow", "method": "euler"},
    {"name": "probability-flow", "method": "heun"},
    {"name": "probability-flow", "method": "rk4"},
    {"name": "probability-flow", "method": "rk45"},
    *({"name": "exponential-integrator", "degree": degree} for degree in (0, 1, 2, 3)),
    {"name": "exponential-integrator", "eta": 0.5},
    {"name": "exponential-integrator", "eta": 1.0},
    "ddim",
    {"name": "ddim", "eta": 0.5},
    *({"name": "dpm-solver++", "order": order} for order in (1, 2, 3)),
    {"name": "dpm-solver++", "order": 1, "variant": "sde"},
    {"name": "dpm-solver++", "variant": "sde"},
    "unipc",
    "adams",
    "heun",
    "langevin",
    "sa-solver",
]


@parametrize_with_laws("sampler", SAMPLERS)
def test_sampler_laws(law: Law, component: Any) -> None:
    law(component)


OWN_START = (
    ({"name": "dpm-solver++", "order": 3}, 2),
    ({"name": "exponential-integrator", "degree": 2}, 2),
    ({"name": "exponential-integrator", "degree": 3}, 2),
)


@pytest.mark.parametrize("spec,order", OWN_START)
def test_a_cold_start_caps_a_multistep_method(spec: dict[str, Any], order: int) -> None:
    """A first step of order 1 errs by h^2, once: whatever the bulk formula, the run is of order 2."""
    found = measure_order(create("sampler", spec), create("sde", "vp"), history="own")
    assert found.order == pytest.approx(order, abs=0.3)


def test_the_published_third_order_formula_is_of_second_order() -> None:
    published = create("sampler", {"name": "dpm-solver++", "order": 3, "published": True})
    assert measure_order(published, create("sde", "vp")).order == pytest.approx(2.0, abs=0.1)
