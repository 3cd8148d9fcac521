"""Heun's method against EDM's algorithm 2 as its paper writes it, and against exact solutions."""

from __future__ import annotations

import math

import attrs
import pytest
import torch
from torch import Tensor

import diffkit
from diffkit.interfaces.grid import Grid
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.sampling import SampleResult
from diffkit.testing.exact import MixtureProblem
from diffkit.testing.order import measure_order, measure_weak_order
from diffkit_standard.samplers.heun import Heun
from diffkit_standard.schedules.edm import EDM
from diffkit_standard.sdes.flow import Flow
from diffkit_standard.sdes.sub_vp import SubVP
from diffkit_standard.sdes.ve import VE
from diffkit_standard.sdes.vp import VP

MIXTURE = MixtureProblem(weights=[0.4, 0.6], means=[[-1.0, 0.2], [0.8, 0.5]], variances=[0.1, 0.3])
PROCESSES = [VP(), SubVP(), VE(), Flow()]
COUNT, SEED = 6, 5


@attrs.frozen(kw_only=True, eq=False)
class Given(Grid):
    """The times as they are given."""

    given: Tensor

    def times(self, sde: SDE, steps: int, start: float, stop: float) -> Tensor:
        return self.given


def algorithm_2(
    sigmas: list[float], s_churn: float, s_tmin: float, s_tmax: float, s_noise: float, ceiling: float
) -> Tensor:
    """Karras et al. 2022, algorithm 2, with sigma(t) = t and s(t) = 1; churn ends at the ceiling."""
    sde = VE(schedule=EDM())
    noise = Noise(seed=SEED, index=torch.arange(COUNT))

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return MIXTURE.denoise(sde, x, torch.tensor(sigma / 80.0, dtype=torch.float64))

    x = sigmas[0] * noise.stream("prior").normal((COUNT, 2), dtype=torch.float64)
    steps = len(sigmas)
    for i, (sigma, following) in enumerate(zip(sigmas, [*sigmas[1:], 0.0], strict=True)):
        gamma = min(s_churn / steps, math.sqrt(2.0) - 1.0) if s_tmin <= sigma <= s_tmax else 0.0
        lifted = min(sigma + gamma * sigma, ceiling) if following else sigma
        z = s_noise * noise.stream("sampler", i + 1).normal((COUNT, 2), dtype=torch.float64)
        x_hat = x + math.sqrt(lifted**2 - sigma**2) * z
        slope = (x_hat - denoise(x_hat, lifted)) / lifted
        x = x_hat + (following - lifted) * slope
        if following:
            x = x_hat + (following - lifted) * 0.5 * (slope + (x - denoise(x, following)) / following)
    return x


@pytest.mark.parametrize(
    "s_churn, s_tmin, s_tmax, s_noise",
    [
        (0.0, 0.0, math.inf, 1.0),
        (2.0, 0.0, math.inf, 1.0),
        (2.0, 0.05, 30.0, 1.007),
        (80.0, 0.0, 50.0, 1.003),
    ],
)
def test_it_is_algorithm_2(s_churn: float, s_tmin: float, s_tmax: float, s_noise: float) -> None:
    sigmas = [80.0, 40.0, 17.0, 6.0, 2.0, 0.7, 0.2, 0.04, 0.002]
    sampler = Heun(
        s_churn=s_churn, s_tmin=s_tmin, s_tmax=None if math.isinf(s_tmax) else s_tmax, s_noise=s_noise
    )
    result = _sample(VE(schedule=EDM()), sampler, torch.tensor(sigmas, dtype=torch.float64) / 80.0)
    expected = algorithm_2(sigmas, s_churn, s_tmin, s_tmax, s_noise, ceiling=80.0)
    torch.testing.assert_close(result.x, expected, rtol=1e-9, atol=1e-9)
    assert result.nfe == 2 * len(sigmas) - 1


@pytest.mark.parametrize("sde", PROCESSES, ids=lambda sde: type(sde).__name__)
def test_order_two_along_the_flow(sde: GaussianSDE) -> None:
    measured = measure_order(Heun(), sde, steps=(16, 32, 64, 128))
    assert measured.order == pytest.approx(Heun().order, abs=0.25)


@pytest.mark.parametrize("sde", PROCESSES, ids=lambda sde: type(sde).__name__)
def test_weak_order_two_with_churn(sde: GaussianSDE) -> None:
    sampler = Heun(s_churn=2.0)
    assert sampler.stochastic
    assert measure_weak_order(sampler, sde, steps=(12, 24, 48)).order == pytest.approx(2.0, abs=0.25)


@pytest.mark.parametrize("sde", [VP(), SubVP(), Flow()], ids=lambda sde: type(sde).__name__)
def test_in_scaled_variables_every_process_is_ve(sde: GaussianSDE) -> None:
    t, s = torch.tensor([0.6, 0.4], dtype=torch.float64)
    x = MIXTURE.draw_at(sde, t, Noise(seed=SEED, index=torch.arange(COUNT)))
    ve = VE(schedule=EDM())
    rho_t, rho_s = sde.sigma(t) / sde.alpha(t), sde.sigma(s) / sde.alpha(s)
    scaled = _step(ve, x / sde.alpha(t), rho_t / 80.0, rho_s / 80.0)
    torch.testing.assert_close(_step(sde, x, t, s), sde.alpha(s) * scaled, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sde", PROCESSES, ids=lambda sde: type(sde).__name__)
def test_churn_asks_the_model_for_no_level_above_the_process_s_own(sde: GaussianSDE) -> None:
    asked: list[float] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        asked.append(float(t))
        return MIXTURE.denoise(sde, x, t)

    times = torch.linspace(sde.t_max, sde.t_min, 9, dtype=torch.float64)
    end = sde.log_snr(times[0])
    times[1] = sde.time_of(end + 0.1)  # churn would lift it beyond the end
    result = diffkit.sample(
        denoise,
        sde=sde,
        sampler=Heun(s_churn=1000.0),
        grid=Given(given=times),
        steps=9,
        shape=(COUNT, 2),
        dtype=torch.float64,
    )
    assert result.x.isfinite().all()
    assert max(asked) == sde.t_max
    assert sum(t == sde.t_max for t in asked) == 2  # the first move stays there, the second is lifted to it
    assert any(t not in times.tolist() for t in asked)


def test_without_churn_nothing_is_drawn() -> None:
    sde = VP()
    times = torch.linspace(1.0, 0.01, 6, dtype=torch.float64)
    first, second = (_sample(sde, Heun(), times, seed=seed, x_init=torch.ones(COUNT, 2)) for seed in (0, 1))
    assert not Heun().stochastic
    torch.testing.assert_close(first.x, second.x, rtol=0.0, atol=0.0)


def _step(sde: GaussianSDE, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    noise = Noise(seed=0, index=torch.arange(len(x)))
    problem = Problem.build(MIXTURE.model(sde), sde, (t, s), noise.index, x)
    return Heun().step(problem, x, t, s, None, noise)[0]


def _sample(
    sde: GaussianSDE, sampler: Heun, times: Tensor, seed: int = SEED, x_init: Tensor | None = None
) -> SampleResult:
    return diffkit.sample(
        MIXTURE.model(sde),
        sde=sde,
        sampler=sampler,
        grid=Given(given=times),
        steps=len(times),
        shape=(COUNT, 2),
        seed=seed,
        x_init=None if x_init is None else x_init.double(),
        dtype=torch.float64,
    )
