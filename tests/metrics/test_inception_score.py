"""The inception score where it is known exactly, and its invariances."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from diffkit.batch import Batch
from diffkit.errors import DataError
from diffkit.interfaces.metric import Measurement, MetricContext
from diffkit.noise import Noise
from diffkit_standard.metrics.inception_score import InceptionScore

NOISE = Noise(seed=0, index=torch.arange(0))


def score(logits: Tensor, order: Tensor | None = None, cuts: int = 3, **fields: Any) -> Measurement:
    metric = InceptionScore(**fields)
    state = metric.start(MetricContext(features="eyes:1"))
    order = torch.arange(len(logits)) if order is None else order
    for index in order.tensor_split(cuts):
        state = metric.update(state, Batch(x=logits[index], index=index, logits=logits[index]), NOISE)
    return metric.finish(state)


def random_logits(count: int, classes: int, seed: int = 0) -> Tensor:
    return 2.0 * torch.randn(
        count, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def dealt(count: int, splits: int) -> list[list[int]]:
    """The indices of each split, by exact integer arithmetic of its own."""
    groups: list[list[int]] = [[] for _ in range(splits)]
    for index in range(count):
        groups[index * 2654435769 % 2**32 * splits // 2**32].append(index)
    return groups


@pytest.mark.parametrize("splits", [1, 4])
def test_sure_and_balanced_scores_the_number_of_classes(splits: int) -> None:
    for sure in (60.0, math.inf):
        logits = torch.zeros(60, 5, dtype=torch.float64)
        chosen = [group[:10] for group in dealt(60, splits)]
        for group in chosen:
            logits[group, torch.arange(10) % 5] = sure
        if math.isinf(sure):
            logits = torch.where(logits > 0, 0.0, -math.inf)
        order = torch.tensor([index for group in chosen for index in group])
        assert score(logits, order, splits=splits).value == pytest.approx(5.0, rel=1e-12)


@pytest.mark.parametrize("classes", [2, 5, 7, 10])
def test_classes_that_come_in_turn_meet_every_split(classes: int) -> None:
    """Samples asked for class = index modulo the classes: no split may see some classes only."""
    logits = 60.0 * torch.eye(classes, dtype=torch.float64)[torch.arange(1000) % classes]
    result = score(logits)
    assert result.value == pytest.approx(classes, rel=0.01)
    assert result.error == pytest.approx(0.0, abs=0.01 * classes)


def test_one_class_or_no_idea_scores_one() -> None:
    collapsed = torch.zeros(30, 5)
    collapsed[:, 2] = 50.0
    for logits in (collapsed, torch.zeros(30, 5), random_logits(1, 5).expand(30, 5)):
        result = score(logits)
        assert result.value == pytest.approx(1.0, rel=1e-12)
        assert result.error == pytest.approx(0.0, abs=1e-12)


def test_a_known_mixture() -> None:
    """Half the samples have p = (a, 1 - a), half the reverse: the score is 2 exp(-H(a))."""
    a = 0.8
    p = torch.tensor([[a, 1 - a], [1 - a, a]], dtype=torch.float64).repeat(10, 1)
    entropy = -a * math.log(a) - (1 - a) * math.log(1 - a)
    assert score(p.log() + 7.0, splits=1).value == pytest.approx(2.0 * math.exp(-entropy), rel=1e-13)


def test_the_value_is_the_mean_over_splits_by_index_and_the_error_its_standard_error() -> None:
    logits, splits = random_logits(103, 7), 4
    p = logits.softmax(1)
    each = []
    for group in dealt(103, splits):
        part = p[group]
        each.append((part * (part.log() - part.mean(0).log())).sum(1).mean().exp())
    expected = torch.stack(each)
    result = score(logits, splits=splits)
    assert result.value == pytest.approx(float(expected.mean()), rel=1e-12)
    assert result.error == pytest.approx(float(expected.std()) / math.sqrt(splits), rel=1e-9)
    assert result.count == 103
    assert result.details == {"features": "eyes:1", "splits": 4, "classes": 7}


def test_neither_order_nor_cut_nor_merging_matters() -> None:
    logits = random_logits(61, 4)
    whole = score(logits, cuts=1)
    shuffled = score(logits, order=torch.randperm(61, generator=torch.Generator().manual_seed(1)), cuts=9)
    metric = InceptionScore()
    states = [metric.start(MetricContext(features="eyes:1")) for _ in range(3)]
    for number in range(2):
        index = torch.arange(61)[number::2]
        states[number] = metric.update(
            states[number], Batch(x=logits[index], index=index, logits=logits[index]), NOISE
        )
    merged = metric.finish(metric.merge(metric.merge(states[2], states[1]), states[0]))
    for other in (shuffled, merged):
        assert (other.value, other.error) == pytest.approx((whole.value, whole.error), rel=1e-12)


def test_only_samples_count() -> None:
    metric, logits = InceptionScore(), random_logits(20, 3)
    state = metric.start(MetricContext())
    batch = Batch(x=logits, index=torch.arange(20), logits=logits, source="reference")
    assert metric.update(state, batch, NOISE) is state


def test_impossible_input_is_refused() -> None:
    with pytest.raises(DataError, match=r"9 sample\(s\) for 10 splits"):
        score(random_logits(9, 3))
    bad = random_logits(20, 3)
    bad[3, 1] = math.nan
    with pytest.raises(DataError, match="NaN"):
        score(bad)
    with pytest.raises(DataError, match=r"0 sample\(s\)"):
        InceptionScore().finish(InceptionScore().start(MetricContext()))


def test_it_asks_for_features_that_classify() -> None:
    (requirement,) = InceptionScore().requires
    assert requirement.capability == "features.logits"
    assert InceptionScore().higher_is_better
