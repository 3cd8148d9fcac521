"""One example and no other."""

from __future__ import annotations

from typing import Any, final

import attrs
import torch
from torch import Tensor

from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.testing.exact.base import ExactProblem, double, flatten, log_normal, rates

__all__ = ["PointMass"]


def _elements(value: Any) -> Tensor:
    return double(value).flatten()


@final
@attrs.frozen(kw_only=True, eq=False)
class PointMass(ExactProblem):
    """One example and no other: D = x_0, and the flow is x_s = a_s x_0 + (s_s / s_t) (x_t - a_t x_0).

    Args:
        x_0: the example, of any shape.
    """

    x_0: Tensor = attrs.field(converter=_elements)

    @property
    def dim(self) -> int:
        return len(self.x_0)

    def _denoise(self, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        return self.x_0.to(x.device).expand_as(x)

    def _log_density(self, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        return log_normal(x - a * self.x_0.to(x.device), s.expand_as(x) ** 2)

    def _draw(self, noise: Noise) -> Tensor:
        return self.x_0.to(noise.index.device).expand(len(noise.index), -1)

    def _moments(self) -> tuple[Tensor, Tensor]:
        return self.x_0, torch.zeros(self.dim, self.dim, dtype=torch.float64)

    def flow(self, sde: GaussianSDE, x: Tensor, t: Tensor, s: Tensor | None) -> Tensor:
        """The exact probability-flow map from time t to time s, shaped like `x`."""
        flat = flatten(x)
        point = self.x_0.to(x.device)
        (a_t, s_t), (a_s, s_s) = rates(sde, t, flat), rates(sde, s, flat)
        return (a_s * point + s_s / s_t * (flat - a_t * point)).reshape(x.shape).to(x.dtype)
