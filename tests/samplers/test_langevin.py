"""Annealed Langevin dynamics against its paper's loop, and against the laws it settles on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diffkit import compatibility
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.testing.exact import GaussianProblem, MixtureProblem
from diffkit.testing.impulses import propagate_moments
from diffkit.testing.order import measure_weak_order
from diffkit_standard.samplers.langevin import AnnealedLangevin
from diffkit_standard.schedules.edm import EDM
from diffkit_standard.sdes.flow import Flow
from diffkit_standard.sdes.sub_vp import SubVP
from diffkit_standard.sdes.ve import VE
from diffkit_standard.sdes.vp import VP

PROCESSES = [VP(), SubVP(), VE(), Flow()]
MIXTURE = MixtureProblem(weights=[0.4, 0.6], means=[[-1.0, 0.2], [0.8, 0.5]], variances=[0.1, 0.3])


def test_on_ve_it_is_the_paper_s_loop() -> None:
    sde, levels, steps = VE(), torch.tensor([0.8, 0.6, 0.4, 0.2], dtype=torch.float64), 3
    sigma = sde.sigma(levels)
    e = 2e-5 * (sigma[-1] / 0.01) ** 2  # the paper's e for its sigma_L, at this last level
    noise = Noise(seed=2, index=torch.arange(4))
    x = expected = MIXTURE.draw_at(sde, levels[0], noise)
    sampler = AnnealedLangevin(steps_per_level=steps, step_size=float(e / sigma[-1] ** 2))
    problem = Problem.build(MIXTURE.model(sde), sde, tuple(levels), noise.index, x)
    for i in range(1, len(levels)):
        stream = noise.stream("sampler", i)
        x, _ = sampler.step(problem, x, levels[i - 1], levels[i], None, stream)
        length = e * sigma[i] ** 2 / sigma[-1] ** 2
        for number in range(steps):
            z = stream.normal_like(x, draw=number)
            expected = expected + 0.5 * length * MIXTURE.score(sde, expected, levels[i]) + length.sqrt() * z
    torch.testing.assert_close(x, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sde", [VP(), SubVP(), Flow()], ids=lambda sde: type(sde).__name__)
def test_in_scaled_variables_every_process_is_ve(sde: GaussianSDE) -> None:
    """Where the law still remembers where it came from, after one short step."""
    ve, noise = VE(schedule=EDM()), Noise(seed=2, index=torch.arange(4))
    t, s = torch.tensor([0.6, 0.4], dtype=torch.float64)
    x = MIXTURE.draw_at(sde, t, noise)

    def stepped(process: GaussianSDE, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        problem = Problem.build(MIXTURE.model(process), process, (t, s), noise.index, x)
        return AnnealedLangevin(steps_per_level=1).step(problem, x, t, s, None, noise)[0]

    rho_t, rho_s = sde.sigma(t) / sde.alpha(t), sde.sigma(s) / sde.alpha(s)
    scaled = stepped(ve, x / sde.alpha(t), rho_t / 80.0, rho_s / 80.0)
    torch.testing.assert_close(stepped(sde, x, t, s), sde.alpha(s) * scaled, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sde", PROCESSES, ids=lambda sde: type(sde).__name__)
def test_each_level_s_law_is_stationary_for_small_steps(sde: GaussianSDE) -> None:
    """The bias of the stationary law is of first order in the step, wherever sampling comes from."""
    data = GaussianProblem(mean=[0.7, -0.4], covariance=[[0.5, 0.2], [0.2, 0.3]])
    t, s = sde.time_of(torch.tensor([-1.2, -1.0], dtype=torch.float64)).unbind()
    wrong = torch.tensor([1.0, 2.0], dtype=torch.float64), 3.0 * torch.eye(2, dtype=torch.float64)
    mean, covariance = data.moments(sde, s)
    errors = []
    for step_size in (0.08, 0.04):
        sampler = AnnealedLangevin(step_size=step_size, steps_per_level=round(60 / step_size))
        reached_mean, reached = propagate_moments(sampler, sde, data, (t, s), wrong)
        torch.testing.assert_close(reached_mean, mean, rtol=0.0, atol=1e-6)
        errors.append(float((reached - covariance).norm() / covariance.norm()))
    assert errors[1] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2.0, abs=0.1)


def test_the_stationary_law_of_a_point_mass_is_too_wide_by_the_stated_factor() -> None:
    sde, sampler = SubVP(), AnnealedLangevin(step_size=0.6, steps_per_level=60)
    t, s = torch.tensor([0.5, 0.4], dtype=torch.float64)
    point = GaussianProblem(mean=[0.3], covariance=torch.zeros(1, 1))
    _, variance = propagate_moments(sampler, sde, point, (t, s))
    assert float(variance) == pytest.approx(float(sde.sigma(s) ** 2) / (1.0 - 0.6 / 4.0), rel=1e-6)


def test_more_levels_help_down_to_the_floor_that_the_step_sets() -> None:
    assert AnnealedLangevin().order == 0
    lagging = measure_weak_order(AnnealedLangevin(step_size=0.1), VP(), steps=(48, 96, 192))
    assert lagging.order == pytest.approx(1.0, abs=0.25)
    settled = measure_weak_order(
        AnnealedLangevin(step_size=1.0, steps_per_level=20), VP(), steps=(24, 48, 96)
    )
    assert settled.order == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize("sde", [VP(), VE()], ids=lambda sde: type(sde).__name__)
def test_clean_samples_of_a_default_run_have_the_data_s_moments(sde: GaussianSDE) -> None:
    sampler = AnnealedLangevin()
    data = GaussianProblem(mean=[0.0], covariance=[[0.25]])
    ends = sde.log_snr(torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64))
    levels = sde.time_of(torch.linspace(*ends.tolist(), sampler.default_steps, dtype=torch.float64))
    _, variance = propagate_moments(sampler, sde, data, (*levels.unbind(), None))
    assert math.sqrt(float(variance)) == pytest.approx(0.5, rel=0.06)


def test_a_level_costs_one_call_a_step() -> None:
    sde, noise = VP(), Noise(seed=0, index=torch.arange(3))
    t, s = torch.tensor([0.5, 0.4], dtype=torch.float64)
    x = torch.zeros(3, 2, dtype=torch.float64)
    problem = Problem.build(MIXTURE.model(sde), sde, (t, s), noise.index, x)
    AnnealedLangevin(steps_per_level=4).step(problem, x, t, s, None, noise)
    assert problem.calls.tolist() == [4, 4, 4]


@pytest.mark.parametrize("sde", PROCESSES, ids=lambda sde: type(sde).__name__)
def test_it_is_allowed_with_every_gaussian_process(sde: GaussianSDE) -> None:
    findings = compatibility.check(compatibility.Selection.of(sde, AnnealedLangevin()))
    assert [finding for finding in findings if finding.subject == "langevin"] == []
