"""UniPC: exponential multistep predictor and corrector on the data prediction, in half the log-SNR."""

from __future__ import annotations

import math
from typing import ClassVar, final

import attrs
import torch
from attrs.validators import in_
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.tensors import expand

History = tuple[tuple[Tensor, Tensor], ...]
"""(lambda / 2, D) of the latest evaluations, newest first."""

Carry = tuple[Tensor, Tensor, History]
"""The time of the latest evaluation, what the polynomial added to the state there, and the evaluations."""


@final
@attrs.frozen(kw_only=True)
class UniPC(Sampler):
    """The unified predictor-corrector, multistep. With h = (lambda_s - lambda_t)/2 and D_j the outputs at
    lambda_t/2 + r_j h (r_0 = 0; the earlier ones r_j < 0), both take the form

        x_s = (sigma_s / sigma_t) x_t - alpha_s expm1(-h) D_0 + alpha_s sum_j a_j (D_j - D_0),
        sum_j a_j r_j^k = k! phi_k,   phi_k = int_0^1 h e^(-(1 - u) h) u^k / k! du,   k = 1, 2, ...

    so that the polynomial through all D_j is integrated exactly (B(h) of the paper cancels). The predictor of
    order p uses p outputs. The corrector adds the output at s itself, r = 1, which the next step needs
    anyway: one denoiser call a step, order p + 1 given a history (3 at most with a run's own start). The last
    state of a run is a prediction.

    Source: Zhao et al. 2023, arXiv 2302.04867, eq. 3, 8 and 9, with the exact matrices of appendix A.
    """

    source: ClassVar[str] = "Zhao et al. 2023, arXiv 2302.04867, eq. 3, 8 and 9"

    predictor_order: int = parameter("order p of the predictor, 1 to 4", 3, validator=in_((1, 2, 3, 4)))
    corrector: bool = parameter("correct each step with the evaluation that follows it", True)

    @property
    def order(self) -> int:
        return self.predictor_order + self.corrector

    @property
    def default_grid(self) -> str:
        return "log-snr"

    @property
    def default_steps(self) -> int:
        return 20

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (Requirement("sde.gaussian", "the solver's variable is the log-SNR"),)

    def step(
        self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, carry: Carry | None, noise: Noise
    ) -> tuple[Tensor, Carry]:
        sde = problem.gaussian
        history: History = ((0.5 * sde.log_snr(t), problem.denoise(x, t)),)
        if carry is not None:
            before, predicted, earlier = carry
            if self.corrector:
                x = x + (_integral(sde, before, t, (*earlier, *history)) - predicted)
            history = (*history, *earlier)[: self.predictor_order]
        added = _integral(sde, t, s, history)
        return expand(sde.sigma(s) / sde.sigma(t), x) * x + added, (t, added, history)


def _integral(sde: GaussianSDE, t: Tensor, s: Tensor, history: History) -> Tensor:
    """alpha_s int e^(-(lambda_s - lambda)/2) D dlambda/2 over the step from t to s, with D as the polynomial
    through `history`, whose first entry is that of t."""
    here, clean = history[0]
    h = 0.5 * sde.log_snr(s) - here
    alpha_s = sde.alpha(s)
    total = -expand(alpha_s * torch.expm1(-h), clean) * clean
    if len(history) > 1:
        ratios = torch.stack([(place - here) / h for place, _ in history[1:]])
        for weight, (_, other) in zip(_weights(ratios, h), history[1:], strict=True):
            total = total + expand(alpha_s * weight, clean) * (other - clean)
    return total


def _weights(ratios: Tensor, h: Tensor) -> Tensor:
    """The a_j that solve sum_j a_j r_j^k = k! phi_k, k = 1 .. len(ratios)."""
    powers = torch.arange(1, len(ratios) + 1)
    weights: Tensor = torch.linalg.solve(ratios[None, :] ** powers[:, None], _moments(h, len(ratios)))
    return weights


def _moments(h: Tensor, count: int) -> Tensor:
    """int_0^1 h e^(-(1 - u) h) u^k du for k = 1 .. count.

    By parts they obey m_k = 1 - (k / h) m_{k-1}, m_0 = -expm1(-h); that loses digits for small h, where
    the series m_k = sum_i (-1)^i h^(i+1) k! / (k + i + 1)! is summed.
    """
    if abs(float(h)) < 1.0:
        return torch.stack([_series(h, k) for k in range(1, count + 1)])
    moments = [-torch.expm1(-h)]
    for k in range(1, count + 1):
        moments.append(1.0 - k / h * moments[-1])
    return torch.stack(moments[1:])


def _series(h: Tensor, k: int) -> Tensor:
    terms = [(-h) ** i * h * (math.factorial(k) / math.factorial(k + i + 1)) for i in range(18)]
    return torch.stack(terms).sum(0)
