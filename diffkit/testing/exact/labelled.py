"""A mixture whose components are classes: the exact conditional and unconditional denoiser in one model."""

from __future__ import annotations

from typing import final

import attrs
import torch
from torch import Tensor

from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import GaussianSDE
from diffkit.testing.exact.mixture import MixtureProblem

__all__ = ["LabelledModel"]


@final
@attrs.define(kw_only=True, eq=False)
class LabelledModel(Model):
    """Component k of a mixture is class k; label -1 is the whole mixture. Offers denoise, score and logits.

    Args:
        problem: the mixture.
        sde: the process.
        passes: forward passes so far, over all rows; kept up to date.
    """

    problem: MixtureProblem
    sde: GaussianSDE
    passes: int = 0
    offers: frozenset[str] = frozenset({"denoise", "score", "logits"})
    capabilities: frozenset[str] = frozenset({"model.labels", "model.unconditional"})

    @property
    def classes(self) -> int:  # type: ignore[override]
        return len(self.problem.weights)

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        self.passes += len(x)
        result = self.problem.denoise(self.sde, x, t)
        for k in range(self.classes if label is not None else 0):
            assert label is not None
            component = self.component(k).denoise(self.sde, x, t)
            mine = (label == k).reshape(-1, *(1,) * (x.ndim - 1))
            result = torch.where(mine, component, result)
        return result

    def score(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        t = torch.as_tensor(t).to(torch.float64)
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        if t.ndim:
            alpha, sigma = (rate.reshape(-1, *(1,) * (x.ndim - 1)) for rate in (alpha, sigma))
        return ((alpha * self.denoise(x, t, label) - x) / sigma**2).to(x.dtype)

    def logits(self, x: Tensor, t: Tensor) -> Tensor:
        """log p(k | x_t = x) up to a constant, (B, K)."""
        densities = [self.component(k).log_density(self.sde, x, t) for k in range(self.classes)]
        return torch.stack(densities, dim=1) + self.problem.weights.log().to(x)

    def component(self, k: int) -> MixtureProblem:
        """The law of class k."""
        return MixtureProblem(
            weights=[1.0], means=self.problem.means[k : k + 1], variances=self.problem.variances[k : k + 1]
        )
