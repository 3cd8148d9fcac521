"""The plainest features, and with them points and signals trained, sampled, scored and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import diffkit
from diffkit_standard.datasets.digits import Digits
from diffkit_standard.datasets.points import Points
from diffkit_standard.features.pixels import Pixels


def test_features_are_the_examples(tmp_path: Path) -> None:
    extractor = Pixels().prepare(Digits(), tmp_path)
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(extractor.features(x), x.reshape(3, 64))
    assert extractor.identity == "pixels:1x8x8"
    assert extractor.identity != Pixels().prepare(Points(), tmp_path).identity
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape, size", [("moons", (2,)), ("signal", (1, 64))])
def test_points_and_signals_from_training_to_report(
    tmp_path: Path, shape: str, size: tuple[int, ...]
) -> None:
    config: dict[str, Any] = {
        "name": "plain",
        "dataset": {"name": "points", "shape": shape, "count": 400},
        "network": {"name": "mlp", "width": 32, "blocks": 1},
        "objective": "velocity",
        "training": {"steps": 60, "batch_size": 64, "precision": "fp32"},
        "sampling": {"steps": 8, "count": 16},
        "evaluation": {"metrics": ["fid"], "features": "pixels", "count": 64},
    }
    result = diffkit.Experiment.from_dict(config, runs=tmp_path, quiet=True).run()
    figure = json.loads((result.run / "metrics.json").read_text())["fid"]
    assert figure["details"]["features"].startswith("pixels:")
    assert 0.0 <= figure["details"]["floor"]["value"] < figure["value"]
    assert diffkit.load(result.model).spec.shape == size
    assert "samples.png" in [path.name for path in result.run.iterdir()]
    assert result.report.stat().st_size > 10_000
