"""The laws of an objective: loss and model are two sides of one parameterisation.

The tool is an *oracle module*. Whatever an objective predicts, its model reads the output F as a denoiser
D = c_0(x, t) + c_1(t) F; feeding constant outputs 0 and 1 reveals c_0 and c_1, feeding x = 1 the scale of the
input. The oracle inverts the three and so outputs exactly the F whose D is the true posterior mean.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from diffkit.batch import Batch
from diffkit.interfaces.network import Level
from diffkit.interfaces.objective import Objective
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.statistics import DataStatistics
from diffkit.testing.exact import ExactProblem, PointMass
from diffkit.testing.lawbook.base import NotApplicable, book_of, ensure, ensure_close
from diffkit.testing.lawbook.objective_energy import (
    data_sink_and_samples_rise,
    score_is_the_slope,
    state_carries_on,
)
from diffkit.testing.lawbook.objective_logits import (
    every_label_counts,
    least_at_the_exact_posterior,
    logits_are_the_posterior,
    no_label_no_loss,
)
from diffkit.testing.lawbook.objective_network import (
    answer_is_not_told,
    batch_is_left_alone,
    labels_reach_the_network,
    levels_are_of_the_process,
    training_sees_both_halves,
)
from diffkit.testing.lawbook.partners import flat_mixture, processes_for

__all__ = ["LAWS"]

_SHAPE = (1, 3)
_COUNT = 256


class _Constant(nn.Module):
    """Outputs one number everywhere, and keeps the last input it saw."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value
        self.seen = torch.empty(0)

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        self.seen = x
        return torch.full_like(x, self.value)


class _Oracle(nn.Module):
    """Outputs the F whose denoiser is the exact one, plus `error`."""

    def __init__(
        self, objective: Objective, sde: GaussianSDE, problem: ExactProblem, error: float = 0.0
    ) -> None:
        super().__init__()
        self.objective, self.sde, self.problem, self.error = objective, sde, problem, error

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        probe = _Constant(0.0)
        self.objective.model(probe, self.sde).denoise(torch.ones_like(x), level.t)
        x = x / probe.seen
        constant = self.objective.model(_Constant(0.0), self.sde).denoise(x, level.t)
        slope = self.objective.model(_Constant(1.0), self.sde).denoise(x, level.t) - constant
        return (self.problem.denoise(self.sde, x, level.t) + self.error - constant) / slope


def _settled(objective: Objective) -> Objective:
    """The objective with its automatic fields resolved; not applicable where its model is no denoiser."""
    if objective.stateful or not objective.provides & {"model.denoise", "model.score"}:
        raise NotApplicable("its model is not a denoiser")
    moments = {"mean": (0.0,), "std": (0.7,)}
    return objective.resolved(DataStatistics(sigma_data=0.7, count=_COUNT, **moments))


def _batch(problem: ExactProblem, count: int = _COUNT) -> tuple[Batch, Noise]:
    noise = Noise(seed=0, index=torch.arange(count))
    x = problem.draw(noise.stream("data"), _SHAPE)
    return Batch(x=x, index=noise.index, label=torch.full((count,), -1)), noise.stream("training")


def _loss(objective: Objective, module: nn.Module, sde: Any, problem: ExactProblem) -> Tensor:
    batch, noise = _batch(problem)
    return objective.loss(module, sde, batch, noise, None)[0].detach()


def model_inverts(objective: Objective) -> None:
    """model(F*).denoise = D where F* is the output that means D; D is affine in F, alpha^2 + sigma^2 any."""
    settled = _settled(objective)
    for name, sde in processes_for(objective):
        problem = flat_mixture(math.prod(_SHAPE))
        noise = Noise(seed=1, index=torch.arange(5))
        for share in (0.05, 0.4, 0.9):
            t = torch.tensor(sde.t_min + share * (sde.t_max - sde.t_min), dtype=torch.float64)
            x = problem.draw_at(sde, t, noise, _SHAPE)
            exact = problem.denoise(sde, x, t)
            model = settled.model(_Oracle(settled, sde, problem), sde)
            for time in (t, t.expand(5)):
                ensure_close(model.denoise(x, time), exact, 1e-7, f"on {name}, D at t = {float(t):.3g}")


def zero_at_the_target(objective: Objective) -> None:
    """Data of one point determine the noise: the loss of the module whose D is that point is 0."""
    settled = _settled(objective)
    problem = PointMass(x_0=torch.tensor([[0.4, -0.7, 0.1]], dtype=torch.float64))
    for name, sde in processes_for(objective):
        exact = _loss(settled, _Oracle(settled, sde, problem), sde, problem)
        wrong = _loss(settled, _Oracle(settled, sde, problem, error=0.1), sde, problem)
        ensure(
            exact.abs().max() < 1e-6 * wrong.mean(),
            f"on {name} it is {float(exact.max()):.3g}, and {float(wrong.mean()):.3g} beside it",
        )


def least_at_the_exact_denoiser(objective: Objective) -> None:
    """E loss(D + d) > E loss(D) for the posterior mean D: over the same draws, d = +-0.3 and +-1."""
    settled = _settled(objective)
    problem = flat_mixture(math.prod(_SHAPE))
    for name, sde in processes_for(objective):
        exact = _loss(settled, _Oracle(settled, sde, problem), sde, problem)
        for error in (0.3, -0.3, 1.0, -1.0):
            worse = _loss(settled, _Oracle(settled, sde, problem, error), sde, problem)
            gap = worse - exact
            spread = float(gap.std()) / len(gap) ** 0.5
            ensure(
                float(gap.mean()) > -spread,
                f"on {name} it is {float(exact.mean()):.4g}, and {float(worse.mean()):.4g} at D + {error}",
            )


def every_example_counts(objective: Objective) -> None:
    """Data of one point: the loss of every example is greater where D is 0.1 beside that point than where it
    is there; else some examples, or noise levels, weigh nothing or teach the opposite."""
    settled = _settled(objective)
    problem = PointMass(x_0=torch.tensor([[0.4, -0.7, 0.1]], dtype=torch.float64))
    for name, sde in processes_for(objective):
        exact = _loss(settled, _Oracle(settled, sde, problem), sde, problem)
        wrong = _loss(settled, _Oracle(settled, sde, problem, error=0.1), sde, problem)
        least = float((wrong - exact).min())
        ensure(least > 0.0, f"on {name} the least difference is {least:.3g}")


def unit_input(objective: Objective) -> None:
    """The network sees inputs of about unit variance at every noise level: between 1/2 and 2 in deviation."""
    settled = _settled(objective)
    problem = flat_mixture(math.prod(_SHAPE))
    for name, sde in processes_for(objective):
        noise = Noise(seed=2, index=torch.arange(_COUNT))
        for share in (0.0, 0.3, 1.0):
            t = torch.tensor(sde.t_min + share * (sde.t_max - sde.t_min), dtype=torch.float64)
            probe = _Constant(0.0)
            settled.model(probe, sde).denoise(problem.draw_at(sde, t, noise, _SHAPE), t)
            deviation = float(probe.seen.std())
            ensure(0.5 < deviation < 2.0, f"on {name} its deviation at t = {float(t):.3g} is {deviation:.4g}")


def loss_is_pure(objective: Objective) -> None:
    """loss is (B,), finite, a function of its arguments, each example's of its own index alone."""
    settled = _settled(objective)
    problem = flat_mixture(math.prod(_SHAPE))
    for name, sde in processes_for(objective):
        module = _Oracle(settled, sde, problem, error=0.2)
        before = torch.get_rng_state()
        first, again = (_loss(settled, module, sde, problem) for _ in range(2))
        ensure(torch.equal(before, torch.get_rng_state()), "the global generator was moved")
        ensure(first.shape == (_COUNT,) and first.isfinite().all(), f"on {name} it is {tuple(first.shape)}")
        ensure(torch.equal(first, again), f"on {name} two calls differ")
        batch, noise = _batch(problem)
        rows = torch.tensor([3, 77])
        part = Batch(x=batch.x[rows], index=batch.index[rows], label=torch.full((2,), -1))
        alone = settled.loss(module, sde, part, noise.take(rows), None)[0].detach()
        ensure_close(
            alone, first[rows], 1e-9 * (1.0 + first[rows]), f"on {name}, the loss of two examples alone"
        )


def gradient_flows(objective: Objective) -> None:
    """d loss / d theta is finite and not zero."""
    settled = _settled(objective)
    problem = flat_mixture(math.prod(_SHAPE))

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

        def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
            return self.weight * x

    for name, sde in processes_for(objective):
        module = Linear()
        batch, noise = _batch(problem)
        loss = settled.loss(module, sde, batch, noise, None)[0]
        (gradient,) = torch.autograd.grad(loss.mean(), module.weight)
        right = bool(gradient.isfinite()) and float(gradient) != 0.0
        ensure(right, f"on {name} the gradient of the weight is {float(gradient)}")


LAWS = book_of(
    "objective",
    model_inverts,
    zero_at_the_target,
    least_at_the_exact_denoiser,
    unit_input,
    every_example_counts,
    loss_is_pure,
    gradient_flows,
    labels_reach_the_network,
    answer_is_not_told,
    levels_are_of_the_process,
    training_sees_both_halves,
    batch_is_left_alone,
    logits_are_the_posterior,
    least_at_the_exact_posterior,
    no_label_no_loss,
    every_label_counts,
    score_is_the_slope,
    data_sink_and_samples_rise,
    state_carries_on,
)
