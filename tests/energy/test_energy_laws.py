"""Every component of the distribution, and its variants, held against the laws of its kind."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from diffkit.registry import components
from diffkit.testing import Law, check, parametrize_with_laws
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


@pytest.mark.prove
def test_every_default_instance_passes() -> None:
    own = [info for info in components() if info.distribution == "diffkit-energy"]
    assert len(own) == 5
    for info in own:
        statuses = [row["status"] for row in check(info.kind, info.name)]
        assert "passed" in statuses
        assert "failed" not in statuses
