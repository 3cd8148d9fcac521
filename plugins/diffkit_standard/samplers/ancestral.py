"""The posterior q(x_s | x_t, x_0) with D for x_0: discrete DDPM's sampler, at any two levels."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import attrs
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.interfaces.sampler import Sampler
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.tensors import expand


@final
@attrs.frozen(kw_only=True)
class Ancestral(Sampler):
    """Ancestral sampling: x_s is drawn from the forward process's posterior given x_t and x_0 = D,

        mean      (alpha_t / alpha_s) (sigma_s^2 / sigma_t^2) x + alpha_s (sigma_{t|s}^2 / sigma_t^2) D
        variance  sigma_s^2 sigma_{t|s}^2 / sigma_t^2  (`small`: exact for a point mass)
                  sigma_{t|s}^2                        (`large`: exact for standard-normal data)

    Weak order 1. On the nodes of a discrete table it is DDPM, sigma_{t|s}^2 being beta_k there; where steps
    are skipped it is the beta of the shortened chain. The last move, to clean data, has no noise under either
    variance: it is D, and the sampling loop makes it. To clamp D (or the state), as DDPM's codes do, add
    the conditioner `threshold`.

    Source: Ho, Jain and Abbeel 2020, arXiv 2006.11239, eq. 6, 7 and section 3.2.
    """

    source: ClassVar[str] = "Ho, Jain and Abbeel 2020, arXiv 2006.11239, eq. 7"

    variance: Literal["small", "large"] = parameter(
        "the posterior's variance (small), or that of the forward step (large)", "small"
    )

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
        return (Requirement("sde.gaussian", "the posterior is that of the marginals alpha x_0 + sigma eps"),)

    def transition(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any
    ) -> tuple[Tensor, Tensor]:
        sde = problem.gaussian
        factor, deviation = sde.transition(t, s)
        ratio = sde.sigma(s) / sde.sigma(t)
        from_data = sde.alpha(s) * (deviation / sde.sigma(t)) ** 2
        mean = expand(factor * ratio**2, x) * x + expand(from_data, x) * problem.denoise(x, t)
        return mean, deviation * ratio if self.variance == "small" else deviation

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        mean, deviation = self.transition(problem, x, t, s, carry)
        return mean + expand(deviation, x) * noise.normal_like(x), None
