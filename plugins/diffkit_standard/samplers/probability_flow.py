"""dx/dt = alpha' D + sigma' eps_hat, by Runge-Kutta in t."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import attrs
from attrs.validators import gt
from torch import Tensor

from diffkit import ode
from diffkit.component import Requirement, parameter
from diffkit.interfaces.sampler import Sampler
from diffkit.noise import Noise
from diffkit.ode import State
from diffkit.problem import Problem


@final
@attrs.frozen(kw_only=True)
class ProbabilityFlow(Sampler):
    """The probability-flow ODE dx/dt = f x - g^2 score / 2 = alpha' D + sigma' eps_hat.

    `euler`, `heun` and `rk4` make one step a grid interval (orders 1, 2, 4; 1, 2, 4 denoiser calls);
    `rk45` is Dormand and Prince's adaptive pair, each sample to its tolerance with steps of its own.

    Source: Song et al. 2021, arXiv 2011.13456, eq. 13 and appendix D.
    """

    source: ClassVar[str] = "Song et al. 2021, arXiv 2011.13456, eq. 13"

    method: Literal["euler", "heun", "rk4", "rk45"] = parameter("the Runge-Kutta method", "heun")
    rtol: float = parameter("rk45: relative tolerance", 1e-5, validator=gt(0.0))
    atol: float = parameter("rk45: absolute tolerance, in data units", 1e-5, validator=gt(0.0))

    @property
    def order(self) -> int:
        return 5 if self.adaptive else ode.METHODS[self.method][0]

    @property
    def adaptive(self) -> bool:
        return self.method == "rk45"

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (Requirement("sde.gaussian", "the probability flow needs the marginal's score"),)

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        if not self.adaptive:
            (x,) = ode.fixed(lambda tau, y: (problem.velocity(y[0], tau),), (x,), t, s, self.method)
            return x, None

        def velocity(tau: Tensor, y: State, rows: Tensor) -> State:
            return (problem.take(rows).velocity(y[0], tau),)

        (x,) = ode.adaptive(velocity, (x,), t, s, rtol=self.rtol, atol=self.atol)
        return x, None
