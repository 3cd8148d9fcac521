"""UniPC: orders against the exact quantile map, coefficients against quadrature, one call a step."""

from __future__ import annotations

import itertools
import math

import pytest
import scipy.integrate
import torch

import diffkit
from diffkit.noise import Noise
from diffkit.problem import Formula, Problem
from diffkit.testing.exact import MixtureProblem, PointMass
from diffkit.testing.order import measure_order


def unipc(**fields: object) -> object:
    return diffkit.create("sampler", {"name": "unipc", **fields})


@pytest.mark.parametrize("corrector", [False, True])
@pytest.mark.parametrize("predictor_order", [1, 2, 3, 4])
def test_it_has_the_order_it_declares_given_a_history(predictor_order: int, corrector: bool) -> None:
    sampler = unipc(predictor_order=predictor_order, corrector=corrector)
    found = measure_order(sampler, diffkit.create("sde", "vp"))
    assert sampler.order == predictor_order + corrector
    assert abs(found.order - sampler.order) < 0.25, found


@pytest.mark.parametrize("process", ["sub-vp", "ve", "flow"])
def test_the_order_holds_on_every_process(process: str) -> None:
    assert abs(measure_order(unipc(), diffkit.create("sde", process)).order - 4.0) < 0.25


def test_its_own_start_caps_the_order_at_three() -> None:
    found = measure_order(
        unipc(predictor_order=4), diffkit.create("sde", "vp"), history="own", steps=(64, 128, 256, 512)
    )
    assert abs(found.order - 3.0) < 0.25, found


@pytest.mark.parametrize("scale", [0.02, 1.0, 4.0])
def test_the_predictor_integrates_polynomials_in_half_the_log_snr(scale: float) -> None:
    """D a cubic in l = lambda/2: x_s = (sigma_s/sigma_t) x + alpha_s int e^(l - l_s) D dl, by quadrature."""
    sde = diffkit.create("sde", "vp")
    places = torch.tensor([-1.5, -1.1, -0.9, -0.4, -0.2], dtype=torch.float64) * scale

    def cubic(place: float) -> float:
        return 0.3 - 0.8 * place + 0.5 * place**2 - 0.25 * place**3

    times = tuple(sde.time_of(2.0 * places).unbind())
    index = torch.arange(1)
    x = torch.tensor([[0.6]], dtype=torch.float64)
    model = Formula(lambda x, t: torch.full_like(x, cubic(0.5 * float(sde.log_snr(t)))))
    problem = Problem.build(model, sde, times, index, x)
    sampler, carry = unipc(predictor_order=4, corrector=False), None
    for t, s in itertools.pairwise(times[:-1]):
        _, carry = sampler.step(problem, x, t, s, carry, Noise(seed=0, index=index))
    t, s = times[-2:]
    end, _ = sampler.step(problem, x, t, s, carry, Noise(seed=0, index=index))
    low, high = float(places[-2]), float(places[-1])
    integral, _ = scipy.integrate.quad(
        lambda place: math.exp(place - high) * cubic(place), low, high, epsabs=1e-13
    )
    exact = float(sde.sigma(s) / sde.sigma(t)) * 0.6 + float(sde.alpha(s)) * integral
    assert float(end) == pytest.approx(exact, rel=1e-11)


def test_its_predictors_are_those_of_dpm_solver_pp() -> None:
    """Orders 1 and 3 run the same polynomial through the same outputs, by other formulas."""
    sde = diffkit.create("sde", "sub-vp")
    model = MixtureProblem(weights=[0.4, 0.6], means=[[-0.5, 0.2], [0.8, 0.1]], variances=[0.1, 0.2]).model(
        sde
    )
    x = torch.tensor([[0.7, -1.0], [0.1, 0.4]], dtype=torch.float64)
    times = tuple(torch.tensor([0.8, 0.6, 0.45, 0.2], dtype=torch.float64).unbind())
    index = torch.arange(2)
    problem, noise = Problem.build(model, sde, times, index, x), Noise(seed=0, index=index)
    for order in (1, 3):
        ends = []
        for sampler in (
            unipc(predictor_order=order, corrector=False),
            diffkit.create("sampler", {"name": "dpm-solver++", "order": order}),
        ):
            carry = None
            for t, s in itertools.pairwise(times):
                end, carry = sampler.step(problem, x, t, s, carry, noise)  # the history of one and the same x
            ends.append(end)
        torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-12)


def test_the_first_correction_is_the_published_one() -> None:
    """UniC-1 after a first-order step: D replaced by D_t + a (D_s - D_t), a = phi_1-weighted, by hand."""
    sde = diffkit.create("sde", "vp")
    times = tuple(torch.tensor([0.7, 0.5, 0.4], dtype=torch.float64).unbind())
    index, x = torch.arange(1), torch.tensor([[0.9]], dtype=torch.float64)
    problem = Problem.build(Formula(lambda x, t: 0.3 * x + t), sde, times, index, x)
    noise, sampler = Noise(seed=0, index=index), unipc(predictor_order=1)
    y, carry = sampler.step(problem, x, times[0], times[1], None, noise)
    end, _ = sampler.step(problem, y, times[1], times[2], carry, noise)

    def rates(t: torch.Tensor) -> tuple[float, float, float]:
        return float(sde.alpha(t)), float(sde.sigma(t)), 0.5 * float(sde.log_snr(t))

    (_, s0, l0), (a1, s1, l1), (a2, s2, l2) = (rates(t) for t in times)
    h = l1 - l0
    d0, d1 = 0.3 * 0.9 + 0.7, 0.3 * float(y) + 0.5
    linear = 1.0 + math.expm1(-h) / h  # int_0^1 h e^(-(1-u)h) u du
    corrected = s1 / s0 * 0.9 - a1 * math.expm1(-h) * d0 + a1 * linear * (d1 - d0)
    assert float(end) == pytest.approx(s2 / s1 * corrected - a2 * math.expm1(-(l2 - l1)) * d1, rel=1e-12)


def test_a_step_takes_one_call_and_a_point_mass_is_exact() -> None:
    sde = diffkit.create("sde", "flow")
    point = PointMass(x_0=[0.4, -0.7])
    x = torch.tensor([[1.0, 0.3], [-0.4, 2.0]], dtype=torch.float64)
    end = diffkit.sample(point.model(sde), sde=sde, sampler="unipc", steps=6, x_init=x, stop=0.1)
    assert end.nfe == 6
    exact = point.flow(sde, x, torch.tensor(sde.t_max), torch.tensor(0.1))
    torch.testing.assert_close(end.x, exact, rtol=1e-9, atol=1e-9)
