"""A Gaussian with any covariance."""

from __future__ import annotations

from functools import cached_property
from typing import final

import attrs
import torch
from torch import Tensor

from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.testing.exact.base import ExactProblem, double, flatten, log_normal, rates

__all__ = ["GaussianProblem"]


@final
@attrs.frozen(kw_only=True, eq=False)
class GaussianProblem(ExactProblem):
    """x_0 ~ N(mean, covariance). In the eigenbasis of the covariance, with eigenvalues v,

        D = m + a v / (a^2 v + s^2) (x - a m),
        x_s = a_s m + sqrt((a_s^2 v + s_s^2) / (a_t^2 v + s_t^2)) (x_t - a_t m)   (probability flow).

    Args:
        mean: (D,).
        covariance: (D, D), symmetric, eigenvalues >= 0.
    """

    mean: Tensor = attrs.field(converter=double)
    covariance: Tensor = attrs.field(converter=double)

    @property
    def dim(self) -> int:
        return len(self.mean)

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(self.covariance)
        return values.clamp(min=0.0), vectors

    def _in_eigenbasis(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values, vectors = self._eigen
        return self.mean.to(like.device), values.to(like.device), vectors.to(like.device)

    def _denoise(self, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        mean, v, Q = self._in_eigenbasis(x)
        return mean + ((x - a * mean) @ Q * (a * v / (a**2 * v + s**2))) @ Q.T

    def _log_density(self, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        mean, v, Q = self._in_eigenbasis(x)
        variance = a**2 * v + s**2
        return log_normal((x - a * mean) @ Q, variance)

    def _draw(self, noise: Noise) -> Tensor:
        z = noise.normal((len(noise.index), self.dim), dtype=torch.float64)
        mean, v, Q = self._in_eigenbasis(z)
        return mean + (z * v.sqrt()) @ Q.T

    def _moments(self) -> tuple[Tensor, Tensor]:
        return self.mean, self.covariance

    def flow(self, sde: GaussianSDE, x: Tensor, t: Tensor, s: Tensor | None) -> Tensor:
        """The exact probability-flow map from time t to time s (either direction), shaped like `x`."""
        flat = flatten(x)
        mean, v, Q = self._in_eigenbasis(flat)
        (a_t, s_t), (a_s, s_s) = rates(sde, t, flat), rates(sde, s, flat)
        factor = torch.sqrt((a_s**2 * v + s_s**2) / (a_t**2 * v + s_t**2))
        moved = a_s * mean + ((flat - a_t * mean) @ Q * factor) @ Q.T
        return moved.reshape(x.shape).to(x.dtype)

    def given(self, observed: Tensor, values: Tensor) -> GaussianProblem:
        """The law of x_0 given that its elements under the mask `observed` (D,) are `values` (D,)."""
        known = observed.bool().flatten()
        free = ~known
        cross = self.covariance[free][:, known]
        gain = torch.linalg.solve(self.covariance[known][:, known], cross.T).T
        mean, covariance = double(values).flatten().clone(), torch.zeros_like(self.covariance)
        mean[free] = self.mean[free] + gain @ (mean[known] - self.mean[known])
        rows = free.nonzero()
        covariance[rows, rows.T] = self.covariance[free][:, free] - gain @ cross.T
        return GaussianProblem(mean=mean, covariance=covariance)

    def measured(self, matrix: Tensor, y: Tensor, noise: float) -> GaussianProblem:
        """The law of x_0 given y = A x_0 + s n: with the gain K = C A^T (A C A^T + s^2 I)^-1,

            mean m + K (y - A m), covariance C - K A C.

        Args:
            matrix: A, (M, D).
            y: (M,).
            noise: s; with 0, A C A^T must be regular.
        """
        A, y = double(matrix), double(y)
        spread = A @ self.covariance @ A.T + noise**2 * torch.eye(len(A), dtype=torch.float64)
        gain = torch.linalg.solve(spread, A @ self.covariance).T
        covariance = self.covariance - gain @ A @ self.covariance
        return GaussianProblem(
            mean=self.mean + gain @ (y - A @ self.mean), covariance=0.5 * (covariance + covariance.T)
        )
