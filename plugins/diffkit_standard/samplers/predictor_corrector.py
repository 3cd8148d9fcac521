"""A predictor's step from t to s, then Langevin steps at the level s."""

from __future__ import annotations

import math
from typing import Any, ClassVar, final

import attrs
import torch
from attrs.validators import ge, gt
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.interfaces.sampler import Sampler
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.tensors import expand, per_sample_norm
from diffkit_standard.samplers.euler_maruyama import EulerMaruyama


@final
@attrs.frozen(kw_only=True)
class PredictorCorrector(Sampler):
    """Predictor-corrector sampling: any predictor, then n Langevin steps at the new level,

        x <- x + e score(x, s) + sqrt(2 e) z,
        e = 2 a (snr sqrt(dim) / |score|)^2,   a = (alpha_t / alpha_s)^2.

    The norms are each sample's own, and the norm of the draw is replaced by its mean sqrt(dim), so that the
    step size does not depend on the draw. Near a mode a score vanishes and the rule would throw the
    sample away; so |score|^2 counts as at least dim / (alpha^2 + sigma^2), the Fisher information of a
    marginal whose data have unit variance. In a few dimensions the step still follows the sample, which
    biases the spread; the method is made for many. The corrector moves x, so a multistep predictor starts
    afresh in every step.

    Source: Song et al. 2021, arXiv 2011.13456, appendix G, algorithms 4 and 5.
    """

    source: ClassVar[str] = "Song et al. 2021, arXiv 2011.13456, appendix G"

    predictor: Sampler = parameter("the sampler that makes the move from t to s", factory=EulerMaruyama)
    corrector_steps: int = parameter("Langevin steps after each move", 1, validator=ge(0))
    snr: float = parameter("length of a Langevin step's drift against its noise", 0.16, validator=gt(0.0))

    @property
    def stochastic(self) -> bool:
        return self.predictor.stochastic or self.corrector_steps > 0

    @property
    def order(self) -> int:
        return self.predictor.order if self.corrector_steps == 0 else 1

    @property
    def adaptive(self) -> bool:
        return self.predictor.adaptive

    @property
    def affine(self) -> bool:
        return self.predictor.affine and self.corrector_steps == 0

    @property
    def default_grid(self) -> str:
        return self.predictor.default_grid

    @property
    def default_steps(self) -> int:
        return max(2, self.predictor.default_steps // 2)

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (
            Requirement("sde.gaussian", "the corrector's Langevin steps follow the marginal's score"),
            *self.predictor.requires,
        )

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        if self.corrector_steps == 0:
            return self.predictor.step(problem, x, t, s, carry, noise.stream("predictor"))
        x, _ = self.predictor.step(problem, x, t, s, None, noise.stream("predictor"))
        sde = problem.gaussian
        a = (sde.alpha(t) / sde.alpha(s)) ** 2
        root_dim = math.sqrt(math.prod(x.shape[1:]))
        least = root_dim / torch.sqrt(sde.alpha(s) ** 2 + sde.sigma(s) ** 2)
        for number in range(self.corrector_steps):
            score = problem.score(x, s)
            norm = per_sample_norm(score).clamp(min=float(least))
            e = 2.0 * a * (self.snr * root_dim / norm) ** 2
            z = noise.normal_like(x, draw=number)
            x = x + expand(e, x) * score + expand((2.0 * e).sqrt(), x) * z
        return x, None
