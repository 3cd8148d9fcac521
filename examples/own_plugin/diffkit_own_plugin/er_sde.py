"""The extended reverse-time SDE, solved for x / alpha along rho = sigma / alpha."""

from __future__ import annotations

from typing import Any, ClassVar, final

import attrs
import numpy as np
import torch
from diffkit.component import Requirement
from diffkit.interfaces.sampler import Sampler
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.tensors import expand
from torch import Tensor

_NODES, _WEIGHTS = map(torch.from_numpy, np.polynomial.legendre.leggauss(16))


@final
@attrs.frozen(kw_only=True)
class ERSDE(Sampler):
    """With r = phi_s / phi_t, phi = rho (exp(rho^0.3) + 10), D' from the step before and I = int drho / phi:

    x_s / alpha_s = r x_t / alpha_t + (1 - r) D + (rho_s - rho_t + phi_s I) D' + c z, c^2 = rho_s^2 - r^2 rho_t^2
    Weak order 2, of order 1 in the first step. I goes from rho_s to rho_t, by Gauss and Legendre in log rho.
    """

    source: ClassVar[str] = "Cui et al. 2023, arXiv 2309.06169"
    stochastic = True
    order = 2
    requires = (Requirement("sde.gaussian", "it moves along sigma_t / alpha_t"),)

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        sde, clean = problem.gaussian, problem.denoise(x, t)
        rho_t, rho_s = sde.sigma(t) / sde.alpha(t), sde.sigma(s) / sde.alpha(s)
        r = _phi(rho_s) / _phi(rho_t)
        y = expand(r / sde.alpha(t), x) * x + expand(1.0 - r, x) * clean
        if carry is not None:
            before, rho_before = carry
            weight = rho_s - rho_t + _phi(rho_s) * _integral(rho_s, rho_t)
            y = y + expand(weight / (rho_t - rho_before), x) * (clean - before)
        deviation = torch.sqrt(rho_s**2 - (r * rho_t) ** 2)
        return expand(sde.alpha(s), x) * (y + expand(deviation, x) * noise.normal_like(x)), (clean, rho_t)


def _phi(rho: Tensor) -> Tensor:
    return rho * (torch.exp(rho**0.3) + 10.0)


def _integral(low: Tensor, high: Tensor) -> Tensor:
    half = 0.5 * torch.log(high / low)
    rho = low * torch.exp(half * (1.0 + _NODES))
    return half * (_WEIGHTS * rho / _phi(rho)).sum()
