"""x_s = (alpha_s / alpha_t) x + sum_j C_j eps_j,  C_j = alpha_s int_t^s l_j(tau) d(sigma / alpha)(tau)."""

from __future__ import annotations

from typing import Any, ClassVar, final

import attrs
import numpy as np
import torch
from attrs.validators import ge, in_
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.selection import Selection
from diffkit.tensors import expand

_NODES, _WEIGHTS = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(24))


_FEW = 50  # up to here degree 3 errs as degree 2 does on the cosine schedule (a 1-d mixture's exact map)


@final
@attrs.frozen(kw_only=True)
class ExponentialIntegrator(Sampler):
    """The exponential integrator: the linear drift exactly, the noise prediction by a polynomial in t.

    Deterministic (eta = 0): Adams-Bashforth coefficients over the last `degree` + 1 predictions (tAB-DEIS),

        x_s = (alpha_s / alpha_t) x + sum_j C_j eps_j,   C_j = alpha_s int_t^s l_j(tau) d(sigma / alpha)(tau),

    with l_j Lagrange's polynomials on the times of the predictions; order `degree` + 1. The coefficients are
    the process's own, so that sub-VP is right. Stochastic (eta > 0): the first-order form

        x_s = (sigma_s / sigma_t) e^(-eta^2 h) x + alpha_s (1 - e^(-(1 + eta^2) h)) D
              + sigma_s sqrt(1 - e^(-2 eta^2 h)) z

    with h = (lambda_s - lambda_t) / 2; eta = 1 is the reverse-time SDE. Either is exact for a point mass.

    Source: Zhang and Chen 2023, arXiv 2204.13902, eq. 15; the stochastic family, section 4.
    """

    source: ClassVar[str] = "Zhang and Chen 2023, arXiv 2204.13902, eq. 15"

    degree: int = parameter("degree of the polynomial in t, 0 to 3", 2, validator=in_((0, 1, 2, 3)))
    eta: float = parameter("noise, 0 = deterministic, 1 = the reverse-time SDE", 0.0, validator=ge(0.0))

    @property
    def stochastic(self) -> bool:
        return self.eta > 0.0

    @property
    def order(self) -> int:
        return 1 if self.stochastic else self.degree + 1

    @property
    def provides(self) -> frozenset[str]:
        if self.stochastic:
            return frozenset({"sampler.stochastic", "sampler.fixed-steps", "sampler.transition"})
        return frozenset({"sampler.deterministic", "sampler.fixed-steps"})

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (
            Requirement("sde.gaussian", "the integrator works on the marginals alpha x_0 + sigma eps"),
            Requirement(
                "sde.linear-drift",
                "the method's point is the exact treatment of the linear drift f(t) x; this process has "
                "none, so the method would be plain Euler or Adams-Bashforth in sigma and nothing "
                "would be gained",
                "use sampler ddim or adams, which are those methods, or dpm-solver++",
            ),
        )

    def caveats(self, selection: Selection) -> tuple[str, ...]:
        few = selection.steps is not None and selection.steps <= _FEW
        if self.degree < 2 or self.stochastic or not few or "schedule.pole" not in _schedule(selection):
            return ()
        words = f"Polynomials in t of degree {self.degree} gain next to nothing in {selection.steps} steps"
        return (f"{words} on a schedule whose rate has a pole; adams and dpm-solver++ do not work in t",)

    def transition(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.stochastic:
            return super().transition(problem, x, t, s, carry)
        sde = problem.gaussian
        h = 0.5 * (sde.log_snr(s) - sde.log_snr(t))
        from_x = sde.sigma(s) / sde.sigma(t) * torch.exp(-(self.eta**2) * h)
        from_data = -sde.alpha(s) * torch.expm1(-(1.0 + self.eta**2) * h)
        deviation = sde.sigma(s) * torch.sqrt(-torch.expm1(-2.0 * self.eta**2 * h))
        return expand(from_x, x) * x + expand(from_data, x) * problem.denoise(x, t), deviation

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        if self.stochastic:
            mean, deviation = self.transition(problem, x, t, s, carry)
            return mean + expand(deviation, x) * noise.normal_like(x), None
        sde = problem.gaussian
        history = ((t, problem.eps(x, t)), *(carry or ()))[: self.degree + 1]
        coefficients = _coefficients(sde, t, s, [time for time, _ in history])
        x = expand(sde.alpha(s) / sde.alpha(t), x) * x
        for coefficient, (_, eps) in zip(coefficients, history, strict=True):
            x = x + expand(coefficient, x) * eps
        return x, history


def _schedule(selection: Selection) -> frozenset[str]:
    return selection.provides("schedule") or frozenset()


def _coefficients(sde: GaussianSDE, t: Tensor, s: Tensor, nodes: list[Tensor]) -> list[Tensor]:
    """C_j for each node, in float64.

    By parts, int l_j drho = [l_j rho] - int l_j' rho dtau with rho = sigma / alpha. That needs no derivative
    of rho, which is singular like tau^(-1/2) at 0 for VP; rho itself is smooth in v = sqrt(tau), the
    variable of the Gauss-Legendre rule. The C_j then add up to sigma_s - (alpha_s / alpha_t) sigma_t.
    """
    v_t, v_s = t.sqrt(), s.sqrt()
    v = 0.5 * (v_t + v_s) + 0.5 * (v_s - v_t) * _NODES
    tau = v**2
    weights = _WEIGHTS * 0.5 * (v_s - v_t) * 2.0 * v
    rho, rho_t, rho_s = (sde.sigma(u) / sde.alpha(u) for u in (tau, t, s))
    alpha_s = sde.alpha(s)
    coefficients = []
    for j, node in enumerate(nodes):
        others = [other for i, other in enumerate(nodes) if i != j]
        value_t, _ = _lagrange(t, node, others)
        value_s, _ = _lagrange(s, node, others)
        _, slope = _lagrange(tau, node, others)
        integral = value_s * rho_s - value_t * rho_t - (weights * slope * rho).sum()
        coefficients.append(alpha_s * integral)
    return coefficients


def _lagrange(tau: Tensor, node: Tensor, others: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Lagrange's polynomial that is 1 at `node` and 0 at the others, and its derivative."""
    value, slope = torch.ones_like(tau), torch.zeros_like(tau)
    for other in others:
        factor, rate = (tau - other) / (node - other), 1.0 / (node - other)
        value, slope = value * factor, slope * factor + value * rate
    return value, slope
