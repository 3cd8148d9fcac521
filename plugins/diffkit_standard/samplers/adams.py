"""Adams methods on the probability flow, written as dy = p dr in a variable where its linear part is gone."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import attrs
import numpy as np
import torch
from attrs.validators import in_
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.tensors import expand

# Four nodes integrate polynomials up to degree 7 exactly; the methods here need degree 4.
_NODES, _WEIGHTS = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(4))

Slopes = tuple[tuple[Tensor, Tensor], ...]
"""(r, p) of the latest evaluations, newest first."""

Carry = tuple[Tensor, Slopes]
"""What the latest prediction added to y, and the evaluations."""


def _room_for_corrector(sampler: Adams, attribute: Any, value: bool) -> None:
    if value and sampler.order < 2:
        raise ValueError("a corrected method has at least order 2: set order to 2 or more")


@final
@attrs.frozen(kw_only=True)
class Adams(Sampler):
    """Multistep Adams methods with steps of any length. The flow is dy = p dr with, by `variable`,

        noise:     y = x / alpha,            r = sigma / alpha,            p = eps
        data:      y = x / sigma,            r = alpha / sigma,            p = D
        velocity:  y = x / (alpha + sigma),  r = sigma / (alpha + sigma),  p = eps - D

    and p is replaced by Lagrange's polynomial through its latest values, integrated exactly:

        Adams-Bashforth:  y_s = y_t + sum_j p_j int_{r_t}^{r_s} l_j(r) dr,  over `order` values.

    With the corrector (predict, evaluate, correct) the prediction uses one value less, and the next
    evaluation, made at the predicted state, first corrects the step from u to t that led to it:

        Adams-Moulton:    y_t = y_u + sum_j p_j int_{r_u}^{r_t} l_j(r) dr,  over `order` values, p_t too.

    Either way a step takes one denoiser call, and the last state of a run is a prediction. The order is
    `order` given a history; a run's own start, a step of order 1 (2 once corrected), caps it at 2, with the
    corrector at 3. Each variable is exact for a point mass. The velocity bends least on mixtures.

    Source: Hairer, Norsett and Wanner 1993, "Solving Ordinary Differential Equations I", section III.5; on
    the noise in sigma/alpha, Zhang and Chen 2023, arXiv 2204.13902 (rho-AB).
    """

    source: ClassVar[str] = (
        "Hairer, Norsett and Wanner 1993, section III.5; Zhang and Chen 2023, arXiv 2204.13902"
    )

    variable: Literal["noise", "data", "velocity"] = parameter(
        "what the polynomial runs through: eps, D or eps - D", "velocity"
    )
    order: int = parameter("order of the method, 1 to 5", 3, validator=in_((1, 2, 3, 4, 5)))
    corrector: bool = parameter(
        "correct each step with the evaluation that follows it", True, validator=_room_for_corrector
    )

    @property
    def default_grid(self) -> str:
        return "noise-share"

    @property
    def default_steps(self) -> int:
        return 20

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (Requirement("sde.gaussian", "the method works on the marginals alpha x_0 + sigma eps"),)

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Carry | None, noise: Noise
    ) -> tuple[Tensor, Carry]:
        sde, remembered = problem.gaussian, self.order - self.corrector
        c_t, r_t = self._variables(sde, t)
        c_s, r_s = self._variables(sde, s)
        y = expand(1.0 / c_t, x) * x
        latest: Slopes = ((r_t, self._slope(problem, x, t)),)
        if carry is not None:
            predicted, before = carry
            latest = (*latest, *before)
            if self.corrector:
                y = y + (_integral(latest, before[0][0], r_t) - predicted)
        latest = latest[:remembered]
        added = _integral(latest, r_t, r_s)
        return expand(c_s, x) * (y + added), (added, latest)

    def _variables(self, sde: GaussianSDE, t: Tensor) -> tuple[Tensor, Tensor]:
        """c and r at t, with y = x / c."""
        alpha_t, sigma_t = sde.alpha(t), sde.sigma(t)
        if self.variable == "noise":
            return alpha_t, sigma_t / alpha_t
        if self.variable == "data":
            return sigma_t, alpha_t / sigma_t
        return alpha_t + sigma_t, sigma_t / (alpha_t + sigma_t)

    def _slope(self, problem: Problem, x: Tensor, t: Tensor) -> Tensor:
        """p = dy/dr at (x, t); one denoiser call."""
        clean = problem.denoise(x, t)
        if self.variable == "data":
            return clean
        sde = problem.gaussian
        eps = (x - expand(sde.alpha(t), x) * clean) / expand(sde.sigma(t), x)
        return eps if self.variable == "noise" else eps - clean


def _integral(slopes: Slopes, low: Tensor, high: Tensor) -> Tensor:
    """int_low^high of Lagrange's polynomial through the slopes."""
    middle, half = 0.5 * (high + low), 0.5 * (high - low)
    r = middle + half * _NODES
    total = torch.zeros_like(slopes[0][1])
    for node, slope in slopes:
        weights = _WEIGHTS * half
        for other, _ in slopes:
            if other is not node:
                weights = weights * (r - other) / (node - other)
        total = total + expand(weights.sum(), slope) * slope
    return total
