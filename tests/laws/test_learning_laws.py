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
    "classification",
]
NETWORKS: list[Any] = [
    {"name": "unet", "channels": 16},
    "mlp",
    {"name": "mlp", "output": "logits"},
    {"name": "classifier", "channels": 16},
]


@parametrize_with_laws("network", NETWORKS)
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


METRICS: list[Any] = [
    "fid",
    "fid-infinity",
    "kid",
    {"name": "kid", "cap": 20},
    "inception-score",
    "precision-recall",
    {"name": "precision-recall", "figure": "recall", "cap": 20},
    "class-accuracy",
    "nearest-training",
    {"name": "nearest-training", "view": "features", "cap": 20},
]


@parametrize_with_laws("metric", METRICS)
def test_metric_laws(law: Law, component: Any) -> None:
    law(component)
