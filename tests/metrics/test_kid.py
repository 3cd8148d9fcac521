"""The kernel distance against the definition, written out, and against what it is on average."""

from __future__ import annotations

import itertools
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
from diffkit_standard.metrics.kid import KID

NOISE = Noise(seed=0, index=torch.arange(0))
CONTEXT = MetricContext(reference="real", features="eyes:1")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def measured(samples: Tensor, reference: Tensor, cuts: int = 3, metric: KID | None = None) -> Measurement:
    metric = metric or KID()
    state = metric.start(CONTEXT)
    for source, features in (("samples", samples), ("reference", reference)):
        for index in torch.arange(len(features)).tensor_split(cuts):
            batch = Batch(x=features[index], index=index, features=features[index], source="samples")
            state = metric.update(state, attrs.evolve(batch, source=source), NOISE)
    return metric.finish(state)


def by_definition(x: Tensor, y: Tensor) -> float:
    """Pair by pair, in plain numbers."""

    def kernel(a: list[float], b: list[float]) -> float:
        return float((sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1.0) ** 3)

    a, b = x.tolist(), y.tolist()
    same = [np.mean([kernel(p, q) for p, q in itertools.permutations(side, 2)]) for side in (a, b)]
    return float(sum(same) - 2.0 * np.mean([kernel(p, q) for p, q in itertools.product(a, b)]))


def ranks(count: int) -> list[int]:
    """The indices in the order in which they are kept, by integers of their own."""
    return sorted(range(count), key=lambda index: index * 2654435769 % 2**32)


@pytest.mark.parametrize("count,other", [(2, 2), (3, 5), (23, 31)])
def test_the_value_is_the_definition(count: int, other: int) -> None:
    x, y = normal(count, 6, seed=1) + 0.4, normal(other, 6, seed=2)
    result = measured(x, y, cuts=2)
    assert KID().distance(x, y) == result.value
    assert result.value == pytest.approx(by_definition(x, y), rel=1e-12)
    assert result.count == count


def test_two_points_have_a_value_known_by_hand() -> None:
    """F = 1, samples {0, 1}, reference {0, 2}: k(0, 1) = 1, k(0, 2) = 1, and crosswise 1, 1, 1, (2 + 1)^3."""
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]])
    assert measured(x, y, cuts=1).value == pytest.approx(1.0 + 1.0 - 2.0 * (3.0 + 27.0) / 4.0, rel=1e-14)


def test_it_is_zero_on_average_where_the_laws_are_equal() -> None:
    values = [measured(normal(12, 4, seed=2 * s), normal(15, 4, seed=2 * s + 1)).value for s in range(200)]
    assert abs(float(np.mean(values))) < 4.0 * float(np.std(values)) / math.sqrt(len(values))
    assert min(values) < 0.0 < max(values)


def test_its_expectation_does_not_depend_on_the_number_of_samples() -> None:
    few = [measured(normal(6, 3, seed=s) + 0.5, normal(40, 3, seed=5000 + s)).value for s in range(150)]
    many = [measured(normal(60, 3, seed=s) + 0.5, normal(40, 3, seed=9000 + s)).value for s in range(100)]
    gap = abs(float(np.mean(few) - np.mean(many)))
    assert gap < 4.0 * math.hypot(float(np.std(few)) / math.sqrt(150), float(np.std(many)) / math.sqrt(100))


def test_the_error_is_the_jackknife_of_both_sides() -> None:
    x, y = normal(37, 4, seed=1) + 0.3, normal(53, 4, seed=2)
    parts = []
    for side, other, first in ((x, y, True), (y, x, False)):
        order = torch.tensor(ranks(len(side)))
        left_out = []
        for group in order.tensor_split(10):
            rest = side[[row for row in range(len(side)) if row not in group.tolist()]]
            left_out.append(by_definition(rest, other) if first else by_definition(other, rest))
        parts.append(0.9 * ((np.array(left_out) - np.mean(left_out)) ** 2).sum())
    assert measured(x, y).error == pytest.approx(math.sqrt(sum(parts)), rel=1e-9)


def test_the_error_is_about_the_spread_over_repetitions() -> None:
    results = [measured(normal(80, 3, seed=s) + 0.7, normal(120, 3, seed=1000 + s)) for s in range(80)]
    spread = float(np.std([result.value for result in results], ddof=1))
    errors = [result.error for result in results if result.error is not None]
    assert float(np.mean(errors)) == pytest.approx(spread, rel=0.3)


def test_a_cap_keeps_the_same_examples_in_any_order() -> None:
    x, y = normal(90, 5, seed=1) + 0.2, normal(70, 5, seed=2)
    capped = KID(cap=25)
    kept = by_definition(x[ranks(90)[:25]], y[ranks(70)[:25]])
    for cuts in (1, 4, 60):
        result = measured(x, y, cuts, capped)
        assert result.value == pytest.approx(kept, rel=1e-12)
        assert result.count == 90
        assert result.details["compared"] == {"samples": 25, "reference": 25}
        assert result.details["reference_count"] == 70


def test_float32_features_are_summed_in_float64() -> None:
    x, y = (normal(40, 8, seed=1) + 30.0).float(), (normal(40, 8, seed=2) + 30.0).float()
    assert measured(x, y).value == pytest.approx(measured(x.double(), y.double()).value, rel=1e-13)


def test_impossible_features_are_refused() -> None:
    good, bad = normal(20, 3), normal(20, 3)
    bad[4, 1] = math.nan
    with pytest.raises(DataError, match="NaN"):
        measured(bad, good)
    with pytest.raises(DataError, match=r"reference.*NaN"):
        measured(good, bad)
    with pytest.raises(DataError, match="at least 2"):
        measured(good[:1], good, cuts=1)
    batch = Batch(x=good, index=torch.arange(20), features=good)
    alone = KID().update(KID().start(CONTEXT), batch, NOISE)
    with pytest.raises(DataError, match="no reference"):
        KID().finish(alone)
    with pytest.raises(DataError, match="as many features"):
        measured(good, normal(20, 4))
    with pytest.raises(DataError, match="shape"):
        KID().distance(good, good[..., None])
    with pytest.raises(TypeError, match="features"):
        KID().update(KID().start(CONTEXT), Batch(x=good, index=torch.arange(20)), NOISE)
