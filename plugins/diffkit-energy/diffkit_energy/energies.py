"""An energy as a model: E(x) with p(x) proportional to exp(-E(x)), and the score -grad E."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import attrs
import torch
from torch import Tensor

from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import SDE

__all__ = ["Energy", "gradient"]


@final
@attrs.frozen(kw_only=True, eq=False)
class Energy(Model):
    """A function of x alone as samplers see it; the score is its negative gradient at every time.

    Args:
        function: from (B, ...) to (B,), differentiable.
        sde: the process that the energy comes with, if any.
        capabilities: beyond `energy` and `score`.
        device: where the function computes; None = wherever its input is.
    """

    function: Callable[[Tensor], Tensor]
    sde: SDE | None = None
    capabilities: frozenset[str] = frozenset()
    device: torch.device | None = None
    offers: frozenset[str] = frozenset({"energy", "score"})

    def energy(self, x: Tensor) -> Tensor:
        return self.function(x)

    def score(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return -gradient(self.function, x)


def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of a function of each sample, shaped like `x`."""
    with torch.enable_grad():
        point = x.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(function(point).sum(), point)
    return slope
