"""Ancestral sampling against discrete DDPM as its paper writes it, and against exact laws."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

import diffkit
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.testing.exact import ExactModel, GaussianProblem, MixtureProblem
from diffkit.testing.impulses import propagate_moments
from diffkit.testing.order import irregular_times, measure_weak_order
from diffkit_standard.conditioners.threshold import Threshold
from diffkit_standard.samplers.ancestral import Ancestral
from diffkit_standard.schedules.discrete import Discrete
from diffkit_standard.sdes.flow import Flow
from diffkit_standard.sdes.sub_vp import SubVP
from diffkit_standard.sdes.ve import VE
from diffkit_standard.sdes.vp import VP

Variance = Literal["small", "large"]

MIXTURE = MixtureProblem(weights=[0.4, 0.6], means=[[-1.0, 0.2], [0.8, 0.5]], variances=[0.1, 0.3])
COUNT, SEED = 6, 11


def ddpm(
    betas: Tensor, levels: list[int], model: ExactModel, variance: Variance, clamp: bool = False
) -> Tensor:
    """The paper's algorithm 2 with eq. 6 and 7 on the levels (counted from 1) of a table, downwards."""
    noise = Noise(seed=SEED, index=torch.arange(COUNT))
    alpha_bar = torch.cat((torch.ones(1, dtype=torch.float64), torch.cumprod(1.0 - betas, 0)))
    x = (1.0 - alpha_bar[levels[0]]).sqrt() * noise.stream("prior").normal((COUNT, 2), dtype=torch.float64)
    for number, (k, before) in enumerate(zip(levels, [*levels[1:], 0], strict=True), start=1):
        beta = 1.0 - alpha_bar[k] / alpha_bar[before]
        clean = model.denoise(x, torch.tensor(k / len(betas), dtype=torch.float64))
        if clamp:
            clean = clean.clamp(-1.0, 1.0)
        x = (
            alpha_bar[before].sqrt() * beta / (1.0 - alpha_bar[k]) * clean
            + (1.0 - beta).sqrt() * (1.0 - alpha_bar[before]) / (1.0 - alpha_bar[k]) * x
        )
        if before:
            posterior = (1.0 - alpha_bar[before]) / (1.0 - alpha_bar[k]) * beta
            z = noise.stream("sampler", number).normal((COUNT, 2), dtype=torch.float64)
            x = x + (posterior if variance == "small" else beta).sqrt() * z
    return x


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("steps", [300, 1000])
def test_visiting_every_level_is_discrete_ddpm(steps: int, variance: Variance) -> None:
    sde = VP(schedule=Discrete(steps=steps))
    result = _sample(sde, Ancestral(variance=variance), steps)
    expected = ddpm(sde.schedule.beta_table, list(range(steps, 0, -1)), MIXTURE.model(sde), variance)
    assert result.nfe == steps
    torch.testing.assert_close(result.x, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_skipping_levels_is_ddpm_on_the_shortened_chain(variance: Variance) -> None:
    sde = VP(schedule=Discrete(steps=100))
    result = _sample(sde, Ancestral(variance=variance), 12)
    expected = ddpm(sde.schedule.beta_table, list(range(100, 0, -9)), MIXTURE.model(sde), variance)
    torch.testing.assert_close(result.x, expected, rtol=1e-9, atol=1e-9)


def test_the_threshold_is_ddpm_code_s_clamp_of_the_clean_sample() -> None:
    sde = VP(schedule=Discrete(steps=100))
    model = MIXTURE.model(sde)
    clamped = _sample(sde, Ancestral(), 100, conditioners=[Threshold()])
    levels = list(range(100, 0, -1))
    expected = ddpm(sde.schedule.beta_table, levels, model, "small", clamp=True)
    assert (expected - ddpm(sde.schedule.beta_table, levels, model, "small")).abs().max() > 0.01
    torch.testing.assert_close(clamped.x, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("sde", [VP(), SubVP(), VE(), Flow()], ids=lambda sde: type(sde).__name__)
def test_weak_order_one_by_exact_moments(sde: GaussianSDE, variance: Variance) -> None:
    sampler = Ancestral(variance=variance)
    assert measure_weak_order(sampler, sde).order == pytest.approx(sampler.order, abs=0.25)


@pytest.mark.parametrize("sde", [VP(), SubVP(), VE(), Flow()], ids=lambda sde: type(sde).__name__)
def test_the_small_variance_is_exact_for_a_point_mass(sde: GaussianSDE) -> None:
    point = GaussianProblem(mean=[0.6, -1.1], covariance=torch.zeros(2, 2))
    _assert_exact(sde, point, Ancestral(variance="small"))


def test_the_large_variance_is_exact_for_standard_normal_data() -> None:
    normal = GaussianProblem(mean=[0.0, 0.0], covariance=torch.eye(2))
    _assert_exact(VP(), normal, Ancestral(variance="large"))


@pytest.mark.parametrize("variance", ["small", "large"])
def test_the_last_move_has_no_noise(variance: Variance) -> None:
    sde = VP(schedule=Discrete(steps=50))
    result = _sample(sde, Ancestral(variance=variance), 50, trajectory=True)
    assert result.trajectory is not None
    noisy = result.trajectory[-2]
    expected = MIXTURE.model(sde).denoise(noisy, torch.tensor(1 / 50, dtype=torch.float64))
    torch.testing.assert_close(result.x, expected, rtol=0.0, atol=0.0)


def _assert_exact(sde: GaussianSDE, problem: GaussianProblem, sampler: Ancestral) -> None:
    times = irregular_times(sde, 5, -3.0, 3.0).unbind()
    mean, covariance = propagate_moments(sampler, sde, problem, times)
    true_mean, true_covariance = problem.moments(sde, times[-1])
    torch.testing.assert_close(mean, true_mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(covariance, true_covariance, rtol=1e-10, atol=1e-12)


def _sample(
    sde: GaussianSDE, sampler: Ancestral, steps: int, **options: object
) -> diffkit.sampling.SampleResult:
    return diffkit.sample(
        MIXTURE.model(sde),
        sde=sde,
        sampler=sampler,
        grid="uniform",
        steps=steps,
        shape=(COUNT, 2),
        seed=SEED,
        dtype=torch.float64,
        **options,  # type: ignore[arg-type]
    )
