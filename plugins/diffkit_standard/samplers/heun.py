"""Heun's method on x / alpha against rho = sigma / alpha, with churn: EDM's stochastic sampler."""

from __future__ import annotations

import math
from typing import Any, ClassVar, final

import attrs
import torch
from attrs.validators import ge, gt, optional
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.tensors import expand

_MOST_CHURN = math.sqrt(2.0) - 1.0


@final
@attrs.frozen(kw_only=True)
class Heun(Sampler):
    """EDM's sampler. On y = x / alpha and rho = sigma / alpha the flow is dy/drho = eps_hat. A step:

        churn:  gamma = min(s_churn / N, sqrt(2) - 1) where s_tmin <= rho_t <= s_tmax, else 0
                rho' = (1 + gamma) rho_t,   y' = y_t + s_noise sqrt(rho'^2 - rho_t^2) z
        Heun:   y_s = y' + (rho_s - rho') (e' + e_s) / 2,   e' = eps_hat(y', rho'),
                e_s = eps_hat(y' + (rho_s - rho') e', rho_s)

    with N the moves of the run. Two denoiser calls an interval; the last move, to clean data, is the sampling
    loop's and one Euler step, as in the source. Order 2: pathwise without churn, and weak with it, as the
    added noise takes the exact law of rho_t to that of rho' (only with s_noise = 1). Churn never lifts a
    state above t_max, the noisiest level that the model knows.

    Source: Karras et al. 2022, arXiv 2206.00364, algorithm 2.
    """

    source: ClassVar[str] = "Karras et al. 2022, arXiv 2206.00364, algorithm 2"

    s_churn: float = parameter("noise added over the whole run, 0 = deterministic", 0.0, validator=ge(0.0))
    s_tmin: float = parameter("least sigma / alpha at which noise is added", 0.0, validator=ge(0.0))
    s_tmax: float | None = parameter(
        "largest sigma / alpha at which noise is added; null = no bound", None, validator=optional(gt(0.0))
    )
    s_noise: float = parameter("standard deviation of the added noise", 1.0, validator=ge(0.0))

    @property
    def stochastic(self) -> bool:
        return self.s_churn > 0.0

    @property
    def order(self) -> int:
        return 2

    @property
    def default_grid(self) -> str:
        return "karras"

    @property
    def default_steps(self) -> int:
        return 64 if self.stochastic else 18

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (Requirement("sde.gaussian", "the method's variable is sigma / alpha"),)

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        sde = problem.gaussian
        if self.stochastic:
            x, t = self._churned(problem, x, t, noise)
        alpha_s = sde.alpha(s)
        ratio, stride = alpha_s / sde.alpha(t), alpha_s * (_rho(sde, s) - _rho(sde, t))
        carried = expand(ratio, x) * x
        eps_t = problem.eps(x, t)
        eps_s = problem.eps(carried + expand(stride, x) * eps_t, s)
        return carried + expand(0.5 * stride, x) * (eps_t + eps_s), None

    def _churned(self, problem: Problem, x: Tensor, t: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """The state lifted to a higher noise level, and that level's time."""
        sde = problem.gaussian
        rho_t = _rho(sde, t)
        if rho_t < self.s_tmin or (self.s_tmax is not None and rho_t > self.s_tmax):
            return x, t
        gamma = min(self.s_churn / (len(problem.times) - 1), _MOST_CHURN)
        higher = sde.time_of(-2.0 * torch.log(rho_t * (1.0 + gamma))).clamp(max=sde.t_max)
        if higher <= t:
            return x, t
        alpha = sde.alpha(higher)
        added = self.s_noise * alpha * torch.sqrt(_rho(sde, higher) ** 2 - rho_t**2)
        return expand(alpha / sde.alpha(t), x) * x + expand(added, x) * noise.normal_like(x), higher


def _rho(sde: GaussianSDE, t: Tensor) -> Tensor:
    return sde.sigma(t) / sde.alpha(t)
