"""Distances to the training data: by hand, for copies and for fresh data."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from diffkit.batch import Batch
from diffkit.errors import DataError
from diffkit.interfaces.metric import Measurement, MetricContext
from diffkit.noise import Noise
from diffkit_standard.metrics.nearest_training import NearestTraining

NOISE = Noise(seed=0, index=torch.arange(0))
CONTEXT = MetricContext(reference="real", features="eyes:1")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def measured(
    samples: Tensor, held_out: Tensor, training: Tensor, cuts: int = 1, **fields: Any
) -> Measurement:
    metric = NearestTraining(**fields)
    state = metric.start(CONTEXT)
    for source, x in (("samples", samples), ("reference", training), ("held-out", held_out)):
        for index in torch.arange(len(x)).tensor_split(cuts):
            batch = Batch(x=x[index], index=index, features=-x[index].flatten(1), source="samples")
            state = metric.update(state, attrs.evolve(batch, source=source), NOISE)
    return metric.finish(state)


@pytest.mark.parametrize("view", ["pixels", "features"])
def test_distances_by_hand(view: str) -> None:
    """Two elements: the root mean square of (3, 4) is sqrt(12.5), that of (0, 1) is sqrt(0.5)."""
    training = torch.tensor([[[0.0, 0.0]], [[10.0, 10.0]]])
    samples = torch.tensor([[[3.0, 4.0]], [[10.0, 11.0]]])
    held_out = torch.tensor([[[0.0, 1.0]], [[11.0, 10.0]]])
    result = measured(samples, held_out, training, view=view)
    assert result.value == pytest.approx((math.sqrt(12.5) + math.sqrt(0.5)) / 2, rel=1e-12)
    assert result.details["floor"]["value"] == pytest.approx(math.sqrt(0.5), rel=1e-12)
    assert result.details["ratio"] == pytest.approx(result.value / math.sqrt(0.5), rel=1e-12)
    assert result.error == pytest.approx((math.sqrt(12.5) - math.sqrt(0.5)) / 2, rel=1e-12)
    assert result.details["features"] == ("eyes:1" if view == "features" else None)


def test_neither_cuts_nor_order_matter() -> None:
    samples, held_out, training = normal(40, 6, seed=1), normal(30, 6, seed=2), normal(90, 6, seed=3)
    expected = torch.cdist(samples, training).amin(1) / math.sqrt(6)
    for cuts in (1, 7, 30):
        result = measured(samples, held_out, training, cuts)
        assert result.value == pytest.approx(float(expected.mean()), rel=1e-12)
        assert result.error == pytest.approx(float(expected.std()) / math.sqrt(40), rel=1e-12)
    assert (result.count, result.details["reference_count"]) == (40, 90)


def test_copies_are_found_and_are_exactly_at_zero() -> None:
    training = normal(200, 20, seed=1) + 1000.0
    copies = training[torch.arange(0, 200, 2)].clone()
    result = measured(copies, normal(100, 20, seed=2) + 1000.0, training, cuts=3)
    assert result.value == 0.0
    assert result.details["copies"]["value"] == 1.0
    assert result.details["ratio"] == 0.0


def test_half_copied_is_half() -> None:
    training, fresh = normal(300, 20, seed=1), normal(100, 20, seed=3)
    mixed = torch.cat([training[:100] + 1e-3, fresh])
    share = measured(mixed, normal(500, 20, seed=2), training).details["copies"]
    assert share["value"] == pytest.approx(0.5, abs=0.03)
    assert share["error"] == pytest.approx(math.sqrt(0.25 / 200), rel=0.02)


def test_fresh_data_are_as_far_as_held_out_data() -> None:
    result = measured(normal(800, 10, seed=1), normal(800, 10, seed=2), normal(500, 10, seed=3))
    floor = result.details["floor"]
    assert result.error is not None
    assert abs(result.value - floor["value"]) < 4.0 * math.hypot(result.error, floor["error"])
    assert result.details["copies"]["value"] < 0.03


def test_a_cap_leaves_all_training_examples_in() -> None:
    training = normal(60, 3, seed=1)
    result = measured(training.clone(), normal(50, 3, seed=2), training, cuts=4, cap=10)
    assert result.value == 0.0
    assert result.details["compared"] == {"samples": 10, "held-out": 10}
    assert result.details["reference_count"] == 60


def test_it_asks_for_what_its_view_needs() -> None:
    assert NearestTraining().needs == {"reference", "held-out"}
    assert NearestTraining(view="features").needs == {"reference", "held-out", "features"}


def test_what_cannot_be_measured_is_refused() -> None:
    good, bad = normal(10, 3), torch.full((10, 3), math.nan)
    with pytest.raises(DataError, match="1 example"):
        measured(good[:1], good, good)
    with pytest.raises(DataError, match=r"samples.*NaN"):
        measured(bad, good, good)
    with pytest.raises(DataError, match="training examples hold NaN"):
        measured(good, good, bad)
    with pytest.raises(DataError, match="0 samples, 0 held-out and 0 training"):
        NearestTraining().finish(NearestTraining().start(CONTEXT))
    metric = NearestTraining(view="features")
    with pytest.raises(TypeError, match="features"):
        metric.update(metric.start(CONTEXT), Batch(x=good, index=torch.arange(10)), NOISE)
