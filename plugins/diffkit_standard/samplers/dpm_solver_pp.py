"""DPM-Solver++: exponential multistep methods on the data prediction, in half the log-SNR."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import attrs
import torch
from attrs.validators import in_
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.interfaces.sampler import Sampler
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.tensors import expand

History = tuple[tuple[Tensor, Tensor], ...]
"""(lambda / 2, D) of the latest evaluations, newest first."""


def _of_variant(sampler: DPMSolverPP, attribute: Any, value: int) -> None:
    if sampler.variant == "sde" and value > 2:
        raise ValueError("the sde variant has orders 1 and 2")


@final
@attrs.frozen(kw_only=True)
class DPMSolverPP(Sampler):
    """DPM-Solver++, multistep. With h = (lambda_s - lambda_t)/2, h_1, h_2 the intervals before, D, D_1, D_2
    the latest denoiser outputs, e = expm1(-h), r0 = h_1/h, r1 = h_2/h:

        order 1:  x_s = (sigma_s / sigma_t) x - alpha_s e D
        order 2:  D replaced by D + (D - D_1) / (2 r0)
        order 3:  - alpha_s e D + alpha_s (e/h + 1) D' - alpha_s ((e + h)/h^2 - 1/2) D''
                  d0 = (D - D_1)/r0, d1 = (D_1 - D_2)/r1,
                  D' = d0 + r0/(r0 + r1) (d0 - d1), D'' = 2 (d0 - d1)/(r0 + r1)

    The public third-order codes drop the 2 in D'' and so are of order 2; `published` gives that form.
    The SDE variant (orders 1 and 2) solves the reverse-time SDE:

        x_s = (sigma_s / sigma_t) e^(-h) x + alpha_s (1 - e^(-2h)) [D + (D - D_1)/(2 r0)]
              + sigma_s sqrt(1 - e^(-2h)) z.

    The first steps of a run are of lower order, for want of a history.

    Source: Lu et al. 2022, arXiv 2211.01095, algorithm 2 and appendix A.
    """

    source: ClassVar[str] = "Lu et al. 2022, arXiv 2211.01095, algorithm 2"

    order: int = parameter("order of the formula: 1, 2 or 3", 2, validator=[in_((1, 2, 3)), _of_variant])
    variant: Literal["ode", "sde"] = parameter("the probability flow, or the reverse-time SDE", "ode")
    published: bool = parameter(
        "order 3 with the coefficient of the public codes, which is of order 2", False
    )

    @property
    def stochastic(self) -> bool:
        return self.variant == "sde"

    @property
    def default_grid(self) -> str:
        return "log-snr"

    @property
    def default_steps(self) -> int:
        return 20

    @property
    def provides(self) -> frozenset[str]:
        kind = "sampler.stochastic" if self.stochastic else "sampler.deterministic"
        return frozenset({kind, "sampler.fixed-steps", "sampler.transition"})

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (Requirement("sde.gaussian", "the solver's variable is the log-SNR"),)

    def transition(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any
    ) -> tuple[Tensor, Tensor]:
        mean, deviation, _ = self._advance(problem, x, t, s, carry)
        return mean, deviation

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        x_s, deviation, history = self._advance(problem, x, t, s, carry)
        if self.stochastic:
            x_s = x_s + expand(deviation, x) * noise.normal_like(x)
        return x_s, history

    def _advance(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: History | None
    ) -> tuple[Tensor, Tensor, History]:
        sde = problem.gaussian
        here, there = 0.5 * sde.log_snr(t), 0.5 * sde.log_snr(s)
        h = there - here
        history = ((here, problem.denoise(x, t)), *(carry or ()))[: self.order]
        alpha_s, ratio = sde.alpha(s), sde.sigma(s) / sde.sigma(t)
        if self.stochastic:
            share = -torch.expm1(-2.0 * h)
            deviation = sde.sigma(s) * share.sqrt()
            mean = ratio * torch.exp(-h) * x + alpha_s * share * _second_order(history, h)
            return mean, deviation, history
        e = torch.expm1(-h)
        if len(history) < 3:
            x_s = ratio * x - alpha_s * e * _second_order(history, h)
        else:
            clean, first, second = self._derivatives(history, h)
            x_s = ratio * x - alpha_s * e * clean + alpha_s * (e / h + 1.0) * first
            x_s = x_s - alpha_s * ((e + h) / h**2 - 0.5) * second
        return x_s, torch.zeros_like(h), history

    def _derivatives(self, history: History, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """D and its first two scaled derivatives, h D' and h^2 D'', from three evaluations."""
        (here, clean), (before, clean_1), (earlier, clean_2) = history
        r0, r1 = (here - before) / h, (before - earlier) / h
        d0, d1 = (clean - clean_1) / r0, (clean_1 - clean_2) / r1
        first = d0 + r0 / (r0 + r1) * (d0 - d1)
        second = (1.0 if self.published else 2.0) * (d0 - d1) / (r0 + r1)
        return clean, first, second


def _second_order(history: History, h: Tensor) -> Tensor:
    """D + (D - D_1) h / (2 h_1), or D alone where there is no history."""
    here, clean = history[0]
    if len(history) == 1:
        return clean
    before, clean_1 = history[1]
    return clean + (clean - clean_1) * (0.5 * h / (here - before))
