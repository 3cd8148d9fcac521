"""x_s = alpha_s D + sqrt(sigma_s^2 - c^2) eps_hat + c z, c = eta sigma_s sigma_{t|s} / sigma_t."""

from __future__ import annotations

from typing import Any, ClassVar, final

import attrs
import torch
from attrs.validators import and_, ge, le
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.interfaces.sampler import Sampler
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.tensors import expand


@final
@attrs.frozen(kw_only=True)
class DDIM(Sampler):
    """Denoising diffusion implicit models: order 1, exact for a point mass; any Gaussian process.

    eta = 0 is deterministic (the exponential Euler method on the probability flow), eta = 1 is
    ancestral sampling.

    Source: Song, Meng and Ermon 2021, arXiv 2010.02502, eq. 12 and 16.
    """

    source: ClassVar[str] = "Song, Meng and Ermon 2021, arXiv 2010.02502, eq. 12"

    eta: float = parameter(
        "noise put back, from 0 (none) to 1 (ancestral)", 0.0, validator=and_(ge(0.0), le(1.0))
    )

    @property
    def stochastic(self) -> bool:
        return self.eta > 0.0

    @property
    def provides(self) -> frozenset[str]:
        kind = "sampler.stochastic" if self.stochastic else "sampler.deterministic"
        return frozenset({kind, "sampler.fixed-steps", "sampler.transition"})

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (Requirement("sde.gaussian", "DDIM moves between the marginals alpha x_0 + sigma eps"),)

    def transition(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any
    ) -> tuple[Tensor, Tensor]:
        sde = problem.gaussian
        clean = problem.denoise(x, t)
        sigma_t, sigma_s = sde.sigma(t), sde.sigma(s)
        eps = (x - expand(sde.alpha(t), x) * clean) / expand(sigma_t, x)
        if self.eta:
            deviation = self.eta * sigma_s * sde.transition(t, s)[1] / sigma_t
        else:
            deviation = torch.zeros_like(sigma_s)
        kept = torch.sqrt(sigma_s**2 - deviation**2)
        return expand(sde.alpha(s), x) * clean + expand(kept, x) * eps, deviation

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        mean, deviation = self.transition(problem, x, t, s, carry)
        return (mean + expand(deviation, x) * noise.normal_like(x) if self.eta else mean), None
