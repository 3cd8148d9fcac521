"""Annealed Langevin dynamics: at every level, several steps x + e score + sqrt(2 e) z."""

from __future__ import annotations

import math
from typing import Any, ClassVar, final

import attrs
from attrs.validators import and_, ge, gt, lt
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.interfaces.sampler import Sampler
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.tensors import expand


@final
@attrs.frozen(kw_only=True)
class AnnealedLangevin(Sampler):
    """Annealed Langevin dynamics. On arriving at a level s, n unadjusted Langevin steps of its marginal,

        x <- x + e score(x, s) + sqrt(2 e) z,   e = (step_size / 2) sigma_s^2.

    This is the source's e_i = e sigma_i^2 / (2 sigma_L^2) with step_size = e / sigma_L^2, so that one value
    serves every process and range; its CIFAR-10 values, 2e-5 and sigma_L = 0.01, are 0.2 in a thousand calls.
    Between levels x / alpha stays as it is, as in the source, where alpha is 1.

    The lag behind the levels falls with their number, but unadjusted steps settle on a law of the level that
    is too wide, by a factor 1 / (1 - step_size / 4) in variance where noise rules, however many there are:
    hence the order 0. That floor vanishes where the data are wider than sigma_s, and so for clean samples.

    Source: Song and Ermon 2019, arXiv 1907.05600, algorithm 1.
    """

    source: ClassVar[str] = "Song and Ermon 2019, arXiv 1907.05600, algorithm 1"

    steps_per_level: int = parameter("n, Langevin steps at each level", 5, validator=ge(1))
    step_size: float = parameter(
        "step in units of each level's variance, 2 e / sigma_s^2", 0.5, validator=and_(gt(0.0), lt(2.0))
    )

    @property
    def stochastic(self) -> bool:
        return True

    @property
    def order(self) -> int:
        return 0

    @property
    def default_grid(self) -> str:
        return "log-snr"

    @property
    def default_steps(self) -> int:
        return 100

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (Requirement("sde.gaussian", "Langevin steps follow the marginals' scores"),)

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        sde = problem.gaussian
        share = 0.5 * self.step_size
        alpha_s, sigma_s = sde.alpha(s), sde.sigma(s)
        x = expand(alpha_s / sde.alpha(t), x) * x
        for number in range(self.steps_per_level):
            pull = expand(alpha_s, x) * problem.denoise(x, s) - x  # sigma_s^2 score
            push = expand(sigma_s * math.sqrt(2.0 * share), x) * noise.normal_like(x, draw=number)
            x = x + share * pull + push
        return x, None
