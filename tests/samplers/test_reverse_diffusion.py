"""Reverse diffusion against the two steps its source writes down, and against exact moments."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.testing.exact import MixtureProblem
from diffkit.testing.order import measure_weak_order
from diffkit_standard.samplers.reverse_diffusion import ReverseDiffusion
from diffkit_standard.schedules.discrete import Discrete
from diffkit_standard.sdes.flow import Flow
from diffkit_standard.sdes.sub_vp import SubVP
from diffkit_standard.sdes.ve import VE
from diffkit_standard.sdes.vp import VP

MIXTURE = MixtureProblem(weights=[0.4, 0.6], means=[[-1.0, 0.2], [0.8, 0.5]], variances=[0.1, 0.3])


@pytest.mark.parametrize("sde", [VP(), SubVP(), VE(), Flow()], ids=lambda sde: type(sde).__name__)
def test_weak_order_one_by_exact_moments(sde: GaussianSDE) -> None:
    sampler = ReverseDiffusion()
    assert measure_weak_order(sampler, sde).order == pytest.approx(sampler.order, abs=0.25)


def test_on_ve_it_is_the_smld_step() -> None:
    sde, t, s = VE(), _time(0.7), _time(0.6)
    x, step, score, z = _step(sde, t, s)
    gap = sde.sigma(t) ** 2 - sde.sigma(s) ** 2
    torch.testing.assert_close(step, x + gap * score + gap.sqrt() * z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [2, 50, 100])
def test_on_a_table_it_is_the_reverse_diffusion_ddpm_step(k: int) -> None:
    schedule = Discrete(steps=100)
    x, step, score, z = _step(VP(schedule=schedule), _time(k / 100), _time((k - 1) / 100))
    beta = schedule.beta_table[k - 1]
    expected = (2.0 - (1.0 - beta).sqrt()) * x + beta * score + beta.sqrt() * z
    torch.testing.assert_close(step, expected, rtol=1e-10, atol=1e-10)


def test_the_transition_is_the_step_without_its_draw() -> None:
    sde, t, s = SubVP(), _time(0.5), _time(0.45)
    x, step, _, z = _step(sde, t, s)
    problem = Problem.build(MIXTURE.model(sde), sde, (t, s), torch.arange(len(x)), x)
    mean, deviation = ReverseDiffusion().transition(problem, x, t, s, None)
    torch.testing.assert_close(step, mean + deviation * z)
    assert "sampler.transition" in ReverseDiffusion().provides


def _time(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _step(sde: GaussianSDE, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_t, the step's x_s, the exact score at x_t, and the draw."""
    noise = Noise(seed=3, index=torch.arange(5))
    x = MIXTURE.draw_at(sde, t, noise)
    problem = Problem.build(MIXTURE.model(sde), sde, (t, s), noise.index, x)
    stepped, _ = ReverseDiffusion().step(problem, x, t, s, None, noise)
    return x, stepped, MIXTURE.score(sde, x, t), noise.normal_like(x)
