"""Built-in networks, objectives, data sets, features and metrics, held against the laws of their kinds."""

from __future__ import annotations

from typing import Any

from diffkit.testing import Law, parametrize_with_laws

OBJECTIVES: list[Any] = [
    "noise",
    {"name": "noise", "norm": "l1"},
    "sample",
    "velocity",
    "score",
    "edm",
]


@parametrize_with_laws("network", [{"name": "unet", "channels": 16}, "mlp"])
def test_network_laws(law: Law, component: Any) -> None:
    law(component)


@parametrize_with_laws("objective", OBJECTIVES)
def test_objective_laws(law: Law, component: Any) -> None:
    law(component)


@parametrize_with_laws("dataset", ["digits", "points"])
def test_dataset_laws(law: Law, component: Any) -> None:
    law(component)


@parametrize_with_laws("features", [{"name": "classifier", "steps": 15}])
def test_features_laws(law: Law, component: Any) -> None:
    law(component)


@parametrize_with_laws("metric", ["fid", "inception-score"])
def test_metric_laws(law: Law, component: Any) -> None:
    law(component)
