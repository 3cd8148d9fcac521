"""Overdamped Langevin dynamics against closed forms, and against its own transition kernel on a line.

On a line the law that a step of the sampler settles on is the left eigenvector of its kernel, found on a
grid: no sampling, so that a bias of a fraction of a percent is seen.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import diffkit
from diffkit.problem import Problem
from diffkit_energy.energies import Energy
from diffkit_energy.samplers.overdamped_langevin import OverdampedLangevin
from diffkit_energy.sdes.langevin import Langevin

DOUBLE = torch.float64


def bowl(stiffness: float) -> Any:
    """U = k |x|^2 / 2."""
    return lambda x: 0.5 * stiffness * x.flatten(1).square().sum(1)


def wells(x: Tensor) -> Tensor:
    """Two wells, the left one lower, a barrier of about one between them."""
    x = x.flatten(1)[:, 0]
    return (x**2 - 1.0) ** 2 + 0.2 * x


def sampled(sde: Langevin, sampler: OverdampedLangevin, steps: int, count: int, **given: Any) -> Tensor:
    shape = (count, 1)
    return diffkit.sample(
        sde.model(), sampler=sampler, steps=steps, shape=shape, batch_size=count, dtype=DOUBLE, **given
    ).x


def settled(sde: Langevin, sampler: OverdampedLangevin, line: Tensor) -> Tensor:
    """The law that steps of the sampler settle on, as weights on a grid."""
    x, t = line[:, None], torch.tensor([1.0, 0.5], dtype=DOUBLE)
    problem = Problem.build(sde.model(), sde, t.unbind(), torch.arange(len(x)), x)
    mean, deviation = sampler.transition(problem, x, *t, None)
    kernel = torch.softmax(-0.5 * ((line - mean) / deviation) ** 2, dim=1)
    for _ in range(24):  # 2^24 steps
        kernel = kernel @ kernel
        kernel /= kernel.sum(1, keepdim=True)
    return kernel[len(line) // 2]


def boltzmann(sde: Langevin, line: Tensor) -> Tensor:
    return torch.softmax(-wells(line[:, None]) / sde.temperature, dim=0)


class TestAQuadraticWell:
    """x <- (1 - c) x + b z with c = h k / gamma settles on the variance b^2 / (1 - (1 - c)^2)."""

    K, KT, GAMMA, H, COUNT = 4.0, 0.5, 2.0, 0.1, 10_000

    def process(self) -> Langevin:
        return Langevin(potential=bowl(self.K), temperature=self.KT, friction=self.GAMMA)

    def test_the_stationary_variance_is_that_of_the_discrete_chain(self) -> None:
        x = sampled(self.process(), OverdampedLangevin(step_size=self.H), 60, self.COUNT)
        c = self.H * self.K / self.GAMMA
        exact = self.KT / self.K / (1.0 - c / 2.0)
        assert float(x.var()) == pytest.approx(exact, rel=4.0 * math.sqrt(2.0 / self.COUNT))
        assert abs(float(x.mean())) < 4.0 * math.sqrt(exact / self.COUNT)

    @pytest.mark.parametrize(
        "fields,variance",
        [
            ({"temperature": 0.3}, 0.3 * 0.125 / 0.9),
            ({"noise": 0.05}, 0.05**2 / (1.0 - 0.8**2)),
        ],
    )
    def test_temperature_and_noise_set_the_spread(self, fields: dict[str, float], variance: float) -> None:
        x = sampled(self.process(), OverdampedLangevin(step_size=self.H, **fields), 60, self.COUNT)
        assert float(x.var()) == pytest.approx(variance, rel=4.0 * math.sqrt(2.0 / self.COUNT))

    @pytest.mark.parametrize("fields", [{"temperature": 0.0}, {"noise": 0.0}])
    def test_without_noise_it_is_gradient_descent(self, fields: dict[str, float]) -> None:
        sampler = OverdampedLangevin(step_size=self.H, **fields)
        start = torch.linspace(-2.0, 2.0, 9, dtype=DOUBLE)[:, None]
        x = sampled(self.process(), sampler, 7, 9, x_init=start, seed=3)
        assert torch.allclose(x, 0.8**7 * start, rtol=1e-12, atol=0.0)
        assert not sampler.stochastic

    def test_a_score_serves_as_well_as_an_energy(self) -> None:
        """With friction and kT of 1 a step is x + h score + sqrt(2 h) z."""
        one = diffkit.sample(
            score=lambda x, t: -3.0 * x, sde="langevin", sampler="overdamped-langevin", steps=5, shape=(4, 2)
        )
        energy = Energy(function=bowl(3.0))
        other = diffkit.sample(energy, sde="langevin", sampler="overdamped-langevin", steps=5, shape=(4, 2))
        assert torch.allclose(one.x, other.x, atol=1e-6)
        assert one.nfe == other.nfe == 5


class TestClipping:
    def test_the_gradient_is_held_element_by_element(self) -> None:
        sampler = OverdampedLangevin(step_size=0.5, temperature=0.0, gradient_clip=0.25)
        start = torch.tensor([[4.0], [-4.0], [0.2]], dtype=DOUBLE)
        x = sampled(Langevin(potential=bowl(1.0)), sampler, 1, 3, x_init=start)
        assert torch.allclose(x, torch.tensor([[3.875], [-3.875], [0.1]], dtype=DOUBLE))

    def test_x_is_held_to_its_range_after_the_noise(self) -> None:
        sampler = OverdampedLangevin(step_size=1.0, clip=(-0.5, 0.7))
        x = sampled(Langevin(potential=bowl(0.01)), sampler, 3, 400)
        assert (float(x.min()), float(x.max())) == (-0.5, 0.7)
        assert not sampler.affine
        assert "sampler.transition" not in sampler.provides


class TestTheLawItSettlesOn:
    LINE = torch.linspace(-2.6, 2.6, 301, dtype=DOUBLE)

    def test_the_bias_falls_with_the_step(self) -> None:
        """The error of E[x^2] is C h + O(h^2)."""
        sde, squares = Langevin(potential=wells, temperature=0.4), self.LINE**2
        exact = float((boltzmann(sde, self.LINE) * squares).sum())
        steps = [0.04, 0.02, 0.01, 0.005]
        errors = [
            abs(float((settled(sde, OverdampedLangevin(step_size=h), self.LINE) * squares).sum()) - exact)
            for h in steps
        ]
        order = np.polyfit(np.log(steps), np.log(errors), 1)[0]
        assert order == pytest.approx(1.0, abs=0.1)
        assert errors[-1] < 0.01 * exact

    @pytest.mark.parametrize("temperature", [0.5, 2.0])
    def test_the_samplers_temperature_is_counted_in_the_models(self, temperature: float) -> None:
        sde = Langevin(potential=wells, temperature=0.4)
        hotter = Langevin(potential=wells, temperature=0.4 * temperature)
        law = settled(sde, OverdampedLangevin(step_size=0.002, temperature=temperature), self.LINE)
        assert 0.5 * float((law - boltzmann(hotter, self.LINE)).abs().sum()) < 0.005


class TestTwoWells:
    """U = (x^2 - 1)^2 + x / 5 at kT = 0.5: the barrier is about 2 kT high and soon crossed."""

    SDE = Langevin(potential=wells, temperature=0.5)
    LINE = torch.linspace(-2.6, 2.6, 5001, dtype=DOUBLE)
    LEFT, TOP, RIGHT = np.sort(np.roots([4.0, 0.0, -4.0, 0.2]).real)  # where U' = 0
    COUNT = 2000

    def start(self) -> Tensor:
        """Evenly between -1.6 and 1.6, none on the barrier: half of it right of 0."""
        return torch.linspace(-1.6, 1.6, self.COUNT, dtype=DOUBLE)[:, None]

    def test_with_noise_they_are_occupied_as_boltzmann_says(self) -> None:
        x = sampled(self.SDE, OverdampedLangevin(step_size=0.03), 1000, self.COUNT, x_init=self.start())
        right = float((x > self.TOP).to(DOUBLE).mean())
        exact = float(boltzmann(self.SDE, self.LINE)[self.TOP < self.LINE].sum())
        error = math.sqrt(exact * (1.0 - exact) / self.COUNT)
        assert abs(exact - 0.5) > 10 * error  # half of them started there
        assert abs(right - exact) < 3.5 * error

    def test_without_noise_every_particle_stays_in_its_basin(self) -> None:
        start = self.start()
        x = sampled(
            self.SDE, OverdampedLangevin(step_size=0.02, temperature=0.0), 1500, self.COUNT, x_init=start
        )
        assert torch.equal(x > self.TOP, start > self.TOP)
        for side, bottom in ((x < self.TOP, self.LEFT), (x > self.TOP, self.RIGHT)):
            assert torch.allclose(x[side], torch.tensor(bottom, dtype=DOUBLE), atol=1e-6)
