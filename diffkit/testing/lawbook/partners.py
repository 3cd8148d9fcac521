"""What a component is tried together with: the built-in Gaussian processes that may be combined with it."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from diffkit import compatibility, registry
from diffkit.component import Component
from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import GaussianSDE
from diffkit.testing.exact import ExactProblem, MixtureProblem
from diffkit.testing.lawbook.base import NotApplicable

__all__ = ["Watched", "flat_mixture", "processes_for"]

_NAMES = ("vp", "sub-vp", "ve", "flow")
_OFFERS = frozenset({"denoise", "score", "logits", "labels", "unconditional"})


def processes_for(component: Component) -> list[tuple[str, GaussianSDE]]:
    """The built-in Gaussian processes, in their default form, that work with the component.

    Raises:
        NotApplicable: there is none.
    """
    found, reasons = [], []
    for name in _NAMES:
        process: GaussianSDE = registry.create("sde", name)
        findings = compatibility.check(
            compatibility.Selection.of(
                process, component, model=frozenset(f"model.{offer}" for offer in _OFFERS)
            )
        )
        refused = [finding.reason for finding in findings if finding.status == "refused"]
        if refused:
            reasons.append(f"{name}: {refused[0]}")
        else:
            found.append((name, process))
    if not found:
        raise NotApplicable(f"it works with no built-in Gaussian process ({'; '.join(reasons)})")
    return found


def flat_mixture(dim: int) -> MixtureProblem:
    """A mixture of three bumps in `dim` elements, without symmetries."""
    grid = torch.arange(dim, dtype=torch.float64)
    means = torch.stack([torch.sin(grid + 1.0), -0.8 * torch.cos(2.0 * grid), 0.3 + 0.0 * grid])
    return MixtureProblem(weights=[0.5, 0.3, 0.2], means=means, variances=[0.1, 0.2, 0.05])


@attrs.define(eq=False)
class Watched(Model):
    """An exact denoiser that counts its calls, sample by sample, behind the back of the sampling loop.

    Args:
        problem, sde: what it is the denoiser of.
        passes: forward passes so far, over all rows.
    """

    problem: ExactProblem
    sde: GaussianSDE
    passes: int = 0
    offers: frozenset[str] = frozenset({"denoise"})

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        self.passes += len(x)
        return self.problem.denoise(self.sde, x, t)
