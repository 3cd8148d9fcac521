"""The noise: Philox against its published vectors and an independent implementation, then its statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from diffkit.noise import Noise, philox

Words = tuple[int, int, int, int]

# Random123's known-answer file, philox 4 x 32, 10 rounds: counter, key, result.
KNOWN: tuple[tuple[Words, tuple[int, int], Words], ...] = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


def noise(seed: int = 0, count: int = 64, first: int = 0) -> Noise:
    return Noise(seed=seed, index=torch.arange(first, first + count))


def words_of(counter: Words, key: tuple[int, int]) -> Words:
    result = philox(tuple(torch.tensor([word]) for word in counter), key)  # type: ignore[arg-type]
    return tuple(int(word) for word in result)  # type: ignore[return-value]


def philox_in_numpy(counter: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """Philox4x32-10 in unsigned 64-bit arithmetic, from the paper's figure: counters (..., 4)."""
    low = np.uint64(0xFFFFFFFF)
    x = [counter[..., i] & low for i in range(4)]
    k = [np.uint64(word) for word in key]
    for _ in range(10):
        left, right = np.uint64(0xD2511F53) * x[0], np.uint64(0xCD9E8D57) * x[2]
        x = [
            (right >> np.uint64(32)) ^ x[1] ^ k[0],
            right & low,
            (left >> np.uint64(32)) ^ x[3] ^ k[1],
            left & low,
        ]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return np.stack(x, axis=-1)


@pytest.mark.parametrize("counter,key,expected", KNOWN)
def test_known_answers(counter: Words, key: tuple[int, int], expected: Words) -> None:
    assert words_of(counter, key) == expected


def test_an_independent_implementation_agrees() -> None:
    random = np.random.default_rng(0)
    counters = random.integers(0, 2**32, size=(500, 4), dtype=np.uint64)
    key = (0xDEADBEEF, 0x12345678)
    columns = [torch.from_numpy(counters[:, i].astype(np.int64)) for i in range(4)]
    ours = torch.stack(philox((columns[0], columns[1], columns[2], columns[3]), key), dim=-1)
    assert np.array_equal(ours.numpy().astype(np.uint64), philox_in_numpy(counters, key))


def test_normals_are_normal() -> None:
    z = noise(seed=3, count=200).normal((200, 500), dtype=torch.float64).flatten()
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3
    # The tails too, where a Box-Muller slip shows: the expected count beyond 3 is 270 of 100,000.
    beyond = int((z.abs() > 3.0).sum())
    expected = len(z) * math.erfc(3.0 / math.sqrt(2.0))
    assert abs(beyond - expected) < 5.0 * math.sqrt(expected)
    assert float(z.abs().max()) > 4.0


def test_uniforms_are_uniform() -> None:
    u = noise(seed=4, count=200).uniform((200, 500), dtype=torch.float64).flatten()
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-3


def test_uniforms_stay_below_one_in_single_precision() -> None:
    u = noise(seed=5, count=4096).uniform((4096, 1024), dtype=torch.float32)
    assert float(u.max()) < 1.0
    assert float(u.min()) >= 0.0
    assert float(u.max()) > 1.0 - 1e-6  # 4 million numbers come this close, where rounding to 1 begins


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.corrcoef(a.flatten().numpy(), b.flatten().numpy())[0, 1])


def test_streams_draws_seeds_indices_and_particles_are_independent() -> None:
    base = noise()
    shape = (64, 400)
    z = base.normal(shape, dtype=torch.float64)
    others = {
        "stream": base.stream("other").normal(shape, dtype=torch.float64),
        "deeper stream": base.stream("other", 1).normal(shape, dtype=torch.float64),
        "number instead of name": base.stream("1").normal(shape, dtype=torch.float64),
        "draw": base.normal(shape, draw=1, dtype=torch.float64),
        "seed": noise(seed=1).normal(shape, dtype=torch.float64),
        "index": noise(first=64).normal(shape, dtype=torch.float64),
        "uniform": base.uniform(shape, dtype=torch.float64),
    }
    bound = 5.0 / math.sqrt(z.numel())
    for name, other in others.items():
        assert abs(correlation(z, other)) < bound, name
        assert abs(correlation(z**2, other**2)) < bound, name
    pairs = list(others.values())
    assert all(not torch.equal(a, b) for i, a in enumerate(pairs) for b in pairs[i + 1 :])


def test_elements_and_neighbouring_samples_are_independent() -> None:
    z = noise(seed=6, count=400).normal((400, 64), dtype=torch.float64)
    bound = 5.0 / math.sqrt(z.numel())
    for lag in (1, 2, 3, 4):  # four numbers come from one block
        assert abs(correlation(z[:, lag:], z[:, :-lag])) < bound
        assert abs(correlation(z[:, lag:] ** 2, z[:, :-lag] ** 2)) < bound
    assert abs(correlation(z[1:], z[:-1])) < bound


def test_names_and_numbers_of_a_path_are_not_confused() -> None:
    base = noise(count=2)
    paths: list[tuple[str | int, ...]] = [
        ("a", "b"),
        ("ab",),
        ("a", 1),
        ("a", "1"),
        ("a1",),
        (1, "a"),
        ("a",),
    ]
    drawn = [base.stream(*path).normal((2, 4)) for path in paths]
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[i + 1 :])


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    first=st.integers(0, 2**40),
    count=st.integers(1, 9),
    seed=st.integers(-(2**62), 2**62),
    inner=st.lists(st.integers(1, 5), min_size=0, max_size=3),
)
def test_a_sample_has_its_noise_in_any_batch(first: int, count: int, seed: int, inner: list[int]) -> None:
    whole = noise(seed, count, first).normal((count, *inner), dtype=torch.float64)
    for row in range(count):
        alone = noise(seed, 1, first + row).normal((1, *inner), dtype=torch.float64)
        assert torch.equal(alone[0], whole[row])
    taken = noise(seed, count, first).take(torch.tensor([count - 1, 0]))
    assert torch.equal(taken.normal((2, *inner), dtype=torch.float64), whole[[count - 1, 0]])


def test_single_precision_is_the_double_one_rounded() -> None:
    for shape in ((64,), (64, 3), (64, 2, 5)):
        double = noise().normal(shape, dtype=torch.float64)
        assert torch.equal(noise().normal(shape, dtype=torch.float32), double.to(torch.float32))


def test_more_elements_leave_the_first_ones_alone() -> None:
    assert torch.equal(noise().normal((64, 11))[:, :6], noise().normal((64, 6)))


def test_dtype_and_shape_are_those_asked_for() -> None:
    assert noise().normal((64, 2)).dtype == torch.get_default_dtype()
    like = torch.empty(64, 3, 2, dtype=torch.float64)
    assert noise().normal_like(like).dtype == torch.float64
    assert noise().normal_like(like).shape == like.shape
    assert noise().uniform((64,)).shape == (64,)
    with pytest.raises(ValueError, match="64 samples"):
        noise().normal((63, 2))


def test_particles_are_distinct_and_the_samples_own() -> None:
    split = noise(count=3).split(4)
    z = split.normal((12, 5), dtype=torch.float64)
    assert all(not torch.equal(z[i], z[j]) for i in range(12) for j in range(i))
    assert torch.equal(split.index, torch.arange(3).repeat_interleave(4))
    assert torch.equal(noise(count=1, first=2).split(4).normal((4, 5), dtype=torch.float64), z[8:])
    assert torch.equal(split.take(torch.tensor([9])).normal((1, 5), dtype=torch.float64)[0], z[9])


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = noise().normal((64, 2))
        assert torch.equal(before, torch.get_rng_state())
        torch.manual_seed(2)
        assert torch.equal(first, noise().normal((64, 2)))
