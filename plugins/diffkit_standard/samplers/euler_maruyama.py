"""x_s = x + (f x - g^2 score) dt + g sqrt(|dt|) z, dt = s - t."""

from __future__ import annotations

from typing import Any, ClassVar, final

import attrs
from torch import Tensor

from diffkit.component import Requirement
from diffkit.interfaces.sampler import Sampler
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.selection import Selection
from diffkit.tensors import expand

_ENOUGH = 100


@final
@attrs.frozen(kw_only=True)
class EulerMaruyama(Sampler):
    """Euler-Maruyama on the reverse-time SDE dx = [f x - g^2 score] dt + g dw.

    Weak and strong order 1 (the noise is additive). It needs small steps: a hundred at the least.

    Source: Song et al. 2021, arXiv 2011.13456, eq. 6; Anderson 1982.
    """

    source: ClassVar[str] = "Song et al. 2021, arXiv 2011.13456, eq. 6"

    @property
    def stochastic(self) -> bool:
        return True

    @property
    def default_steps(self) -> int:
        return 500

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"sampler.stochastic", "sampler.fixed-steps", "sampler.transition"})

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (Requirement("sde.gaussian", "the reverse-time SDE needs the marginal's score"),)

    def caveats(self, selection: Selection) -> tuple[str, ...]:
        if selection.steps is None or selection.steps >= _ENOUGH:
            return ()
        words = f"Euler-Maruyama is of first order in small steps, and {selection.steps} are few"
        return (f"{words}; use {_ENOUGH} or more, or a sampler made for few",)

    def transition(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any
    ) -> tuple[Tensor, Tensor]:
        sde, dt = problem.gaussian, s - t
        g = sde.diffusion(t)
        drift = sde.drift(x, t) - expand(g**2, x) * problem.score(x, t)
        return x + expand(dt, x) * drift, g * dt.abs().sqrt()

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        mean, deviation = self.transition(problem, x, t, s, carry)
        return mean + expand(deviation, x) * noise.normal_like(x), None
