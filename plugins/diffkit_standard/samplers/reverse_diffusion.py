"""x_s = x - F + G^2 score + G z, F = (alpha_t / alpha_s - 1) x, G = sigma_{t|s}."""

from __future__ import annotations

from typing import Any, ClassVar, final

import attrs
from torch import Tensor

from diffkit.component import Requirement
from diffkit.interfaces.sampler import Sampler
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.tensors import expand


@final
@attrs.frozen(kw_only=True)
class ReverseDiffusion(Sampler):
    """The reverse-diffusion sampler: the forward step from s to t, discretised, and reversed as it stands.

    The forward step x_t = x_s + F(x_s) + G z, with F(x) = (alpha_t / alpha_s - 1) x and G^2 = sigma_{t|s}^2,
    is exact for any Gaussian process. Its reverse is

        x_s = x - F(x) + G^2 score(x, t) + G z.

    Weak order 1. On VP it is the paper's DDPM step to first order in beta, on VE its SMLD step exactly.

    Source: Song et al. 2021, arXiv 2011.13456, appendix E.
    """

    source: ClassVar[str] = "Song et al. 2021, arXiv 2011.13456, appendix E"

    @property
    def stochastic(self) -> bool:
        return True

    @property
    def default_steps(self) -> int:
        return 500

    @property
    def provides(self) -> frozenset[str]:
        return super().provides | {"sampler.transition"}

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (Requirement("sde.gaussian", "the forward step is written with alpha, sigma and the score"),)

    def transition(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any
    ) -> tuple[Tensor, Tensor]:
        factor, deviation = problem.gaussian.transition(t, s)
        mean = expand(2.0 - factor, x) * x + expand(deviation**2, x) * problem.score(x, t)
        return mean, deviation

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        mean, deviation = self.transition(problem, x, t, s, carry)
        return mean + expand(deviation, x) * noise.normal_like(x), None
