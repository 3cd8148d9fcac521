"""Points and signals against the closed form of their laws."""

from __future__ import annotations

import math
from typing import get_args

import attrs
import pytest
import torch
from torch import Tensor

from diffkit.errors import ConfigError
from diffkit.registry import create
from diffkit.statistics import DataStatistics
from diffkit_standard.datasets.points import Points

SHAPES = get_args(attrs.fields(attrs.resolve_types(Points)).shape.type)
every = pytest.mark.parametrize("shape", SHAPES)
LABELLED = {"mixture": 8, "moons": 2, "signal": 2}


def raw_of(shape: str, count: int = 4000, noise: float = 0.0) -> tuple[Tensor, Tensor | None]:
    examples = Points(shape=shape, count=count, noise=noise).load("train")  # type: ignore[arg-type]
    return examples.raw.double(), examples.label


@every
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.4])
def test_encoded_examples_have_mean_zero_and_unit_spread(shape: str, noise: float) -> None:
    count = 40000
    dataset = Points(shape=shape, count=count, noise=noise)  # type: ignore[arg-type]
    statistics = DataStatistics.of(dataset)
    # Signals: 64 values each, but the values of one example go together.
    assert statistics.mean == pytest.approx([0.0] * len(statistics.mean), abs=4.0 / math.sqrt(count))
    assert statistics.std == pytest.approx([1.0] * len(statistics.std), abs=4.0 / math.sqrt(count))
    assert statistics.sigma_data == pytest.approx(1.0, abs=0.02)


@every
def test_what_the_spec_says_is_what_comes(shape: str) -> None:
    dataset = Points(shape=shape, count=1000)  # type: ignore[arg-type]
    spec, train, test = dataset.spec(), dataset.load("train"), dataset.load("test")
    assert train.raw.shape == (1000, *spec.shape)
    assert len(test) == 200
    assert train.raw.is_floating_point()
    assert spec.levels is None
    assert spec.classes == LABELLED.get(shape)
    assert len(spec.names) == (spec.classes or 0)
    if spec.classes is None:
        assert train.label is None
    else:
        assert train.label is not None
        counts = torch.bincount(train.label, minlength=spec.classes).double()
        expected = 1000 / spec.classes
        # Pearson's statistic of equal shares: mean classes - 1, deviation sqrt(2 (classes - 1)).
        statistic = float(((counts - expected) ** 2 / expected).sum())
        assert statistic < spec.classes - 1 + 4 * math.sqrt(2 * (spec.classes - 1))
    torch.testing.assert_close(dataset.decode(dataset.encode(train.raw)), train.raw, rtol=1e-5, atol=1e-5)


def test_mixture_is_eight_gaussians_on_the_circle() -> None:
    raw, label = raw_of("mixture", 20000, noise=0.1)
    assert label is not None
    angle = 2 * math.pi * label / 8
    offset = raw - torch.stack((angle.cos(), angle.sin()), dim=1)
    assert offset.std().item() == pytest.approx(0.1, rel=0.02)
    assert offset.mean(0).tolist() == pytest.approx([0.0, 0.0], abs=0.003)
    assert float((offset[:, 0] * offset[:, 1]).mean()) == pytest.approx(0.0, abs=3e-4)


def test_moons_are_half_circles_that_reach_into_each_other() -> None:
    raw, label = raw_of("moons")
    upper, lower = raw[label == 0], raw[label == 1]
    for half, centre, side in ((upper, (0.0, 0.0), 1.0), (lower, (1.0, 0.5), -1.0)):
        away = half - torch.tensor(centre, dtype=torch.float64)
        assert away.norm(dim=1).tolist() == pytest.approx([1.0] * len(half), abs=1e-6)
        assert (side * away[:, 1] >= -1e-6).all()
    assert upper[:, 0].max() > lower[:, 0].min()


def test_checkerboard_fills_every_second_square_evenly() -> None:
    raw, _ = raw_of("checkerboard", 20000)
    assert (raw.abs() <= 1.0).all()
    square = ((raw + 1.0) / 0.5).floor().long()
    assert (square.sum(1) % 2 == 0).all()
    counts = torch.bincount(4 * square[:, 1] + square[:, 0], minlength=16).double()
    filled = counts[counts > 0]
    assert len(filled) == 8
    assert filled.tolist() == pytest.approx([2500.0] * 8, abs=4 * math.sqrt(2500))
    within = ((raw + 1.0) / 0.5) % 1.0
    assert within.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.01)


def test_swiss_roll_winds_outwards() -> None:
    raw, _ = raw_of("swiss-roll")
    turn = raw.norm(dim=1) * 4.5 * math.pi
    on_spiral = torch.stack((turn.cos(), turn.sin()), dim=1) * raw.norm(dim=1, keepdim=True)
    torch.testing.assert_close(raw, on_spiral, rtol=0.0, atol=1e-5)
    assert float(turn.min()) == pytest.approx(1.5 * math.pi, abs=0.05)
    assert float(turn.max()) == pytest.approx(4.5 * math.pi, abs=0.05)


def test_signals_are_two_sinusoids_or_a_chirp() -> None:
    raw, label = raw_of("signal", 2000)
    assert label is not None
    signal = raw[:, 0]
    power = torch.fft.rfft(signal * torch.hann_window(64, dtype=torch.float64)).abs() ** 2
    sinusoids = power[label == 0] / power[label == 0].sum(1, keepdim=True)
    # A windowed line is four bins wide; the two lines lie within 1 .. 4 and 4 .. 8 periods.
    assert float(sinusoids[:, :11].sum(1).min()) > 0.99
    assert float(sinusoids[:, 13:].sum(1).max()) < 1e-3
    for low, high in ((1, 4), (4, 8)):
        assert float(sinusoids[:, low - 1 : high + 2].sum(1).mean()) > 0.4
    chirps = signal[label == 1]
    assert float(chirps.abs().max()) <= 1.0
    crossings = (chirps[:, 1:] * chirps[:, :-1] < 0).double()
    assert float(crossings[:, 32:].sum(1).mean()) > 1.5 * float(crossings[:, :31].sum(1).mean())
    # From 1 .. 3 (mean 2) to 5 .. 10 (mean 7.5) periods: 4.75 on average, two crossings each.
    assert float(crossings.sum(1).mean()) == pytest.approx(9.5, abs=0.5)
    assert float(signal.var(0).min()) > 0.4  # the phase is uniform: no place is quieter than others


@every
def test_an_example_depends_on_seed_and_number_alone(shape: str) -> None:
    few, many = (Points(shape=shape, count=count).load("train") for count in (50, 200))  # type: ignore[arg-type]
    assert torch.equal(few.raw, many.raw[:50])
    other = Points(shape=shape, count=50, seed=1).load("train")  # type: ignore[arg-type]
    assert not (few.raw == other.raw).any(dim=-1).any()
    held_out = Points(shape=shape, count=250).load("test").raw  # type: ignore[arg-type]
    assert not torch.equal(few.raw, held_out)


def test_nothing_is_drawn_from_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    first = Points().fingerprint()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == Points().fingerprint()
    assert len({Points(seed=seed, shape=shape).fingerprint() for seed in (0, 1) for shape in SHAPES}) == 10


def test_a_point_is_drawn_where_it_lies() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 3.0], [-3.0, 3.0], [9.0, -9.0]])
    pictures = Points().picture(x)
    assert pictures.shape == (4, 1, 32, 32)
    rows, columns = (pictures[:, 0].amax(dim=axis).argmax(dim=1).tolist() for axis in (2, 1))
    assert rows[1:] == [0, 0, 31]
    assert columns[1:] == [31, 0, 31]
    assert {rows[0], columns[0]} <= {15, 16}
    assert pictures.sum(dim=(1, 2, 3)).tolist() == [1.0] * 4


def test_a_signal_is_drawn_as_its_trace() -> None:
    x = torch.linspace(-3.0, 3.0, 64).reshape(1, 1, 64)
    picture = Points(shape="signal").picture(x)
    assert picture.shape == (1, 1, 32, 64)
    height = 31 - picture[0, 0].argmax(dim=0)
    assert torch.equal(height, torch.linspace(0, 31, 64).round().long())


@pytest.mark.parametrize(
    "fields, key", [({"shape": "cube"}, "shape"), ({"count": 0}, "count"), ({"noise": -0.1}, "noise")]
)
def test_settings_without_a_meaning_are_refused(fields: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"dataset\.{key}"):
        create("dataset", {"name": "points", **fields})
