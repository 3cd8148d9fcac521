"""Adams methods: orders against the exact quantile map, exactness on polynomials, one call a step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

import diffkit
from diffkit.errors import ConfigError
from diffkit.noise import Noise
from diffkit.problem import Formula, Problem
from diffkit.testing.exact import MixtureProblem, PointMass
from diffkit.testing.order import measure_order

VARIABLES = ("noise", "data", "velocity")
METHODS = [(order, corrector) for corrector in (False, True) for order in range(1 + corrector, 6)]


def adams(**fields: object) -> object:
    return diffkit.create("sampler", {"name": "adams", **fields})


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("order,corrector", METHODS)
def test_it_has_the_order_it_declares_given_a_history(variable: str, order: int, corrector: bool) -> None:
    sampler = adams(variable=variable, order=order, corrector=corrector)
    found = measure_order(sampler, diffkit.create("sde", "vp"), steps=(32, 64, 128, 192))
    assert sampler.order == order
    assert abs(found.order - order) < 0.25, found


@pytest.mark.parametrize("process", ["sub-vp", "ve", "flow"])
@pytest.mark.parametrize("variable", VARIABLES)
def test_the_order_holds_on_every_process(process: str, variable: str) -> None:
    sampler = adams(variable=variable, order=3)
    assert abs(measure_order(sampler, diffkit.create("sde", process)).order - 3.0) < 0.25


@pytest.mark.parametrize("corrector,expected", [(False, 2.0), (True, 3.0)])
def test_its_own_start_caps_the_order(corrector: bool, expected: float) -> None:
    sampler = adams(order=5, corrector=corrector)
    found = measure_order(sampler, diffkit.create("sde", "vp"), history="own", steps=(64, 128, 256))
    assert abs(found.order - expected) < 0.25, found


def variables(process: object, variable: str, t: Tensor) -> tuple[Tensor, Tensor]:
    alpha, sigma = process.alpha(t), process.sigma(t)
    return {
        "noise": (alpha, sigma / alpha),
        "data": (sigma, alpha / sigma),
        "velocity": (alpha + sigma, sigma / (alpha + sigma)),
    }[variable]


@pytest.mark.parametrize("process", ["vp", "sub-vp"])
@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("order,corrector", [(1, False), (3, False), (4, False), (4, True), (5, True)])
def test_polynomial_slopes_are_integrated_exactly(
    process: str, variable: str, order: int, corrector: bool
) -> None:
    """Where p is a polynomial in r alone, of the predictor's degree, y follows its antiderivative."""
    sde = diffkit.create("sde", process)
    sampler = adams(variable=variable, order=order, corrector=corrector)
    polynomial = np.polynomial.Polynomial([0.7, -1.3, 0.4, 0.9, -0.2][: order - corrector])

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        _, r = variables(sde, variable, t)
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        p = polynomial(float(r))
        if variable == "data":
            return torch.full_like(x, p)
        if variable == "noise":
            return (x - sigma * p) / alpha
        return (x - sigma * p) / (alpha + sigma)  # eps - D = p

    times = tuple(torch.tensor([0.9, 0.8, 0.62, 0.5, 0.31, 0.25, 0.2], dtype=torch.float64).unbind())
    x = torch.tensor([[0.3], [-1.1]], dtype=torch.float64)
    index = torch.arange(2)
    problem = Problem.build(Formula(denoise), sde, times, index, x)
    anti, carry = polynomial.integ(), None
    places = [float(variables(sde, variable, t)[1]) for t in times]
    c_start = variables(sde, variable, times[0])[0]
    exact = x / c_start
    for number, (t, s) in enumerate(itertools.pairwise(times)):
        x, carry = sampler.step(problem, x, t, s, carry, Noise(seed=0, index=index))
        exact = exact + (anti(places[number + 1]) - anti(places[number]))
        if number < order - corrector - 1:  # the start is of lower order: begin again from the exact state
            x = exact * variables(sde, variable, s)[0]
        torch.testing.assert_close(x / variables(sde, variable, s)[0], exact, rtol=1e-10, atol=1e-10)
        if number < order - corrector - 1 and corrector:
            carry = (torch.full_like(x, anti(places[number + 1]) - anti(places[number])), carry[1])


@pytest.mark.parametrize("variable", VARIABLES)
def test_order_one_is_ddim(variable: str) -> None:
    sde = diffkit.create("sde", "sub-vp")
    model = MixtureProblem(weights=[0.4, 0.6], means=[[-0.5, 0.2], [0.8, 0.1]], variances=[0.1, 0.2]).model(
        sde
    )
    given = {"sde": sde, "steps": 7, "shape": (5, 2), "grid": "karras", "dtype": torch.float64}
    plain = diffkit.sample(model, sampler=adams(variable=variable, order=1, corrector=False), **given)
    torch.testing.assert_close(plain.x, diffkit.sample(model, sampler="ddim", **given).x)


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_point_mass_is_exact(variable: str) -> None:
    sde = diffkit.create("sde", "vp")
    point = PointMass(x_0=[0.4, -0.7])
    x = torch.tensor([[1.0, 0.3], [-0.4, 2.0]], dtype=torch.float64)
    end = diffkit.sample(
        point.model(sde), sde=sde, sampler=adams(variable=variable), steps=5, x_init=x, stop=0.01
    )
    exact = point.flow(sde, x, torch.tensor(sde.t_max), torch.tensor(0.01))
    torch.testing.assert_close(end.x, exact, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("corrector", [False, True])
def test_a_step_takes_one_call_and_keeps_the_dtype(corrector: bool) -> None:
    sde = diffkit.create("sde", "vp")
    model = MixtureProblem(weights=[1.0], means=[[0.5]], variances=[0.1]).model(sde)
    result = diffkit.sample(
        model, sde=sde, sampler=adams(corrector=corrector), steps=9, shape=(3, 1), dtype=torch.float32
    )
    assert result.nfe == 9
    assert result.x.dtype == torch.float32


def test_data_encoded_and_sampled_come_back() -> None:
    sde = diffkit.create("sde", "vp")
    model = MixtureProblem(weights=[0.4, 0.6], means=[[-0.5], [0.8]], variances=[0.1, 0.2]).model(sde)
    x = torch.linspace(-1.0, 1.2, 7, dtype=torch.float64)[:, None]
    z = diffkit.encode(model, sde=sde, x=x, sampler=adams(order=4), steps=100)
    back = diffkit.sample(model, sde=sde, x_init=z, sampler=adams(order=4), steps=100)
    torch.testing.assert_close(back.x, x, rtol=0.0, atol=1e-5)


def test_a_corrected_method_of_order_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least order 2"):
        adams(order=1, corrector=True)
