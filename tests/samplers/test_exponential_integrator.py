"""The exponential integrator: orders on every process it serves, and the laws of its coefficients."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit.errors import IncompatibleError
from diffkit.testing.exact import MixtureProblem, PointMass
from diffkit.testing.order import measure_order, measure_weak_order


def integrator(**fields: object) -> object:
    return diffkit.create("sampler", {"name": "exponential-integrator", **fields})


@pytest.mark.parametrize("process", ["vp", "sub-vp", "flow"])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_it_has_the_order_it_declares_given_a_history(degree: int, process: str) -> None:
    sampler = integrator(degree=degree)
    found = measure_order(sampler, diffkit.create("sde", process), steps=(64, 128, 256))
    assert sampler.order == degree + 1
    assert abs(found.order - sampler.order) < 0.25, found


def test_its_own_start_caps_the_order_at_two() -> None:
    found = measure_order(
        integrator(degree=3), diffkit.create("sde", "vp"), history="own", steps=(64, 128, 256)
    )
    assert abs(found.order - 2.0) < 0.25, found


def test_the_stochastic_form_is_of_weak_order_one() -> None:
    found = measure_weak_order(integrator(eta=1.0), diffkit.create("sde", "vp"))
    assert found.order > 0.75, found


@pytest.mark.parametrize("process", ["vp", "sub-vp", "flow"])
@pytest.mark.parametrize("degree", [0, 2, 3])
def test_a_point_mass_is_exact_down_to_t_min(process: str, degree: int) -> None:
    """The coefficients add up to sigma_s - (alpha_s / alpha_t) sigma_t, VP's singular end included."""
    sde = diffkit.create("sde", process)
    point = PointMass(x_0=[0.4, -0.7])
    x = torch.tensor([[1.0, 0.3], [-0.4, 2.0]], dtype=torch.float64)
    end = diffkit.sample(
        point.model(sde), sde=sde, sampler=integrator(degree=degree), steps=6, x_init=x, stop=sde.t_min
    )
    exact = point.flow(sde, x, torch.tensor(sde.t_max), torch.tensor(sde.t_min, dtype=torch.float64))
    torch.testing.assert_close(end.x, exact, rtol=1e-8, atol=1e-8)


def test_degree_zero_is_ddim() -> None:
    sde = diffkit.create("sde", "sub-vp")
    model = MixtureProblem(weights=[0.4, 0.6], means=[[-0.5], [0.8]], variances=[0.1, 0.2]).model(sde)
    given = {"sde": sde, "steps": 7, "shape": (5, 1), "grid": "uniform", "dtype": torch.float64}
    ours = diffkit.sample(model, sampler=integrator(degree=0), **given).x
    torch.testing.assert_close(ours, diffkit.sample(model, sampler="ddim", **given).x)


def test_ve_is_refused_with_the_remedy() -> None:
    with pytest.raises(IncompatibleError, match="ddim"):
        diffkit.sample(lambda x, t: x, sde="ve", sampler=integrator(), shape=(1, 1))
