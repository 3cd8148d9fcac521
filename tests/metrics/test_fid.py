"""The Frechet distance against closed forms, an independent route, and its invariances."""

from __future__ import annotations

import math

import attrs
import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffkit.batch import Batch
from diffkit.errors import DataError
from diffkit.interfaces.metric import Measurement, MetricContext
from diffkit.noise import Noise
from diffkit_standard.metrics._moments import Moments, covariance_factor
from diffkit_standard.metrics.fid import FID

NOISE = Noise(seed=0, index=torch.arange(0))
CONTEXT = MetricContext(reference="real", features="eyes:1")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def orthogonal(size: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(normal(size, size, seed=seed)).Q


def with_moments(mean: Tensor, covariance_root: Tensor, count: int, seed: int) -> Tensor:
    """Features whose sample mean and unbiased covariance R^T R are exactly these."""
    rank = len(covariance_root)
    raw = normal(count, rank, seed=seed)
    white = torch.linalg.qr(raw - raw.mean(0)).Q * math.sqrt(count - 1)
    return mean + white @ covariance_root


def by_sqrtm(a: Tensor, b: Tensor) -> float:
    """The textbook route through scipy's matrix square root."""
    s_a, s_b = np.cov(a.numpy().T), np.cov(b.numpy().T)
    root = scipy.linalg.sqrtm(s_a @ s_b).real
    step = a.numpy().mean(0) - b.numpy().mean(0)
    return float(step @ step + np.trace(s_a + s_b - 2.0 * root))


def measured(samples: Tensor, reference: Tensor, cuts: int = 3, metric: FID | None = None) -> Measurement:
    """The metric's own pass, in `cuts` batches of each source."""
    metric = metric or FID()
    state = metric.start(CONTEXT)
    for source, features in (("samples", samples), ("reference", reference)):
        for index in torch.arange(len(features)).tensor_split(cuts):
            batch = Batch(x=features[index], index=index, features=features[index], source="samples")
            state = metric.update(state, attrs.evolve(batch, source=source), NOISE)
    return metric.finish(state)


@pytest.mark.parametrize("size", [1, 5, 40])
def test_commuting_covariances_have_a_closed_form(size: int) -> None:
    basis = orthogonal(size)
    std_a, std_b = normal(size, seed=1).abs() + 0.1, normal(size, seed=2).abs() * 3.0
    mean_a, mean_b = normal(size, seed=3), normal(size, seed=4)
    a = with_moments(mean_a, std_a[:, None] * basis, 200, seed=5)
    b = with_moments(mean_b, std_b[:, None] * basis, 300, seed=6)
    expected = (mean_a - mean_b).square().sum() + (std_a - std_b).square().sum()
    assert FID().distance(a, b) == pytest.approx(float(expected), rel=1e-9)


def test_small_variances_count() -> None:
    """What is narrow in one set may be wide in the other, and must not be taken for rounding."""
    std = torch.logspace(0, -5, 5, dtype=torch.float64)
    zero, basis = torch.zeros(5, dtype=torch.float64), orthogonal(5)
    a = with_moments(zero, std[:, None] * basis, 30, seed=1)
    b = with_moments(zero, std.flip(0)[:, None] * basis, 30, seed=2)
    assert FID().distance(a, b) == pytest.approx(float((std - std.flip(0)).square().sum()), rel=1e-9)


def test_covariances_are_unbiased() -> None:
    a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [5.0]])
    assert FID().distance(a, b) == pytest.approx(16.0 + 2.0, rel=1e-14)


@pytest.mark.parametrize("size", [2, 10, 64])
def test_general_covariances_agree_with_the_matrix_square_root(size: int) -> None:
    a = normal(500, size, seed=1) @ normal(size, size, seed=2)
    b = normal(400, size, seed=3) @ normal(size, size, seed=4) + 1.0
    assert FID().distance(a, b) == pytest.approx(by_sqrtm(a, b), rel=1e-8)


@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_low_ranks_are_exact(spread: float) -> None:
    size, rank = 50, 7
    basis = orthogonal(size)
    std_a = torch.logspace(0, math.log10(spread), rank, dtype=torch.float64)
    std_b = std_a.flip(0)
    shared = torch.cat([basis[: rank - 2], basis[rank : rank + 2]])
    a = with_moments(torch.zeros(size, dtype=torch.float64), std_a[:, None] * basis[:rank], 12, seed=1)
    b = with_moments(torch.ones(size, dtype=torch.float64), std_b[:, None] * shared, 9, seed=2)
    overlap = (std_a[: rank - 2] * std_b[: rank - 2]).sum()
    expected = size + std_a.square().sum() + std_b.square().sum() - 2.0 * overlap
    assert FID().distance(a, b) == pytest.approx(float(expected), rel=1e-9)


def test_non_commuting_low_ranks_are_exact() -> None:
    """Two lines at an angle: the overlap is the product of the lengths times its cosine."""
    for angle in (0.0, 0.3, math.pi / 2):
        a = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
        b = 3.0 * a[:, :1] * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        expected = 2.0 + 18.0 - 2.0 * math.sqrt(2.0 * 18.0) * math.cos(angle)
        assert FID().distance(a, b) == pytest.approx(expected, rel=1e-9)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 12), st.integers(0, 1000))
def test_symmetric_never_negative_and_blind_to_rotation_and_order(
    first: int, second: int, size: int, seed: int
) -> None:
    a, b = normal(first, size, seed=seed), 2.0 * normal(second, size, seed=seed + 1) + 0.5
    value = FID().distance(a, b)
    assert value >= 0.0
    assert FID().distance(b, a) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert FID().distance(a.flip(0), b.roll(1, 0)) == pytest.approx(value, rel=1e-9, abs=1e-9)
    turn = orthogonal(size, seed=seed)
    assert FID().distance(a @ turn + 3.0, b @ turn + 3.0) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert FID().distance(3.0 * a, 3.0 * b) == pytest.approx(9.0 * value, rel=1e-9, abs=1e-9)
    assert abs(FID().distance(a, a)) < 1e-10 * float(a.square().sum())


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_moments_do_not_depend_on_the_cut(offset: float) -> None:
    x = normal(101, 6) + offset
    whole = Moments.of(x)
    parts = Moments.merged(Moments.of(part) for part in torch.split(x, 7))
    assert parts.count == 101
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-14, atol=0)
    for covariance in (parts.covariance, whole.covariance):
        torch.testing.assert_close(
            covariance, torch.cov(normal(101, 6).T), rtol=0, atol=1e-14 + 1e-15 * offset
        )


@pytest.mark.parametrize("count", [20, 203])
def test_one_shot_streaming_and_merged_agree(count: int) -> None:
    samples, reference = normal(count, 30, seed=1), 1.5 * normal(150, 30, seed=2)
    expected = FID().distance(samples, reference)
    for cuts in (1, 4, 19):
        assert measured(samples, reference, cuts).value == pytest.approx(expected, rel=1e-9)
    metric = FID()
    states = []
    for index in (torch.arange(0, 9), torch.arange(9, count)):
        batch = Batch(x=samples[index], index=index, features=samples[index])
        states.append(metric.update(metric.start(CONTEXT), batch, NOISE))
    real = Batch(x=reference, index=torch.arange(150), features=reference, source="reference")
    states[1] = metric.update(states[1], real, NOISE)
    for pair in (states, states[::-1]):
        assert metric.finish(metric.merge(*pair)).value == pytest.approx(expected, rel=1e-9)


def test_float32_features_are_summed_in_float64() -> None:
    a, b = (normal(300, 8, seed=1) + 1000.0).float(), (normal(300, 8, seed=2) + 1000.0).float()
    assert FID().distance(a, b) == pytest.approx(FID().distance(a.double(), b.double()), rel=1e-12)


def test_the_error_is_the_jackknife_of_ten_groups() -> None:
    samples, reference = normal(95, 4, seed=1), normal(200, 4, seed=2)
    group = torch.tensor([index * 2654435769 % 2**32 * 10 // 2**32 for index in range(95)])
    left_out = np.array([FID().distance(samples[group != j], reference) for j in range(10)])
    expected = math.sqrt(0.9 * ((left_out - left_out.mean()) ** 2).sum())
    result = measured(samples, reference)
    assert result.error == pytest.approx(expected, rel=1e-6)
    assert result.count == 95
    assert result.details["reference_count"] == 200
    assert (result.details["features"], result.details["reference"]) == ("eyes:1", "real")


def test_the_error_is_about_the_spread_over_repetitions() -> None:
    reference = normal(20_000, 3)
    results = [measured(normal(400, 3, seed=seed) + 0.7, reference) for seed in range(1, 61)]
    spread = float(np.std([result.value for result in results], ddof=1))
    errors = [result.error for result in results if result.error is not None]
    assert float(np.mean(errors)) == pytest.approx(spread, rel=0.35)


def test_classes_that_come_in_turn_do_not_inflate_the_error() -> None:
    """Ten far clusters, index modulo 10: leaving out a group must not leave out a cluster."""
    clusters = 5.0 * normal(10, 4, seed=3)
    reference = clusters.repeat(500, 1) + normal(5000, 4, seed=4)
    in_turn = clusters.repeat(40, 1) + normal(400, 4, seed=5)
    shuffled = in_turn[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    first, second = measured(in_turn, reference).error, measured(shuffled, reference).error
    assert first is not None
    assert second is not None
    assert first < 2.0 * second


def test_too_few_examples_for_an_error_still_have_a_value() -> None:
    assert measured(normal(2, 3), normal(9, 3, seed=1), cuts=1).error is None


def test_impossible_features_are_refused() -> None:
    good, bad = normal(20, 3), normal(20, 3)
    bad[4, 1] = math.nan
    with pytest.raises(DataError, match="NaN"):
        FID().distance(good, bad)
    with pytest.raises(DataError, match="NaN"):
        measured(bad, good)
    bad[4, 1] = math.inf
    with pytest.raises(DataError, match="NaN or infinite"):
        FID().distance(bad, good)
    with pytest.raises(DataError, match="at least 2"):
        FID().distance(good[:1], good)
    with pytest.raises(DataError, match="at least 2"):
        measured(good[:1], good, cuts=1)
    with pytest.raises(DataError, match="no reference"):
        FID().finish(
            FID().update(FID().start(CONTEXT), Batch(x=good, index=torch.arange(20), features=good), NOISE)
        )
    with pytest.raises(DataError, match="3 and 4 features"):
        FID().distance(good, normal(20, 4))
    with pytest.raises(DataError, match="shape"):
        FID().distance(good.reshape(20, 3, 1), good)


def test_held_out_examples_are_left_alone() -> None:
    metric, x = FID(), normal(20, 3)
    state = metric.start(CONTEXT)
    assert (
        metric.update(state, Batch(x=x, index=torch.arange(20), features=x, source="held-out"), NOISE)
        is state
    )


def test_the_factor_has_the_rank_of_the_data() -> None:
    factor = covariance_factor(Moments.of(normal(5, 40)), "test")
    assert factor.shape == (4, 40)
    torch.testing.assert_close(factor.T @ factor, torch.cov(normal(5, 40).T), rtol=0, atol=1e-13)
