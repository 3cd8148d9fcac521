"""Stochastic Adams methods on the data prediction: the lambda-family of reverse SDEs, any amount of noise."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from attrs.validators import and_, ge, in_, le
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.tensors import expand

History = tuple[tuple[Tensor, Tensor], ...]
"""(time, D) of the latest evaluations, newest first."""

_TERMS = torch.arange(160, dtype=torch.float64)
_LARGE = 40.0


@final
@attrs.frozen(kw_only=True)
class SASolver(Sampler):
    """SA-Solver: Adams predictor and corrector for dx = [f x - (1 + tau^2)/2 g^2 score] dt + tau g dw.

    In l = lambda / 2, with h = l_s - l_t and k = 1 + tau^2, the step from t to s is exact but for D:

        x_s = (sigma_s / sigma_t) e^(-tau^2 h) x + alpha_s k int e^(-k (l_s - l)) D(l) dl
              + sigma_s sqrt(1 - e^(-2 tau^2 h)) z.

    The predictor puts for D the polynomial through the last `predictor` evaluations; the corrector, once D is
    known at s, that through it and the last `corrector` ones, with the same z. There is one evaluation a step
    (the corrected state is not evaluated again). tau = 0 is the probability flow, 1 the reverse-time SDE.

    Without noise the order is `predictor`, and with a corrector min(predictor, corrector) + 1. With noise the
    mean of a linear problem still has that order, the variance at most 2: that is what `order` says. The
    first steps of a run are of lower order, for want of a history; without noise that caps the order of a
    whole run at 2, and at 3 with the corrector.

    Source: Xue et al. 2023, arXiv 2309.05019, section 4 and algorithm 1.
    """

    source: ClassVar[str] = "Xue et al. 2023, arXiv 2309.05019, algorithm 1"

    tau: float = parameter(
        "noise, 0 = none, 1 = the reverse-time SDE", 1.0, validator=and_(ge(0.0), le(10.0))
    )
    predictor: int = parameter("evaluations that the predictor uses", 3, validator=in_((1, 2, 3, 4)))
    corrector: int = parameter(
        "earlier evaluations that the corrector uses, 0 = no corrector", 3, validator=in_((0, 1, 2, 3, 4))
    )

    @property
    def stochastic(self) -> bool:
        return self.tau > 0.0

    @property
    def order(self) -> int:
        reached = min(self.predictor, self.corrector) + 1 if self.corrector else self.predictor
        return min(reached, 2) if self.stochastic else reached

    @property
    def default_grid(self) -> str:
        return "log-snr"

    @property
    def default_steps(self) -> int:
        return max(20, round(15.0 * (1.0 + self.tau**2)))  # the SDE's stiffness grows with 1 + tau^2

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (Requirement("sde.gaussian", "the solver's variable is the log-SNR"),)

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: History | None, noise: Noise
    ) -> tuple[Tensor, History]:
        sde = problem.gaussian
        past = carry or ()
        history = ((t, problem.denoise(x, t)), *past)
        if past and self.corrector:
            x = self._corrected(sde, x, history)
        h = 0.5 * (sde.log_snr(s) - sde.log_snr(t))
        kept = sde.sigma(s) / sde.sigma(t) * torch.exp(-(self.tau**2) * h)
        x_s = expand(kept, x) * x
        known = history[: self.predictor]
        for weight, (_, clean) in zip(self._weights(sde, t, s, known), known, strict=True):
            x_s = x_s + expand(weight, x) * clean
        if self.stochastic:
            deviation = sde.sigma(s) * torch.sqrt(-torch.expm1(-2.0 * self.tau**2 * h))
            x_s = x_s + expand(deviation, x) * noise.normal_like(x)
        return x_s, history[: max(self.predictor, self.corrector)]

    def _corrected(self, sde: GaussianSDE, x: Tensor, history: History) -> Tensor:
        """The state that the corrector makes of the predicted one; the common terms, noise too, cancel."""
        (s, _), *past = history
        t = past[0][0]
        predicted, corrected = tuple(past[: self.predictor]), history[: self.corrector + 1]
        for weight, (_, clean) in zip(self._weights(sde, t, s, predicted), predicted, strict=True):
            x = x - expand(weight, x) * clean
        for weight, (_, clean) in zip(self._weights(sde, t, s, corrected), corrected, strict=True):
            x = x + expand(weight, x) * clean
        return x

    def _weights(self, sde: GaussianSDE, t: Tensor, s: Tensor, nodes: History) -> list[Tensor]:
        """alpha_s k int e^(-k (l_s - l)) L_j(l) dl, L_j being Lagrange's polynomials on the nodes."""
        here, there = 0.5 * sde.log_snr(t), 0.5 * sde.log_snr(s)
        h, k = there - here, 1.0 + self.tau**2
        places = [(0.5 * sde.log_snr(time) - here) / h for time, _ in nodes]
        moments = _moments(k * h, len(nodes))
        factor = sde.alpha(s) * k * h
        return [factor * (_lagrange(places, j) * moments).sum() for j in range(len(nodes))]


def _moments(z: Tensor, count: int) -> Tensor:
    """int_0^1 e^(-z (1 - u)) u^m du for m = 0 .. count - 1: no cancellation for any sign of z.

    As series of positive terms, e^(-z) sum z^j / (j! (m + j + 1)) for z >= 0 and sum m! |z|^j / (m + j + 1)!
    for z < 0; for large z by parts, I_m = (1 - m I_(m-1)) / z, which then is stable.
    """
    if z > _LARGE:
        rows = [-torch.expm1(-z) / z]
        for m in range(1, count):
            rows.append((1.0 - m * rows[-1]) / z)
        return torch.stack(rows)
    powers = torch.xlogy(_TERMS, z.abs())
    rows = []
    for m in range(count):
        if z >= 0.0:
            rows.append((torch.exp(powers - torch.lgamma(_TERMS + 1.0) - z) / (m + _TERMS + 1.0)).sum())
        else:
            start = torch.lgamma(torch.tensor(m + 1.0, dtype=torch.float64))
            rows.append(torch.exp(powers + start - torch.lgamma(m + _TERMS + 2.0)).sum())
    return torch.stack(rows)


def _lagrange(places: list[Tensor], j: int) -> Tensor:
    """Coefficients, lowest power first, of the polynomial that is 1 at place j and 0 at the others."""
    polynomial = torch.ones(1, dtype=torch.float64)
    for i, other in enumerate(places):
        if i != j:
            shifted = torch.cat((polynomial.new_zeros(1), polynomial))
            polynomial = (shifted - other * torch.cat((polynomial, polynomial.new_zeros(1)))) / (
                places[j] - other
            )
    return polynomial
