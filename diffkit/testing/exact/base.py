"""What an exactly known law of data gives for any Gaussian process x_t = alpha_t x_0 + sigma_t eps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

import attrs
import torch
from torch import Tensor

from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise

__all__ = ["ExactModel", "ExactProblem", "double", "flatten", "log_normal", "rates"]


class ExactProblem(ABC):
    """A law of clean data x_0 of `dim` elements, and what follows from it for any Gaussian process.

    A time `None` means clean data (alpha 1, sigma 0). Times are 0-d, or (B,).
    """

    @property
    @abstractmethod
    def dim(self) -> int:
        """How many elements an example has."""

    @abstractmethod
    def _denoise(self, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """D at flat float64 x (B, D); the rates are () or (B, 1)."""

    @abstractmethod
    def _log_density(self, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """log p_t at flat float64 x, (B,)."""

    @abstractmethod
    def _draw(self, noise: Noise) -> Tensor:
        """Clean examples, (B, D) float64."""

    @abstractmethod
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean (D,) and covariance (D, D) of clean data."""

    def denoise(self, sde: GaussianSDE, x: Tensor, t: Tensor) -> Tensor:
        """D(x, t) = E[x_0 | x_t = x], shaped like `x`."""
        flat = flatten(x)
        return self._denoise(flat, *rates(sde, t, flat)).reshape(x.shape).to(x.dtype)

    def score(self, sde: GaussianSDE, x: Tensor, t: Tensor) -> Tensor:
        """grad_x log p_t(x), shaped like `x`."""
        flat = flatten(x)
        a, s = rates(sde, t, flat)
        return ((a * self._denoise(flat, a, s) - flat) / s**2).reshape(x.shape).to(x.dtype)

    def log_density(self, sde: GaussianSDE | None, x: Tensor, t: Tensor | None) -> Tensor:
        """log p_t(x) in nats, (B,)."""
        flat = flatten(x)
        return self._log_density(flat, *rates(sde, t, flat)).to(x.dtype)

    def moments(self, sde: GaussianSDE | None, t: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean (D,) and covariance (D, D) of x_t, in float64."""
        mean, covariance = self._moments()
        a, s = rates(sde, t, mean[None])
        return a * mean, a**2 * covariance + s**2 * torch.eye(self.dim, dtype=torch.float64)

    def draw(
        self, noise: Noise, shape: Sequence[int] | None = None, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """Examples of clean data, (B, *shape), (B, D) by default."""
        return self._draw(noise).reshape(-1, *(shape or (self.dim,))).to(dtype)

    def draw_at(
        self, sde: GaussianSDE, t: Tensor, noise: Noise, shape: Sequence[int] | None = None
    ) -> Tensor:
        """Examples of x_t, float64."""
        x = self.draw(noise, shape)
        return sde.perturb(x, t, noise.stream("eps").normal_like(x))

    def model(self, sde: GaussianSDE) -> ExactModel:
        """The exact denoiser as samplers see a trained one."""
        return ExactModel(problem=self, sde=sde)


@final
@attrs.frozen(kw_only=True, eq=False)
class ExactModel(Model):
    """The exact denoiser and score of a problem under a process; callable as a bare denoiser too."""

    problem: ExactProblem
    sde: GaussianSDE
    offers: frozenset[str] = frozenset({"denoise", "score"})

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self.problem.denoise(self.sde, x, t)

    def score(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self.problem.score(self.sde, x, t)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.denoise(x, t)


def double(value: Any) -> Tensor:
    """A number, a list or a tensor as a float64 tensor."""
    return torch.as_tensor(value, dtype=torch.float64)


def flatten(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1).to(torch.float64)


def rates(sde: GaussianSDE | None, t: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor]:
    """alpha_t and sigma_t in float64, () or (B, 1); those of clean data where t is None."""
    if sde is None or t is None:
        return torch.ones((), dtype=x.dtype, device=x.device), torch.zeros((), dtype=x.dtype, device=x.device)
    t = torch.as_tensor(t).to(dtype=torch.float64, device=x.device)
    a, s = sde.alpha(t), sde.sigma(t)
    return (a, s) if t.ndim == 0 else (a[:, None], s[:, None])


def log_normal(distance: Tensor, variance: Tensor) -> Tensor:
    """log N(distance; 0, variance), summed over the last axis; the variance broadcasts."""
    terms = distance**2 / variance + torch.log(2.0 * math.pi * variance)
    return -0.5 * terms.sum(-1)
