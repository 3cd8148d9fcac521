"""dx = -grad U(x) / gamma dt + sqrt(2 kT / gamma) dw: a heat bath at rest, with the law exp(-U / kT)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, final

import attrs
import torch
from attrs.validators import gt, in_
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import SDE
from diffkit.noise import Noise
from diffkit.tensors import Device
from diffkit_energy.energies import Energy, gradient

__all__ = ["Langevin"]

_GIVEN = "model.energy:given-potential"


@final
@attrs.frozen(kw_only=True)
class Langevin(SDE):
    """Overdamped Langevin dynamics, the same at all times; its invariant law is exp(-U / kT).

    With a `potential` U, the drift is -grad U / gamma, and `model()` is the energy E = U / kT to sample from.
    Without one the potential is the model's, U = kT E, where p is proportional to exp(-E): the drift is then
    (kT / gamma) times the model's score, and friction and temperature only set the pace. t runs nominally
    from 1 to 0 and stands for no noise level; there is no alpha and no sigma.

    Raises:
        TypeError: the drift was asked of a process without a potential.

    Source: Risken 1996, The Fokker-Planck Equation.
    """

    source: ClassVar[str] = "Risken 1996, The Fokker-Planck Equation"

    friction: float = parameter("gamma", 1.0, validator=gt(0.0))
    temperature: float = parameter("kT, in the unit of the potential", 1.0, validator=gt(0.0))
    start: Literal["uniform", "normal"] = parameter(
        "law of the samples that chains start from", "uniform", validator=in_(("uniform", "normal"))
    )
    scale: float = parameter(
        "half the width of that law (uniform), or its standard deviation (normal)", 1.0, validator=gt(0.0)
    )
    potential: Callable[[Tensor], Tensor] | None = parameter(
        "U, a function from (B, ...) to (B,), in Python only; null = the model's energy", None
    )

    @property
    def provides(self) -> frozenset[str]:
        own = frozenset({"sde.stationary"})
        return own if self.potential else own | {"sde.model-drift"}

    @property
    def requires(self) -> tuple[Requirement, ...]:
        if self.potential is None:
            return ()
        remedy = "sample from the model() of the process, or give a process without a potential"
        return (
            Requirement(_GIVEN, "the process has a potential of its own, and the model has another", remedy),
        )

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return -gradient(self._given(), x) / self.friction

    def diffusion(self, t: Tensor) -> Tensor:
        return torch.full_like(t, math.sqrt(2.0 * self.temperature / self.friction))

    def prior(
        self, shape: Sequence[int], noise: Noise, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        if self.start == "normal":
            return self.scale * noise.normal(shape, dtype=dtype, device=device)
        return self.scale * (2.0 * noise.uniform(shape, dtype=dtype, device=device) - 1.0)

    def model(self) -> Model:
        """The given potential as a model, E = U / kT."""
        potential = self._given()
        return Energy(
            function=lambda x: potential(x) / self.temperature, sde=self, capabilities=frozenset({_GIVEN})
        )

    def _given(self) -> Callable[[Tensor], Tensor]:
        if self.potential is None:
            raise TypeError(
                "this process has no potential of its own: the drift is g^2 / 2 times the model's score"
            )
        return self.potential
