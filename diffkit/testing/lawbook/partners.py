"""What a component is tried together with: the processes that may be combined with it, and exact models."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import attrs
import torch
from torch import Tensor

from diffkit import compatibility, registry
from diffkit.component import Component
from diffkit.errors import DiffkitError
from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.testing.exact import ExactProblem, MixtureProblem
from diffkit.testing.lawbook.base import NotApplicable

__all__ = ["ExactEnergy", "Watched", "exact_model", "flat_mixture", "partners_for", "processes_for"]

_NAMES = ("vp", "sub-vp", "ve", "flow")
_OFFERS = frozenset({"denoise", "score", "energy", "logits", "labels", "unconditional"})


def processes_for(component: Component) -> list[tuple[str, GaussianSDE]]:
    """The built-in Gaussian processes, in their default form, that work with the component.

    Raises:
        NotApplicable: there is none.
    """
    found: list[tuple[str, GaussianSDE]] = []
    reasons = []
    for name in _NAMES:
        process: GaussianSDE = registry.create("sde", name)
        refused = _refused(process, component)
        if refused:
            reasons.append(f"{name}: {refused[0]}")
        else:
            found.append((name, process))
    if not found:
        raise NotApplicable(f"it works with no built-in Gaussian process ({'; '.join(reasons)})")
    return found


def partners_for(component: Component) -> list[tuple[str, SDE]]:
    """The Gaussian processes that work with the component, or else whatever other installed ones do.

    Raises:
        NotApplicable: there is none.
    """
    try:
        return list(processes_for(component))
    except NotApplicable:
        found = [(name, process) for name, process in _others() if not _refused(process, component)]
        if not found:
            raise
        return found


def exact_model(problem: ExactProblem, sde: SDE) -> Model:
    """What is known exactly of the problem's law, as far as it makes sense for the process."""
    return problem.model(sde) if isinstance(sde, GaussianSDE) else ExactEnergy(problem=problem, sde=sde)


def flat_mixture(dim: int) -> MixtureProblem:
    """A mixture of three bumps in `dim` elements, without symmetries."""
    grid = torch.arange(dim, dtype=torch.float64)
    means = torch.stack([torch.sin(grid + 1.0), -0.8 * torch.cos(2.0 * grid), 0.3 + 0.0 * grid])
    return MixtureProblem(weights=[0.5, 0.3, 0.2], means=means, variances=[0.1, 0.2, 0.05])


@attrs.frozen(kw_only=True, eq=False)
class ExactEnergy(Model):
    """The energy -log p of clean data, for processes that stay at one law."""

    problem: ExactProblem
    sde: SDE
    offers: frozenset[str] = frozenset({"energy"})

    def energy(self, x: Tensor) -> Tensor:
        return -self.problem.log_density(None, x, None)


@attrs.define(eq=False)
class Watched(Model):
    """A model that counts its calls, sample by sample, behind the back of the sampling loop.

    Args:
        inner: the model that answers.
        called: what else is done at every call.
        passes: forward passes so far, over all rows.
    """

    inner: Model
    called: Callable[[], None] = lambda: None
    passes: int = 0
    offers: frozenset[str] = attrs.field(init=False)
    sde: SDE | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.offers, self.sde = self.inner.offers, self.inner.sde

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        self._note(x)
        return self.inner.denoise(x, t, label)

    def energy(self, x: Tensor) -> Tensor:
        self._note(x)
        return self.inner.energy(x)

    def _note(self, x: Tensor) -> None:
        self.passes += len(x)
        self.called()


def _refused(process: SDE, component: Component) -> list[str]:
    offers = frozenset(f"model.{offer}" for offer in _OFFERS)
    findings = compatibility.check(compatibility.Selection.of(process, component, model=offers))
    return [finding.reason for finding in findings if finding.status == "refused"]


def _others() -> Iterator[tuple[str, SDE]]:
    """Every installed process that is not Gaussian and needs no settings."""
    for info in registry.components("sde"):
        with contextlib.suppress(DiffkitError):
            process: SDE = registry.create("sde", info.identity)
            if not isinstance(process, GaussianSDE):
                yield info.name, process
