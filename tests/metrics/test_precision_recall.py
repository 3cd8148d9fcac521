"""Precision and recall on sets where both are known, and against the definition written out."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffkit.batch import Batch
from diffkit.errors import DataError
from diffkit.interfaces.metric import Measurement, MetricContext
from diffkit.noise import Noise
from diffkit_standard.metrics._proportions import wilson, wilson_error
from diffkit_standard.metrics.precision_recall import PrecisionRecall

NOISE = Noise(seed=0, index=torch.arange(0))
CONTEXT = MetricContext(reference="real", features="eyes:1")


def measured(samples: Tensor, reference: Tensor, cuts: int = 1, **fields: Any) -> Measurement:
    metric = PrecisionRecall(**fields)
    state = metric.start(CONTEXT)
    for source, features in (("samples", samples), ("reference", reference)):
        for index in torch.arange(len(features)).tensor_split(cuts):
            batch = Batch(x=features[index], index=index, features=features[index], source="samples")
            state = metric.update(state, attrs.evolve(batch, source=source), NOISE)
    return metric.finish(state)


def line(*places: float) -> Tensor:
    return torch.tensor(places, dtype=torch.float64)[:, None]


def both(result: Measurement) -> tuple[float, float]:
    return result.details["precision"]["value"], result.details["recall"]["value"]


def test_equal_sets_cover_each_other() -> None:
    x = line(0, 1, 2, 3, 4, 5)
    assert both(measured(x, x.flip(0))) == (1.0, 1.0)


def test_far_sets_do_not() -> None:
    result = measured(line(*range(6)), line(*range(100, 106)))
    assert both(result) == (0.0, 0.0)
    assert result.value == 0.0
    assert result.error is not None
    assert result.error > 0.0


def test_samples_of_one_mode_are_precise_and_recall_one_mode() -> None:
    reference = line(*range(6), *range(100, 112))
    assert both(measured(line(0.5, 1.5, 2.5, 3.5), reference)) == (1.0, 6 / 18)


def test_samples_beyond_the_data_recall_all_and_are_imprecise() -> None:
    samples = line(*range(10), *range(500, 530))
    assert both(measured(samples, line(*range(10)))) == (10 / 40, 1.0)


def test_the_ball_reaches_the_kth_other_neighbour_and_no_further() -> None:
    """Reference 0, 1, 3, 7, 15 with k = 2: radii 3, 2, 3, 6, 12, so the union of balls is [-3, 27]."""
    reference = line(0, 1, 3, 7, 15)
    samples = line(-3, -3.001, 27, 27.001, 13.5)
    result = measured(samples, reference, neighbours=2)
    assert result.details["precision"]["value"] == 3 / 5
    nearer = measured(line(-1, -1.001, 2.5, 23, 23.001), reference, neighbours=1)
    assert nearer.details["precision"]["value"] == 3 / 5


def test_duplicates_are_neighbours_of_each_other() -> None:
    """Four equal reference points have balls of no size, which hold only their like."""
    assert both(measured(line(2, 2, 2, 2.5), line(2, 2, 2, 2)))[0] == 3 / 4


@pytest.mark.parametrize("figure", ["precision", "recall", "f-score"])
def test_the_value_is_the_figure_that_was_asked_for(figure: Any) -> None:
    result = measured(line(0.5, 1.5, 2.5, 3.5, 50), line(*range(6), *range(100, 112)), figure=figure)
    precision, recall = 4 / 5, 6 / 18
    expected = {"precision": precision, "recall": recall, "f-score": 2 / (1 / precision + 1 / recall)}
    assert result.value == pytest.approx(expected[figure], rel=1e-14)
    assert result.error == result.details[figure]["error"]
    assert result.details["precision"]["error"] == pytest.approx(wilson_error(4, 5), rel=1e-14)
    assert result.details["recall"]["error"] == pytest.approx(wilson_error(6, 18), rel=1e-14)


def test_the_error_of_the_f_score_follows_from_the_two() -> None:
    result = measured(line(0.5, 1.5, 2.5, 3.5, 50), line(*range(6), *range(100, 112)))
    values, step = [4 / 5, 6 / 18], 1e-6
    total = 0.0
    for number, name in enumerate(("precision", "recall")):
        moved = values.copy()
        moved[number] += step
        slope = (2 / sum(1 / v for v in moved) - 2 / sum(1 / v for v in values)) / step
        total += (slope * result.details[name]["error"]) ** 2
    assert result.error == pytest.approx(math.sqrt(total), rel=1e-4)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(4, 30), st.integers(4, 30), st.integers(1, 3), st.integers(1, 5), st.integers(0, 1000))
def test_it_is_the_definition_on_whole_numbers(m: int, n: int, k: int, size: int, seed: int) -> None:
    """Whole numbers make ties, which must be decided exactly."""
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randint(0, 5, (count, size), generator=generator).double() for count in (m, n))

    def share(points: list[list[float]], centres: list[list[float]]) -> float:
        def gap(a: list[float], b: list[float]) -> float:
            return sum((p - q) ** 2 for p, q in zip(a, b, strict=True))

        radii = [
            sorted(gap(c, d) for place, d in enumerate(centres) if place != own)[k - 1]
            for own, c in enumerate(centres)
        ]
        inside = [any(gap(p, c) <= r for c, r in zip(centres, radii, strict=True)) for p in points]
        return sum(inside) / len(points)

    expected = share(x.tolist(), y.tolist()), share(y.tolist(), x.tolist())
    assert both(measured(x, y, neighbours=k)) == pytest.approx(expected, rel=1e-15)
    assert PrecisionRecall(neighbours=k).precision_and_recall(x, y) == both(measured(x, y, neighbours=k))
    assert both(measured(x, y, cuts=4, neighbours=k)) == pytest.approx(expected, rel=1e-15)


def test_many_rows_are_worked_through_in_parts() -> None:
    """Even numbers: the odd ones between them lie in some ball of the nearest, far ones in none."""
    reference = line(*range(0, 4400, 2))
    assert both(measured(reference + 1.0, reference, neighbours=1)) == (1.0, 1.0)
    assert both(measured(4400.0 + 2.5 + reference, reference, neighbours=1)) == (0.0, 0.0)


def test_too_few_or_broken_examples_are_refused() -> None:
    x = line(*range(6))
    with pytest.raises(DataError, match="at least 4"):
        measured(x[:3], x)
    with pytest.raises(DataError, match="at least 6"):
        measured(x, x[:5], neighbours=5)
    with pytest.raises(DataError, match="NaN"):
        measured(torch.cat([x, line(math.nan)]), x)


class TestWilson:
    def test_it_solves_its_equation(self) -> None:
        """The ends p are where |share - p| = z sqrt(p (1 - p)/n)."""
        for hits, count, z in ((3, 10, 1.0), (0, 7, 1.96), (99, 100, 2.5)):
            for p in wilson(hits, count, z):
                assert abs(hits / count - p) == pytest.approx(z * math.sqrt(p * (1 - p) / count), abs=1e-12)

    def test_it_is_the_usual_error_of_many_and_never_nothing(self) -> None:
        assert wilson_error(30_000, 100_000) == pytest.approx(math.sqrt(0.21 / 100_000), rel=1e-4)
        assert wilson_error(10, 10) > 0.02
