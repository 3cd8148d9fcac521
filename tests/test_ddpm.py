"""Discrete DDPM, T = 300 and beta from 1e-4 to 0.02, against tables made here from the betas in NumPy.

What the parts (schedule, process, objective, sampler) make together is held to the closed forms of Ho et
al. 2020, arXiv 2006.11239: q(x_t | x_0) of eq. 4, the posterior of eq. 6 and 7, and the losses of eq. 12
and 14.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffkit.batch import Batch
from diffkit.interfaces.model import Model
from diffkit.interfaces.network import Level
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit_standard.objectives.noise import NoisePrediction
from diffkit_standard.samplers.ancestral import Ancestral
from diffkit_standard.schedules.discrete import Discrete
from diffkit_standard.sdes.vp import VP

T = 300
SDE = VP(schedule=Discrete(steps=T, beta_start=1e-4, beta_end=0.02))

BETA = np.linspace(1e-4, 0.02, T)
"""beta_1 .. beta_T, at 0 .. T-1."""
ALPHA = 1.0 - BETA
ALPHA_BAR = np.cumprod(ALPHA)
BEFORE = np.concatenate(([1.0], ALPHA_BAR[:-1]))
VARIANCE = BETA * (1.0 - BEFORE) / (1.0 - ALPHA_BAR)
K = np.arange(2, T + 1)
NODES = torch.from_numpy(np.arange(1, T + 1) / T)

X_0 = torch.linspace(-1.0, 1.0, 2 * T, dtype=torch.float64).sin().reshape(T, 2)
EPS = Noise(seed=3, index=torch.arange(T)).normal((T, 2), dtype=torch.float64)


def test_what_is_left_of_the_signal() -> None:
    assert np.sqrt(ALPHA_BAR[-1]) == pytest.approx(0.219, abs=5e-4)
    assert float(SDE.alpha(NODES[-1])) == pytest.approx(np.sqrt(ALPHA_BAR[-1]), rel=1e-13)


def test_the_forward_law_is_that_of_the_table() -> None:
    """x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps."""
    expected = np.sqrt(ALPHA_BAR)[:, None] * X_0.numpy() + np.sqrt(1.0 - ALPHA_BAR)[:, None] * EPS.numpy()
    np.testing.assert_allclose(SDE.perturb(X_0, NODES, EPS).numpy(), expected, rtol=0.0, atol=1e-13)


class Known(Model):
    """A denoiser that knows the clean sample."""

    offers = frozenset({"denoise"})

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return X_0


@pytest.mark.parametrize("variance", ["small", "large"])
def test_a_step_is_the_posterior_of_the_table(variance: Literal["small", "large"]) -> None:
    """Its mean is (sqrt(a') beta x_0 + sqrt(alpha) (1 - a') x_t) / (1 - a), a and a' being alpha_bar."""
    problem = Problem.build(Known(), SDE, tuple(NODES.flip(0)), torch.arange(T), EPS)
    for k in (2, 3, 77, 150, 299, 300):
        mean, std = Ancestral(variance=variance).transition(problem, EPS, NODES[k - 1], NODES[k - 2], None)
        of_data = np.sqrt(BEFORE[k - 1]) * BETA[k - 1] / (1.0 - ALPHA_BAR[k - 1])
        of_state = np.sqrt(ALPHA[k - 1]) * (1.0 - BEFORE[k - 1]) / (1.0 - ALPHA_BAR[k - 1])
        expected = of_data * X_0.numpy() + of_state * EPS.numpy()
        # 1 - alpha_bar, as the table has it, loses four digits at the first level.
        np.testing.assert_allclose(mean.numpy(), expected, rtol=0.0, atol=1e-11)
        exact = VARIANCE[k - 1] if variance == "small" else BETA[k - 1]
        assert float(std) ** 2 == pytest.approx(exact, rel=1e-11)


class Waves(nn.Module):
    """A fixed function of the state and of the level, in place of a network."""

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        return torch.sin(3.0 * x) + level.t[:, None]


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("weighting", ["unit", "bound"])
def test_the_loss_is_that_of_the_table(
    norm: Literal["l2", "l1"], weighting: Literal["unit", "bound"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean of |eps - eps_theta(x_t, t)|^p, times T beta^2 / (2 var alpha (1 - alpha_bar)) for the bound."""

    def every_level(
        objective: NoisePrediction, sde: GaussianSDE, noise: Noise, device: torch.device
    ) -> Tensor:
        return NODES

    monkeypatch.setattr(NoisePrediction, "draw_times", every_level)
    objective = NoisePrediction(norm=norm, weighting=weighting, levels=T, sigma_data=1.0)
    noise = Noise(seed=5, index=torch.arange(T))
    loss, _, _ = objective.loss(Waves(), SDE, Batch(x=X_0, index=torch.arange(T)), noise, None)
    eps = noise.stream("eps").normal_like(X_0).numpy()
    x_t = np.sqrt(ALPHA_BAR)[:, None] * X_0.numpy() + np.sqrt(1.0 - ALPHA_BAR)[:, None] * eps
    error = np.abs(np.sin(3.0 * x_t) + NODES.numpy()[:, None] - eps)
    expected = (error**2 if norm == "l2" else error).mean(1)
    if weighting == "bound":
        with np.errstate(divide="ignore"):
            weight = T * BETA**2 / (2.0 * VARIANCE * ALPHA * (1.0 - ALPHA_BAR))
        weight[0] = weight[1]  # the first level's own term is the decoder's
        expected *= weight
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-9)
