"""SA-Solver's weights against quadrature, its order against exact solutions."""

from __future__ import annotations

import itertools
import math

import mpmath
import pytest
import torch
from torch import Tensor

import diffkit
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.testing.exact import GaussianProblem, MixtureProblem
from diffkit.testing.impulses import propagate_moments
from diffkit.testing.order import irregular_times, measure_order, measure_weak_order
from diffkit_standard.samplers.ddim import DDIM
from diffkit_standard.samplers.exponential_integrator import ExponentialIntegrator
from diffkit_standard.samplers.sa_solver import SASolver, _moments
from diffkit_standard.sdes.flow import Flow
from diffkit_standard.sdes.sub_vp import SubVP
from diffkit_standard.sdes.ve import VE
from diffkit_standard.sdes.vp import VP

PROCESSES = [VP(), SubVP(), VE(), Flow()]
MIXTURE = MixtureProblem(weights=[0.4, 0.6], means=[[-1.0, 0.2], [0.8, 0.5]], variances=[0.1, 0.3])
NOISE = Noise(seed=7, index=torch.arange(5))
STEPS = (24, 48, 96)


@pytest.mark.parametrize(
    "predictor, corrector", [(1, 0), (2, 0), (3, 0), (4, 0), (1, 1), (2, 2), (3, 3), (4, 4)]
)
def test_order_without_noise_along_the_flow(predictor: int, corrector: int) -> None:
    sampler = SASolver(tau=0.0, predictor=predictor, corrector=corrector)
    assert sampler.order == predictor + (corrector > 0)
    assert not sampler.stochastic
    assert measure_order(sampler, VP(), steps=STEPS).order == pytest.approx(sampler.order, abs=0.25)


@pytest.mark.parametrize("sde", PROCESSES[1:], ids=lambda sde: type(sde).__name__)
def test_order_without_noise_on_other_processes(sde: GaussianSDE) -> None:
    sampler = SASolver(tau=0.0)
    assert measure_order(sampler, sde, steps=STEPS).order == pytest.approx(sampler.order, abs=0.25)


@pytest.mark.parametrize("predictor, corrector, cap", [(3, 0, 2.0), (2, 2, 3.0)])
def test_a_cold_start_caps_the_order(predictor: int, corrector: int, cap: float) -> None:
    """The first step is of order 1, and of order 2 once it is corrected."""
    sampler = SASolver(tau=0.0, predictor=predictor, corrector=corrector)
    measured = measure_order(sampler, VP(), history="own", steps=STEPS)
    assert measured.order == pytest.approx(cap, abs=0.25)


@pytest.mark.parametrize(
    "sde, predictor, order",
    [(VP(), 1, 1), (VP(), 2, 2), (VP(), 3, 2), (SubVP(), 2, 2), (VE(), 2, 2), (Flow(), 2, 2)],
    ids=lambda value: type(value).__name__ if isinstance(value, GaussianSDE) else str(value),
)
def test_weak_order_of_the_predictor(sde: GaussianSDE, predictor: int, order: int) -> None:
    sampler = SASolver(predictor=predictor, corrector=0)
    assert (sampler.stochastic, sampler.order) == (True, order)
    assert measure_weak_order(sampler, sde).order == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("tau, predictor, corrector", [(0.5, 2, 2), (1.0, 1, 1), (1.0, 2, 2), (1.0, 3, 3)])
def test_weak_order_with_the_corrector_is_at_least_two(tau: float, predictor: int, corrector: int) -> None:
    sampler = SASolver(tau=tau, predictor=predictor, corrector=corrector)
    assert sampler.order == 2
    assert measure_weak_order(sampler, VP(), steps=(24, 48, 96)).order > 1.75


@pytest.mark.parametrize("tau", [0.0, 0.4, 1.0, 3.0])
def test_a_denoiser_that_is_a_polynomial_in_log_snr_is_integrated_exactly(tau: float) -> None:
    """With D of degree 2 in l the third-order predictor and corrector make no error, against quadrature."""
    sde = SubVP()
    times = irregular_times(sde, 5, -4.0, 4.0).unbind()
    sampler = SASolver(tau=tau, predictor=3, corrector=2)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        place = 0.5 * sde.log_snr(t)
        return (0.3 - 0.7 * place + 0.2 * place**2).expand(x.shape)

    x = torch.ones(5, 1, dtype=torch.float64)
    problem = Problem.build(diffkit.problem.Formula(denoise), sde, times, NOISE.index, x)
    carry, k = None, 1.0 + tau**2
    for number, (t, s) in enumerate(itertools.pairwise(times)):
        stream = NOISE.stream(number)
        stepped, carry = sampler.step(problem, x, t, s, carry, stream)
        low, high = 0.5 * sde.log_snr(t), 0.5 * sde.log_snr(s)
        integral = mpmath.quad(
            lambda place, high=float(high): (
                mpmath.exp(-k * (high - place)) * (0.3 - 0.7 * place + 0.2 * place**2)
            ),
            [float(low), float(high)],
        )
        h = high - low
        exact = sde.sigma(s) / sde.sigma(t) * torch.exp(-(tau**2) * h) * x + sde.alpha(s) * k * float(
            integral
        )
        exact = exact + sde.sigma(s) * (-torch.expm1(-2.0 * tau**2 * h)).sqrt() * stream.normal_like(x)
        if number >= 3:  # by then three evaluations are known, and an exact state needs no correction
            torch.testing.assert_close(stepped, exact, rtol=1e-10, atol=1e-12)
        x = exact


@pytest.mark.parametrize("z", [-12.0, -1.0, -1e-6, 0.0, 1e-8, 0.03, 1.0, 17.0, 39.9, 40.1, 700.0])
def test_moments_of_the_exponential_without_cancellation(z: float) -> None:
    found = _moments(torch.tensor(z, dtype=torch.float64), 5)
    with mpmath.workdps(40):
        for m, value in enumerate(found.tolist()):
            exact = mpmath.quad(lambda u, m=m: mpmath.exp(-z * (1 - u)) * u**m, [0, 0.5, 0.9, 0.99, 1])
            assert value == pytest.approx(float(exact), rel=1e-13)


@pytest.mark.parametrize("sde", PROCESSES, ids=lambda sde: type(sde).__name__)
@pytest.mark.parametrize("tau", [0.3, 1.0, 2.0])
def test_a_point_mass_is_exact_at_any_order(sde: GaussianSDE, tau: float) -> None:
    point = GaussianProblem(mean=[0.6, -1.1], covariance=torch.zeros(2, 2))
    times = irregular_times(sde, 6, -4.0, 4.0).unbind()
    mean, covariance = propagate_moments(SASolver(tau=tau, predictor=3, corrector=3), sde, point, times)
    true_mean, true_covariance = point.moments(sde, times[-1])
    torch.testing.assert_close(mean, true_mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(covariance, true_covariance, rtol=1e-10, atol=1e-12)


def test_the_first_order_is_the_exponential_integrator_and_ddim() -> None:
    t, s = torch.tensor([0.6, 0.5], dtype=torch.float64)
    for tau, other in ((0.0, DDIM()), (0.7, ExponentialIntegrator(eta=0.7))):
        sampler = SASolver(tau=tau, predictor=1, corrector=0)
        sde = SubVP()
        x = MIXTURE.draw_at(sde, t, NOISE)
        problem = Problem.build(MIXTURE.model(sde), sde, (t, s), NOISE.index, x)
        ours, _ = sampler.step(problem, x, t, s, None, NOISE)
        theirs, _ = other.step(problem, x, t, s, None, NOISE)
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_the_corrector_costs_no_call() -> None:
    sde = VP()
    model = MIXTURE.model(sde)
    result = diffkit.sample(model, sde=sde, sampler=SASolver(), steps=8, shape=(2, 2), dtype=torch.float64)
    assert result.nfe == 8


@pytest.mark.parametrize("corrector", [0, 3])
def test_one_hand_made_corrector_step(corrector: int) -> None:
    """Two steps written out: predict, evaluate, correct the state with the same draw, predict again."""
    sde, tau, k = VP(), 0.8, 1.64
    times = torch.tensor([0.6, 0.5, 0.43], dtype=torch.float64)
    place = [0.5 * float(sde.log_snr(t)) for t in times]
    x_0 = MIXTURE.draw_at(sde, times[0], NOISE)
    problem = Problem.build(MIXTURE.model(sde), sde, tuple(times), NOISE.index, x_0)
    sampler = SASolver(tau=tau, predictor=2, corrector=corrector)
    x_1, carry = sampler.step(problem, x_0, times[0], times[1], None, NOISE.stream(0))
    x_2, _ = sampler.step(problem, x_1, times[1], times[2], carry, NOISE.stream(1))

    def weights(i: int, nodes: list[int]) -> list[float]:
        def lagrange(j: int, at: float) -> float:
            others = [n for n in nodes if n != j]
            return math.prod((at - place[n]) / (place[j] - place[n]) for n in others)

        scale = k * float(sde.alpha(times[i + 1]))
        return [
            scale
            * float(
                mpmath.quad(
                    lambda at, j=j: mpmath.exp(-k * (place[i + 1] - at)) * lagrange(j, at),
                    [place[i], place[i + 1]],
                )
            )
            for j in nodes
        ]

    def moved(i: int, x: Tensor, nodes: list[int], clean: dict[int, Tensor]) -> Tensor:
        h = torch.tensor(place[i + 1] - place[i], dtype=torch.float64)
        kept = sde.sigma(times[i + 1]) / sde.sigma(times[i]) * torch.exp(-(tau**2) * h)
        drawn = sde.sigma(times[i + 1]) * (1.0 - torch.exp(-2.0 * tau**2 * h)).sqrt()
        pulled = sum(w * clean[j] for w, j in zip(weights(i, nodes), nodes, strict=True))
        return kept * x + pulled + drawn * NOISE.stream(i).normal_like(x)

    clean = {0: problem.denoise(x_0, times[0])}
    predicted = moved(0, x_0, [0], clean)
    torch.testing.assert_close(x_1, predicted, rtol=1e-11, atol=1e-12)
    clean[1] = problem.denoise(predicted, times[1])
    corrected = moved(0, x_0, [0, 1], clean) if corrector else predicted
    torch.testing.assert_close(x_2, moved(1, corrected, [0, 1], clean), rtol=1e-11, atol=1e-12)
