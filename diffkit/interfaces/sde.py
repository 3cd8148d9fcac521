"""The process: how data turns into noise."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from diffkit.component import Component
from diffkit.interfaces.schedule import Schedule
from diffkit.noise import Noise
from diffkit.tensors import Device, expand, float64

__all__ = ["SDE", "GaussianSDE", "ScheduledSDE", "bisect"]

_LEAST_SIGMA = 1e-3  # below it eps_hat, recovered from x0_hat in float32, has lost its digits


class SDE(Component):
    """dx = drift(x, t) dt + diffusion(t) dw, from data to noise.

    `t` is 0-d when the batch shares a time, else (B,). Coefficients are returned with the shape and
    dtype of `t`; the core broadcasts them over `x`. For a process that is not Gaussian `t` runs
    nominally from 1 to 0.
    """

    @abstractmethod
    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """The drift at (x, t), shaped like `x` (B, ...)."""

    @abstractmethod
    def diffusion(self, t: Tensor) -> Tensor:
        """g(t), shaped like `t`."""

    @abstractmethod
    def prior(
        self, shape: Sequence[int], noise: Noise, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """Samples of the law that sampling starts from, shape (B, ...)."""

    @property
    def t_min(self) -> float:
        """The least noisy time a sampler sees."""
        return 0.0

    @property
    def t_max(self) -> float:
        """The noisiest time, where the prior stands in for the marginal."""
        return 1.0


class GaussianSDE(SDE):
    """A process whose marginals are x_t = alpha_t x_0 + sigma_t eps.

    A concrete class gives `alpha` and `sigma`; everything else follows from these two by

        alpha' = f alpha,   g^2 = -sigma^2 dlambda/dt,   lambda = 2 log(alpha / sigma)

    (automatic differentiation in float64, bisection for the inverse), and may be given in closed
    form where one is known. Source: Song et al. 2021, arXiv 2011.13456; Karras et al. 2022,
    arXiv 2206.00364, appendix B.
    """

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"sde.gaussian", "sde.linear-drift"})

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The signal rate alpha_t."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """The noise rate sigma_t."""

    @float64
    def log_snr(self, t: Tensor) -> Tensor:
        """lambda_t = 2 log(alpha_t / sigma_t), decreasing in t."""
        return 2.0 * (torch.log(self.alpha(t)) - torch.log(self.sigma(t)))

    @float64
    def time_of(self, log_snr: Tensor) -> Tensor:
        """The t with lambda_t = `log_snr`, in [t_min, t_max], by bisection unless given in closed form."""
        return bisect(self.log_snr, log_snr, self.t_min, self.t_max, decreasing=True)

    @float64
    def drift_rate(self, t: Tensor) -> Tensor:
        """f(t) = d log(alpha) / dt."""
        return _derivative(lambda u: torch.log(self.alpha(u)), t)

    @float64
    def diffusion(self, t: Tensor) -> Tensor:
        """g(t) = sigma_t sqrt(-dlambda/dt)."""
        return self.sigma(t) * torch.sqrt(-_derivative(self.log_snr, t))

    @float64
    def alpha_dot(self, t: Tensor) -> Tensor:
        """alpha'(t) = f alpha."""
        return self.drift_rate(t) * self.alpha(t)

    @float64
    def sigma_dot(self, t: Tensor) -> Tensor:
        """sigma'(t) = f sigma + g^2 / (2 sigma)."""
        sigma_t = self.sigma(t)
        return self.drift_rate(t) * sigma_t + self.diffusion(t) ** 2 / (2.0 * sigma_t)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return expand(self.drift_rate(t), x) * x

    def prior(
        self, shape: Sequence[int], noise: Noise, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """N(0, sigma(t_max)^2): the marginal at t_max but for KL <= alpha^2 E|x_0|^2 / (2 sigma^2) nats."""
        scale = self.sigma(torch.tensor(self.t_max, dtype=torch.float64))
        return scale * noise.normal(shape, dtype=dtype, device=device)

    def transition(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """p(x_t | x_s) for s < t: the factor alpha_t / alpha_s and the standard deviation sigma_{t|s}.

        sigma_{t|s}^2 = -sigma_t^2 expm1(lambda_t - lambda_s).
        """
        variance_share = -torch.expm1(self.log_snr(t) - self.log_snr(s))
        return self.alpha(t) / self.alpha(s), self.sigma(t) * torch.sqrt(variance_share)

    def perturb(self, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t = alpha_t x_0 + sigma_t eps."""
        return expand(self.alpha(t), x_0) * x_0 + expand(self.sigma(t), x_0) * eps


class ScheduledSDE(GaussianSDE):
    """A Gaussian process whose rates are functions of its schedule's B(t).

    A concrete class has a field `schedule` with a default, gives `alpha`, `sigma` and
    `integral_of`, the B at which the log-SNR is lambda.
    """

    schedule: Schedule

    @abstractmethod
    def integral_of(self, log_snr: Tensor) -> Tensor:
        """The B with lambda = `log_snr`."""

    @float64
    def time_of(self, log_snr: Tensor) -> Tensor:
        return self.schedule.time(self.integral_of(log_snr))

    @cached_property
    def t_min(self) -> float:
        """The larger of the schedule's t_min and the t where sigma = 1e-3."""
        low, high = self.schedule.t_min, self.schedule.t_max
        if float(self.sigma(torch.tensor(low, dtype=torch.float64))) >= _LEAST_SIGMA:
            return low
        return float(bisect(self.sigma, torch.tensor(_LEAST_SIGMA, dtype=torch.float64), low, high))

    @property
    def t_max(self) -> float:
        return self.schedule.t_max


def bisect(
    function: Callable[[Tensor], Tensor],
    target: Tensor,
    low: float,
    high: float,
    *,
    decreasing: bool = False,
) -> Tensor:
    """The t in [low, high] with function(t) = target, elementwise, to the last bit of float64."""
    lower, upper = torch.full_like(target, low), torch.full_like(target, high)
    for _ in range(64):
        middle = 0.5 * (lower + upper)
        beyond = (function(middle) > target) != decreasing
        lower, upper = torch.where(beyond, lower, middle), torch.where(beyond, middle, upper)
    return 0.5 * (lower + upper)


def _derivative(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        point = t.detach().clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(function(point).sum(), point)
    return gradient
