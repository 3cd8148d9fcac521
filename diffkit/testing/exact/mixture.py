"""A mixture of Gaussians with diagonal covariances."""

from __future__ import annotations

from typing import Any, final

import attrs
import torch
from torch import Tensor
from torch.special import log_ndtr

from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.testing.exact.base import ExactProblem, double, flatten, log_normal, rates

__all__ = ["MixtureProblem"]


def _normalised(weights: Any) -> Tensor:
    values = double(weights)
    return values / values.sum()


@final
@attrs.frozen(kw_only=True, eq=False)
class MixtureProblem(ExactProblem):
    """A mixture of Gaussians with diagonal covariances.

    Args:
        weights: (K,), positive; normalised here.
        means: (K, D).
        variances: (K,), or (K, D).
    """

    weights: Tensor = attrs.field(converter=_normalised)
    means: Tensor = attrs.field(converter=double)
    variances: Tensor = attrs.field(converter=double)

    @property
    def dim(self) -> int:
        return self.means.shape[1]

    def _on(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log pi (K,), means (K, D) and variances (K, D or 1)."""
        v = self.variances if self.variances.ndim == 2 else self.variances[:, None]
        return self.weights.log().to(like.device), self.means.to(like.device), v.to(like.device)

    def _split(self, x: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Distances (B, K, D), variances V (B or 1, K, D or 1) and joint log-densities (B, K)."""
        log_pi, m, v = self._on(x)
        a, s = a[..., None], s[..., None]
        distance, V = x[:, None] - a * m, a**2 * v + s**2
        return distance, V, log_pi + log_normal(distance, V)

    def _denoise(self, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        _, m, v = self._on(x)
        distance, V, joint = self._split(x, a, s)
        w = torch.softmax(joint, dim=1)[..., None]
        return (w * (m + a[..., None] * v / V * distance)).sum(1)

    def _log_density(self, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        return torch.logsumexp(self._split(x, a, s)[2], dim=1)

    def _draw(self, noise: Noise) -> Tensor:
        chosen = _choices(noise, self.weights)
        z = noise.normal((len(noise.index), self.dim), dtype=torch.float64)
        _, m, v = self._on(z)
        return m[chosen] + v[chosen].sqrt() * z

    def _moments(self) -> tuple[Tensor, Tensor]:
        _, m, v = self._on(self.means)
        pi = self.weights[:, None]
        mean = (pi * m).sum(0)
        spread = m - mean
        return mean, (pi * spread).T @ spread + torch.diag((pi * v.expand_as(m)).sum(0))

    def flow(self, sde: GaussianSDE, x: Tensor, t: Tensor, s: Tensor | None) -> Tensor:
        """The exact probability-flow map for D = 1: the quantile map F_s^-1(F_t(x)), (B, 1).

        Log-probabilities of the nearer tail are matched by bisection, so that the map keeps its digits
        far out on either side.
        """
        if self.dim != 1:
            raise ValueError(f"the flow of a mixture is known in one dimension, not in {self.dim}")
        flat = flatten(x)
        z = self._scores(flat, *rates(sde, t, flat))
        lower, upper = self._log_cdf(z), self._log_cdf(-z)
        side = torch.where(lower <= upper, 1.0, -1.0)
        target = torch.minimum(lower, upper)
        a, r = rates(sde, s, flat)
        _, m, v = self._on(flat)
        centre, deviation = (a * m.T), (a**2 * v.T + r**2).sqrt()
        low = (centre + deviation * z.amin(1, keepdim=True)).amin(1)
        high = (centre + deviation * z.amax(1, keepdim=True)).amax(1)
        for _ in range(100):
            middle = 0.5 * (low + high)
            tail = self._log_cdf(side[:, None] * self._scores(middle[:, None], a, r))
            beyond = (tail > target) == (side > 0)
            low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
        return (0.5 * (low + high)).reshape(x.shape).to(x.dtype)

    def _scores(self, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """(x - a m_k) / sqrt(V_k), (B, K), for D = 1."""
        _, m, v = self._on(x)
        return (x - a * m.T) / (a**2 * v.T + s**2).sqrt()

    def _log_cdf(self, z: Tensor) -> Tensor:
        return torch.logsumexp(self.weights.log().to(z.device) + log_ndtr(z), dim=1)

    def given(self, observed: Tensor, values: Tensor) -> MixtureProblem:
        """The law of x_0 given that its elements under the mask `observed` (D,) are `values` (D,).

        Each component keeps its missing elements; its weight gains the likelihood of the observed ones.
        """
        known, values = observed.bool().flatten(), double(values).flatten()
        log_pi, m, v = self._on(self.means)
        v = v.expand_as(m)
        log_pi = log_pi + log_normal(values[known] - m[:, known], v[:, known])
        means = torch.where(known, values, m)
        variances = torch.where(known, 0.0, v)
        return MixtureProblem(weights=torch.softmax(log_pi, 0), means=means, variances=variances)


def _choices(noise: Noise, weights: Tensor) -> Tensor:
    """(B,) numbers of components, drawn by their weights."""
    share = noise.stream("component").uniform((len(noise.index), 1), dtype=torch.float64).squeeze(1)
    edges = weights.cumsum(0)[:-1].to(share.device)
    return torch.searchsorted(edges, share, right=True)
