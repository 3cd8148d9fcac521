"""Class accuracy, counted by hand."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from diffkit import compatibility
from diffkit.batch import Batch
from diffkit.config import ExperimentConfig, selection_of
from diffkit.errors import DataError, IncompatibleError
from diffkit.interfaces.dataset import DataSpec
from diffkit.interfaces.metric import Measurement, MetricContext
from diffkit.noise import Noise
from diffkit_standard.metrics.class_accuracy import ClassAccuracy

NOISE = Noise(seed=0, index=torch.arange(0))
CONTEXT = MetricContext(features="eyes:1", spec=DataSpec(shape=(1, 4, 4), classes=3, levels=16))


def measured(logits: Tensor, label: Tensor | None, cuts: int = 2) -> Measurement:
    metric = ClassAccuracy()
    state = metric.start(CONTEXT)
    for index in torch.arange(len(logits)).tensor_split(cuts):
        given = None if label is None else label[index]
        batch = Batch(x=logits[index], index=index, label=given, logits=logits[index])
        state = metric.update(state, batch, NOISE)
    return metric.finish(state)


def test_the_share_of_labels_that_are_found() -> None:
    label = torch.tensor([0, 1, 2, 0, 1, 2, 0, -1, -1])
    found = torch.tensor([0, 1, 2, 1, 1, 0, 0, 0, 1])
    result = measured(3.0 * torch.eye(3)[found], label)
    assert (result.value, result.count) == (5 / 7, 7)
    low, high = result.details["interval"]
    assert 0.0 < low < 5 / 7 < high < 1.0
    assert result.error == pytest.approx(math.sqrt(5 / 7 * 2 / 7 / 7), rel=0.15)
    assert (result.details["features"], result.details["classes"]) == ("eyes:1", 3)


def test_being_always_right_still_has_an_error() -> None:
    result = measured(torch.eye(3).repeat(4, 1), torch.arange(12) % 3)
    assert result.value == 1.0
    assert result.error is not None
    assert 0.0 < result.error < 0.1


def test_real_examples_are_left_alone() -> None:
    metric, logits = ClassAccuracy(), torch.eye(3)
    batch = Batch(x=logits, index=torch.arange(3), label=torch.arange(3), logits=logits, source="reference")
    state = metric.start(CONTEXT)
    assert metric.update(state, batch, NOISE) is state


def test_what_cannot_be_measured_is_refused() -> None:
    logits, label = torch.eye(3), torch.arange(3)
    with pytest.raises(DataError, match="0 samples have a label"):
        measured(logits, None)
    with pytest.raises(DataError, match="0 samples have a label"):
        measured(logits, torch.full((3,), -1))
    with pytest.raises(DataError, match="1 samples have a label"):
        measured(logits[:1], label[:1], cuts=1)
    with pytest.raises(DataError, match="NaN"):
        measured(torch.where(logits > 0, math.nan, logits), label)
    with pytest.raises(DataError, match="knows 5 classes, the data set 3"):
        measured(torch.eye(5), torch.arange(5))
    with pytest.raises(TypeError, match="logits"):
        ClassAccuracy().update(ClassAccuracy().start(CONTEXT), Batch(x=logits, index=label), NOISE)


class TestWhatItGoesWith:
    BASE: dict[str, Any] = {  # noqa: RUF012
        "name": "t",
        "dataset": "digits",
        "training": {"labels": True},
        "sampling": {"conditioners": [{"name": "class-guidance", "label": "each"}]},
        "evaluation": {"metrics": ["class-accuracy"]},
    }

    def refusal(self, **changes: Any) -> str:
        with pytest.raises(IncompatibleError) as caught:
            compatibility.require(selection_of(ExperimentConfig.from_mapping({**self.BASE, **changes})))
        return str(caught.value)

    def test_a_guided_model_of_all_classes_with_the_classifier_is_served(self) -> None:
        selection = selection_of(ExperimentConfig.from_mapping(self.BASE))
        assert not [f for f in compatibility.check(selection) if f.status == "refused"]

    def test_samples_that_ask_for_no_class_are_refused(self) -> None:
        assert "no conditioner asks for one" in self.refusal(sampling={})

    def test_a_model_without_labels_is_refused(self) -> None:
        assert "training.labels: true" in self.refusal(training={}, sampling={})

    def test_other_features_are_refused(self) -> None:
        evaluation = {"metrics": ["class-accuracy"], "features": "pixels"}
        assert "own classes" in self.refusal(evaluation=evaluation)

    def test_some_of_the_classes_are_refused(self) -> None:
        dataset = {"name": "mnist", "classes": [3, 5]}
        assert "keeps only some of them" in self.refusal(dataset=dataset)


def test_it_says_which_way_is_up() -> None:
    assert ClassAccuracy().higher_is_better
    assert attrs.fields(ClassAccuracy) == ()
