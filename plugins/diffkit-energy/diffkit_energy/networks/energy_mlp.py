"""A multilayer perceptron's energy, against a Gaussian that keeps it normalisable."""

from __future__ import annotations

import itertools
import math
from typing import ClassVar, final

import attrs
from attrs.validators import and_, ge, gt, instance_of, optional
from torch import Tensor, nn

from diffkit.component import parameter
from diffkit.interfaces.network import Level, Network

__all__ = ["EnergyMLP"]

_positive = and_(instance_of(int), ge(1))


@final
@attrs.frozen(kw_only=True)
class EnergyMLP(Network):
    """E(x) = f(x) + |x|^2 / (2 r^2) of examples of any shape, flattened; f is a perceptron with swish.

    f grows no faster than a line, so with a reach r the integral of exp(-E) is finite whatever the weights,
    and no chain escapes. The energy depends on x alone: noise level and label are not looked at.

    Units that turn over a length greater than the data's own are slow to learn what is finer than that: of
    eight Gaussians in a ring, the ring. `frequency` makes them turn sooner.
    """

    source: ClassVar[str] = (
        "LeCun et al. 2006, A tutorial on energy-based learning; "
        "Sitzmann et al. 2020, arXiv 2006.09661 (a factor on the first layer)"
    )

    width: int = parameter("of the hidden layers", 128, validator=_positive)
    layers: int = parameter("how many hidden layers", 3, validator=_positive)
    frequency: float = parameter(
        "factor on the first layer's initial weights; 1 for examples of many elements",
        10.0,
        validator=and_(instance_of((int, float)), gt(0.0)),
    )
    reach: float | None = parameter(
        "r, standard deviation of the Gaussian that f bends; null = none", 3.0, validator=optional(gt(0.0))
    )

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"network.energy-output"})

    def build(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        return _EnergyMLP(self, math.prod(shape))


class _EnergyMLP(nn.Module):
    def __init__(self, config: EnergyMLP, size: int) -> None:
        super().__init__()
        self.curvature = 0.0 if config.reach is None else config.reach**-2
        widths = [size, *config.layers * (config.width,)]
        hidden: list[nn.Module] = []
        for before, width in itertools.pairwise(widths):
            hidden += [nn.Linear(before, width), nn.SiLU()]
        for initial in hidden[0].parameters():
            initial.data.mul_(config.frequency)
        self.layers = nn.Sequential(*hidden, nn.Linear(config.width, 1))

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        """(B,) energies; `level` and `label` are not looked at."""
        flat = x.flatten(1)
        bent: Tensor = self.layers(flat)
        return bent.squeeze(1) + 0.5 * self.curvature * flat.square().sum(1)
