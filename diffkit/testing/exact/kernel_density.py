"""The kernel density of given points."""

from __future__ import annotations

import math
from typing import Any, final

import attrs
import torch
from torch import Tensor

from diffkit.noise import Noise
from diffkit.testing.exact.base import ExactProblem, double
from diffkit.testing.exact.mixture import MixtureProblem

__all__ = ["KernelDensityProblem"]


def _points(value: Any) -> Tensor:
    return double(value).flatten(1)


@final
@attrs.frozen(kw_only=True, eq=False)
class KernelDensityProblem(ExactProblem):
    """The kernel density of given points: equal weights, each point a Gaussian of standard deviation `width`.

    The exact denoiser of a real, multi-modal data set. Costs two matrix products of B x N x D.

    Args:
        points: (N, ...), flattened to (N, D).
        width: of the kernel, in data units.
    """

    points: Tensor = attrs.field(converter=_points)
    width: float

    @property
    def dim(self) -> int:
        return self.points.shape[1]

    def _joint(self, x: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Joint log-densities (B, N) but for the normalisation, and the variance V (() or (B, 1))."""
        points = self.points.to(x.device)
        centre = points.mean(0)
        # Squared distances from a common centre lose fewer digits than from the origin.
        y, m = x - a * centre, points - centre
        squared = y.square().sum(1, keepdim=True) - 2.0 * a * (y @ m.T) + a**2 * m.square().sum(1)
        V = (a * self.width) ** 2 + s**2
        return -0.5 * squared.clamp(min=0.0) / V, V

    def _denoise(self, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        joint, V = self._joint(x, a, s)
        nearest = torch.softmax(joint, dim=1) @ self.points.to(x.device)
        return nearest + a * self.width**2 / V * (x - a * nearest)

    def _log_density(self, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        joint, V = self._joint(x, a, s)
        norm = 0.5 * self.dim * torch.log(2.0 * math.pi * V).squeeze(-1)
        return torch.logsumexp(joint, dim=1) - math.log(len(self.points)) - norm

    def _draw(self, noise: Noise) -> Tensor:
        share = noise.stream("component").uniform((len(noise.index), 1), dtype=torch.float64).squeeze(1)
        chosen = (share * len(self.points)).long()
        z = noise.normal((len(noise.index), self.dim), dtype=torch.float64)
        return self.points.to(z.device)[chosen] + self.width * z

    def _moments(self) -> tuple[Tensor, Tensor]:
        spread = self.points - self.points.mean(0)
        covariance = spread.T @ spread / len(spread)
        return self.points.mean(0), covariance + self.width**2 * torch.eye(self.dim, dtype=torch.float64)

    def given(self, observed: Tensor, values: Tensor) -> MixtureProblem:
        """The law of x_0 given that its elements under the mask `observed` (D,) are `values` (D,)."""
        variances = torch.full((len(self.points),), self.width**2, dtype=torch.float64)
        whole = MixtureProblem(weights=torch.ones_like(variances), means=self.points, variances=variances)
        return whole.given(observed, values)
