"""The twisted particle filter: sequential Monte Carlo along the sampler's own transitions.

A particle moves by the sampler's Gaussian transition N(m, v I), pushed by what the measurement says:

    x_s' = x_s + v g_t,   g_t = grad log p~_t(y | x_t),   p~ from `_evidence` with PiGDM's V,

and its log-weight gains

    log p~_s(y | x_s') - log p~_t(y | x_t) + log N(x_s'; m, v) - log N(x_s'; m + v g_t, v).

Where the weights of a sample's particles grow uneven they are resampled. The push decides how many particles
are needed, never what they converge to.

Source: Wu et al. 2023, arXiv 2306.17775, algorithm 1.
"""

from __future__ import annotations

from typing import Literal

import attrs
import torch
from torch import Tensor

from diffkit.interfaces.model import Model
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.tensors import expand
from diffkit_standard.conditioners._evidence import Evidence, Measurement, evidence

__all__ = ["Swarm", "begun", "ended", "moved"]

_UNEVEN = 0.5
"""Particles are resampled where their effective number falls below this share."""

_ITERATIONS = 20
"""Of the conjugate gradients; operators with A A^T a multiple of the identity take one."""


@attrs.frozen(kw_only=True, eq=False)
class Swarm:
    """The particles' memory at their time.

    Args:
        evidence: at their states.
        log_weight: (B K,), up to a constant a sample.
    """

    evidence: Evidence
    log_weight: Tensor


@attrs.frozen(kw_only=True, eq=False)
class _Remembered(Model):
    """A denoiser that has been asked already."""

    offers: frozenset[str] = frozenset({"denoise"})
    clean: Tensor

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self.clean


def begun(problem: Problem, measured: Measurement, x: Tensor, t: Tensor) -> Swarm:
    """The particles at the start, weighted by p~(y | x)."""
    said = _evidence(problem, measured, x, t)
    return Swarm(evidence=said, log_weight=said.log_p)


def moved(
    problem: Problem,
    measured: Measurement,
    swarm: Swarm,
    count: int,
    x_t: Tensor,
    x_s: Tensor,
    t: Tensor,
    s: Tensor,
    noise: Noise,
) -> tuple[Tensor, Swarm]:
    """The particles pushed, weighted, and resampled where their weights are uneven."""
    assert problem.sampler is not None
    asked = attrs.evolve(problem, model=_Remembered(clean=swarm.evidence.clean))
    mean, deviation = problem.sampler.transition(asked, x_t, t, s, None)
    push = swarm.evidence.gradient
    drawn = x_s - mean
    variance = expand(deviation**2, x_s)
    pushed = x_s + variance * push
    # log N(x'; m, v) - log N(x'; m + v g, v) with x' = m + drawn + v g.
    correction = -(push * (drawn + 0.5 * variance * push)).flatten(1).sum(1)
    said = _evidence(problem, measured, pushed, s)
    log_weight = swarm.log_weight + said.log_p - swarm.evidence.log_p + correction
    weight = _normalised(log_weight, count)
    uneven = 1.0 / weight.square().sum(1) < _UNEVEN * count
    chosen = _drawn(weight, noise, "systematic")
    stay = torch.arange(count, device=weight.device).expand_as(chosen)
    rows = _rows(torch.where(uneven[:, None], chosen, stay))
    log_weight = torch.where(uneven[:, None], 0.0, weight.log()).flatten()
    kept = Evidence(clean=said.clean[rows], log_p=said.log_p[rows], gradient=said.gradient[rows])
    return pushed[rows], Swarm(evidence=kept, log_weight=log_weight)


def ended(measured: Measurement, swarm: Swarm, count: int, x: Tensor, noise: Noise) -> Tensor:
    """Clean particles, each a fair draw from the weighted ones."""
    log_weight = swarm.log_weight
    if measured.noise > 0.0:
        residual = measured.y - measured.operator.apply(x)
        fit = -0.5 * residual.flatten(1).square().sum(1) / measured.noise**2
        log_weight = log_weight + fit - swarm.evidence.log_p
    return x[_rows(_drawn(_normalised(log_weight, count), noise, "independent"))]


def _evidence(problem: Problem, measured: Measurement, x: Tensor, t: Tensor) -> Evidence:
    return evidence(
        lambda point: problem.denoise(point, t), measured, problem.gaussian, x, t, "pigdm", _ITERATIONS
    )


def _normalised(log_weight: Tensor, count: int) -> Tensor:
    """Weights (B, K) that sum to one; even ones where none is finite."""
    weights = log_weight.to(torch.float64).nan_to_num(nan=-torch.inf).reshape(-1, count)
    lost = ~weights.isfinite().any(1, keepdim=True)
    return torch.softmax(torch.where(lost, 0.0, weights), dim=1)


def _drawn(weight: Tensor, noise: Noise, way: Literal["systematic", "independent"]) -> Tensor:
    """Numbers of particles drawn by their weights, (B, K).

    Systematic resampling varies least; independent draws make each place a fair draw by itself.
    """
    count = weight.shape[1]
    u = noise.stream("resampling").uniform((len(noise.index), 1), dtype=torch.float64, device=weight.device)
    place = u.reshape(-1, count)
    if way == "systematic":
        place = (place[:, :1] + torch.arange(count, device=weight.device)) / count
    edges = weight.cumsum(1)[:, :-1].contiguous()
    return torch.searchsorted(edges, place.contiguous(), right=True)


def _rows(chosen: Tensor) -> Tensor:
    """Numbers within each sample, (B, K), as rows of the batch, (B K,)."""
    first = torch.arange(len(chosen), device=chosen.device)[:, None] * chosen.shape[1]
    return (first + chosen).flatten()
