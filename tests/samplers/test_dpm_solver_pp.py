"""DPM-Solver++: orders, the published third order, and the SDE variant's exactness."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.errors import ConfigError
from diffkit.testing.exact import GaussianProblem, PointMass
from diffkit.testing.order import measure_order, measure_weak_order


def solver(**fields: object) -> object:
    return diffkit.create("sampler", {"name": "dpm-solver++", **fields})


@pytest.mark.parametrize("process", ["vp", "sub-vp", "ve", "flow"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_it_has_the_order_it_declares_given_a_history(order: int, process: str) -> None:
    found = measure_order(solver(order=order), diffkit.create("sde", process))
    assert abs(found.order - order) < 0.25, found


def test_the_published_third_order_is_of_order_two() -> None:
    found = measure_order(solver(order=3, published=True), diffkit.create("sde", "vp"))
    assert abs(found.order - 2.0) < 0.25, found


def test_its_own_start_caps_the_order_at_two() -> None:
    found = measure_order(solver(order=3), diffkit.create("sde", "vp"), history="own", steps=(64, 128, 256))
    assert abs(found.order - 2.0) < 0.25, found


@pytest.mark.parametrize("order", [1, 2])
def test_the_sde_variant_keeps_its_weak_order(order: int) -> None:
    found = measure_weak_order(solver(variant="sde", order=order), diffkit.create("sde", "vp"))
    assert found.order > order - 0.25, found


def test_the_sde_variant_keeps_the_law_of_a_point_mass() -> None:
    """From its marginal at t a point mass lands on its marginal at s, in one step of any length."""
    sde = diffkit.create("sde", "sub-vp")
    point = PointMass(x_0=[0.5])
    as_gaussian = GaussianProblem(mean=[0.5], covariance=[[0.0]])
    result = diffkit.sample(
        point.model(sde),
        sde=sde,
        sampler=solver(variant="sde"),
        steps=2,
        shape=(20000, 1),
        stop=0.3,
        batch_size=20000,
        dtype=torch.float64,
    )
    mean, covariance = as_gaussian.moments(sde, torch.tensor(0.3))
    deviation = float(covariance.sqrt())
    assert float(result.x.mean() - mean) == pytest.approx(0.0, abs=4.5 * deviation / 20000**0.5)
    assert float(result.x.std()) == pytest.approx(deviation, rel=0.03)


def test_the_sde_variant_has_no_third_order() -> None:
    with pytest.raises(ConfigError, match="orders 1 and 2"):
        solver(variant="sde", order=3)
