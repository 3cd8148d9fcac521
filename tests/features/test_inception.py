"""What can be said of the features `inception` without torch-fidelity."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from diffkit import compatibility
from diffkit.config import ExperimentConfig, selection_of
from diffkit.errors import DataError, IncompatibleError, InputError
from diffkit_standard.datasets.digits import Digits
from diffkit_standard.datasets.points import Points
from diffkit_standard.features import inception
from diffkit_standard.features.inception import Inception


def refusal(features: Any, dataset: Any = "digits") -> str:
    mapping = {"name": "t", "dataset": dataset, "evaluation": {"metrics": ["fid"], "features": features}}
    with pytest.raises(IncompatibleError) as caught:
        compatibility.require(selection_of(ExperimentConfig.from_mapping(mapping)))
    return str(caught.value)


@pytest.fixture
def without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def absent(name: str, *rest: Any) -> Any:
        return None if name == "torch_fidelity" else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    monkeypatch.setattr(inception, "_MODULE", "torch_fidelity_that_is_not_there")


@pytest.mark.usefixtures("without_the_library")
def test_a_missing_library_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    said = refusal("inception")
    assert "not installed" in said
    assert "pip install 'diffkit[inception]'" in said
    with pytest.raises(InputError, match=r"diffkit\[inception\]"):
        Inception().prepare(Digits(), tmp_path)


def test_missing_weights_are_refused_before_anything_is_trained() -> None:
    assert "no weights for the features 'inception' at nowhere.pth" in refusal(
        {"name": "inception", "weights": "nowhere.pth"}
    )


def test_examples_that_are_no_images_are_refused(tmp_path: Path) -> None:
    assert "examples are none" in refusal("inception", {"name": "points"})
    with pytest.raises(DataError, match="grey or RGB images"):
        Inception().prepare(Points(), tmp_path)


def test_the_network_is_shown_256_levels_in_three_channels() -> None:
    digits = Digits()
    extractor = inception._Extractor(module=torch.nn.Identity(), dataset=digits, checksum="0" * 64)
    raw = torch.tensor([0, 4, 16], dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 1, 8, 8)
    shown = extractor.bytes(digits.encode(raw) + 0.01)
    assert shown.shape == (3, 3, 8, 8)
    assert shown.dtype == torch.uint8
    assert shown[:, 0, 0, 0].tolist() == [0, 64, 255]
    assert torch.equal(shown[:, 0], shown[:, 2])
