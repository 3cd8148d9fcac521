"""The extrapolated distance: exact where the bias is exactly 1/n, and right on average."""

from __future__ import annotations

import math

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

from diffkit.batch import Batch
from diffkit.errors import DataError
from diffkit.interfaces.metric import Measurement, MetricContext
from diffkit.noise import Noise
from diffkit_standard.metrics._groups import group_of
from diffkit_standard.metrics.fid import FID
from diffkit_standard.metrics.fid_infinity import FIDInfinity

NOISE = Noise(seed=0, index=torch.arange(0))
CONTEXT = MetricContext(reference="real", features="eyes:1")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def measured(samples: Tensor, reference: Tensor, cuts: int = 3) -> Measurement:
    metric = FIDInfinity()
    state = metric.start(CONTEXT)
    for source, features in (("samples", samples), ("reference", reference)):
        for index in torch.arange(len(features)).tensor_split(cuts):
            batch = Batch(x=features[index], index=index, features=features[index], source="samples")
            state = metric.update(state, attrs.evolve(batch, source=source), NOISE)
    return metric.finish(state)


def by_definition(samples: Tensor, reference: Tensor, groups: list[int]) -> float:
    """The line through (1/n, FID_n) and the mean point of the two halves, at 1/n = 0."""
    dealt = group_of(torch.arange(len(samples)), 10)
    halves = [samples[torch.isin(dealt, torch.tensor(groups[start::2]))] for start in (0, 1)]
    whole = samples[torch.isin(dealt, torch.tensor(groups))]
    x = [1.0 / len(whole), float(np.mean([1.0 / len(half) for half in halves]))]
    y = [
        FID().distance(whole, reference),
        float(np.mean([FID().distance(half, reference) for half in halves])),
    ]
    slope = (y[1] - y[0]) / (x[1] - x[0])
    return y[0] - slope * x[0]


@pytest.mark.parametrize("count", [40, 203])
def test_the_value_is_where_the_line_meets_infinity(count: int) -> None:
    samples, reference = normal(count, 4, seed=1) + 0.3, normal(300, 4, seed=2)
    expected = by_definition(samples, reference, list(range(10)))
    for cuts in (1, 7):
        result = measured(samples, reference, cuts)
        assert result.value == pytest.approx(expected, rel=1e-9)
        assert result.details["finite"] == pytest.approx(FID().distance(samples, reference), rel=1e-9)
    assert result.count == count


def test_the_error_is_the_jackknife_of_the_extrapolated_figure() -> None:
    samples, reference = normal(203, 3, seed=1) + 0.3, normal(300, 3, seed=2)
    left_out = np.array(
        [by_definition(samples, reference, [g for g in range(10) if g != j]) for j in range(10)]
    )
    expected = math.sqrt(0.9 * ((left_out - left_out.mean()) ** 2).sum())
    result = measured(samples, reference)
    assert result.error == pytest.approx(expected, rel=1e-6)
    low, high = result.details["interval"]
    assert (high + low) / 2 == pytest.approx(result.value, rel=1e-12)
    assert (high - low) / 2 == pytest.approx(1.96 * expected, rel=1e-6)


def test_it_takes_the_bias_away() -> None:
    """Against a reference that is all but the law itself, the truth is |shift|^2 = 0.25 exactly."""
    reference = normal(200_000, 5, seed=10_000)
    samples = [normal(120, 5, seed=seed) + math.sqrt(0.05) for seed in range(60)]
    results = [measured(each, reference) for each in samples]
    finite = np.array([result.details["finite"] for result in results])
    corrected = np.array([result.value for result in results])
    error = float(corrected.std(ddof=1)) / math.sqrt(len(results))
    assert finite.mean() - 0.25 > 6.0 * error
    assert abs(corrected.mean() - 0.25) < 3.0 * error
    errors = [result.error for result in results if result.error is not None]
    assert float(np.mean(errors)) == pytest.approx(float(corrected.std(ddof=1)), rel=0.35)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(DataError, match="two in each of 10 groups"):
        measured(normal(12, 3), normal(30, 3, seed=1))
    with pytest.raises(DataError, match="no examples"):
        FIDInfinity().finish(FIDInfinity().start(CONTEXT))
    with pytest.raises(DataError, match="NaN"):
        measured(torch.full((60, 3), math.nan), normal(30, 3))
    with pytest.raises(DataError, match="3 and 4 features"):
        measured(normal(60, 3), normal(30, 4))
