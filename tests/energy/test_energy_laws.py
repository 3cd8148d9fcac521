"""Every component of the distribution, and its variants, held against the laws of its kind."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from diffkit.testing import Law, parametrize_with_laws
from diffkit_energy.sdes.langevin import Langevin


def slanted(x: Tensor) -> Tensor:
    """A double well in the first element, coupled to the others."""
    flat = x.flatten(1)
    return (flat[:, 0] ** 2 - 1.0) ** 2 + 0.3 * flat.sum(1) ** 2


@parametrize_with_laws(
    "sde",
    [
        "langevin",
        {"name": "langevin", "start": "normal", "scale": 2.0},
        Langevin(potential=slanted, friction=3.0),
    ],
)
def test_process_laws(law: Law, component: Any) -> None:
    law(component)


@parametrize_with_laws(
    "sampler",
    [
        "overdamped-langevin",
        {"name": "overdamped-langevin", "temperature": 0.0},
        {"name": "overdamped-langevin", "noise": 0.14},
        {"name": "overdamped-langevin", "gradient_clip": 100.0, "clip": [-9, 9]},
    ],
)
def test_sampler_laws(law: Law, component: Any) -> None:
    law(component)


@parametrize_with_laws("network", ["energy-cnn", "energy-mlp", {"name": "energy-mlp", "reach": None}])
def test_network_laws(law: Law, component: Any) -> None:
    law(component)


@parametrize_with_laws("objective", ["contrastive-divergence"])
def test_objective_laws(law: Law, component: Any) -> None:
    law(component)
