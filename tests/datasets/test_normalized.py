"""Normalised data: zero mean and unit variance, and everything that depends on the units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffkit
from diffkit.errors import ConfigError, DataError
from diffkit.interfaces.dataset import Dataset
from diffkit.registry import create
from diffkit.statistics import DataStatistics, settled
from diffkit_standard.conditioners._observed import examples_of
from diffkit_standard.conditioners.threshold import Threshold
from diffkit_standard.datasets.array import Array
from diffkit_standard.datasets.digits import Digits
from diffkit_standard.datasets.normalized import Normalized


@pytest.fixture
def colours(tmp_path: Path) -> Dataset:
    """RGB images whose channels have means and spreads of their own."""
    draw = np.random.default_rng(0)
    raw = draw.normal([60.0, 128.0, 200.0], [10.0, 30.0, 5.0], (50, 6, 6, 3)).clip(0, 255)
    np.save(tmp_path / "x.npy", raw.astype(np.uint8).transpose(0, 3, 1, 2))
    return Array(path=str(tmp_path / "x.npy"))


def normalized(dataset: Dataset) -> Dataset:
    return settled(Normalized(dataset=dataset))[0]


def test_every_channel_has_zero_mean_and_unit_variance(colours: Dataset) -> None:
    x = normalized(colours).encode(colours.load("train").raw).double()
    assert x.mean((0, 2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(x.var((0, 2, 3), unbiased=False), torch.ones(3).double(), rtol=1e-5, atol=0.0)


def test_the_units_are_said_in_the_specification(colours: Dataset) -> None:
    raw = colours.load("train").raw
    spec = normalized(colours).spec()
    values = raw.double().numpy()
    expected = (values - values.mean((0, 2, 3), keepdims=True)) / values.std((0, 2, 3), keepdims=True)
    scale, offset = (np.reshape(each, (3, 1, 1)) for each in (spec.scale, spec.offset))
    np.testing.assert_allclose(scale * values + offset, expected, rtol=0.0, atol=1e-9)
    measured = DataStatistics.of(normalized(colours))
    np.testing.assert_allclose(measured.mean, 0.0, atol=1e-9)
    np.testing.assert_allclose([*measured.std, measured.sigma_data], 1.0, rtol=1e-9)


def test_pictures_and_levels_are_those_of_the_data_set_inside(colours: Dataset) -> None:
    made, raw = normalized(colours), colours.load("train").raw
    x = made.encode(raw)
    assert torch.equal(made.decode(x), raw)
    assert torch.equal(made.picture(x), colours.picture(colours.encode(raw)))
    torch.testing.assert_close(made.to_plain(x), colours.encode(raw), rtol=0.0, atol=1e-5)


def test_a_constant_channel_is_no_division_by_zero(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((6, 1, 4, 4), 9, dtype=np.uint8))
    made = normalized(Array(path=str(tmp_path / "x.npy")))
    x = made.encode(made.load("train").raw)
    torch.testing.assert_close(x, torch.zeros_like(x), rtol=0.0, atol=1e-6)


def test_given_numbers_stay_and_the_other_is_measured() -> None:
    made, _ = settled(Normalized(dataset=Digits(), std=(0.5,)))
    assert isinstance(made, Normalized)
    assert made.std == (0.5,)
    assert made.mean == pytest.approx(DataStatistics.of(Digits()).mean)


@pytest.mark.parametrize("fields", [{"std": (0.0,)}, {"std": "automatic"}, {"mean": ("x",)}])
def test_impossible_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, TypeError, ValueError)):
        create("dataset", {"name": "normalized", **fields})


def test_units_that_are_not_known_yet_are_refused() -> None:
    bare = Normalized()
    for use in (bare.encode, bare.decode, bare.picture, bare.to_plain, bare.from_plain):
        with pytest.raises(ConfigError, match="still 'auto'"):
            use(torch.zeros(1, 1, 8, 8))


def test_a_grey_measurement_of_colours_is_refused(colours: Dataset) -> None:
    grey = torch.randint(0, 256, (2, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match=r"1 channels.*3, each of which"):
        examples_of(grey, normalized(colours), (1, 6, 6))


@pytest.mark.parametrize("method", ["static", "dynamic", "state"])
def test_a_clamp_is_that_of_the_picture(colours: Dataset, method: Any) -> None:
    made = normalized(colours)
    threshold, plain = Threshold(method=method).prepared(made), Threshold(method=method)
    wide = 2.0 * torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))

    def clamped(by: Threshold, x: torch.Tensor) -> torch.Tensor:
        if method == "state":
            noise: Any = None
            time = torch.ones(())
            return by.after_step(noise, x, x, time, time, None, noise)[0]
        return by.clamped(x)

    found = made.to_plain(clamped(threshold, made.from_plain(wide)))
    torch.testing.assert_close(found, clamped(plain, wide), rtol=0.0, atol=1e-4)
    assert threshold.prepared(colours) == threshold


def test_observed_pictures_are_read_in_plain_units(colours: Dataset) -> None:
    made, raw = normalized(colours), colours.load("train").raw
    for given in (raw, colours.encode(raw)):
        torch.testing.assert_close(examples_of(given, made), made.encode(raw), rtol=0.0, atol=1e-4)


CONFIG: dict[str, Any] = {
    "name": "normalized",
    "dataset": {"name": "normalized", "dataset": "digits"},
    "network": {"name": "residual-unet", "widths": [8, 8], "depth": 1},
    "schedule": "offset-cosine",
    "training": {"steps": 4, "batch_size": 8, "precision": "fp32"},
    "sampling": {"sampler": "ddim", "steps": 3, "count": 5, "conditioners": ["threshold"]},
}


def test_an_experiment_from_training_to_files(tmp_path: Path) -> None:
    experiment = diffkit.Experiment.from_dict(CONFIG, runs=tmp_path, quiet=True)
    result = experiment.run()
    with np.load(result.run / "samples.npz", allow_pickle=False) as saved:
        on_disk = torch.from_numpy(saved["x"])
    x = experiment.sample().x
    plain = experiment.dataset.to_plain(x)
    torch.testing.assert_close(on_disk, plain, rtol=0.0, atol=1e-5)
    assert float(plain.abs().max()) <= 1.0 + 1e-5  # the threshold's range
    assert float(x.max()) > 1.0  # in units of the standard deviation
    model = diffkit.load(result.model)
    mean, std = DataStatistics.of(Digits()).mean[0], DataStatistics.of(Digits()).std[0]
    assert model.spec.scale[0] == pytest.approx(2.0 / 17.0 / std)
    assert model.spec.offset[0] == pytest.approx((1.0 / 17.0 - 1.0 - mean) / std)


def test_a_saved_model_brings_its_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = diffkit.Experiment.from_dict(CONFIG, runs=tmp_path / "runs", quiet=True)
    experiment.train()
    experiment.draw()
    experiment.record()
    saved = experiment.save(tmp_path / "model")
    assert float(experiment.sample().x.max()) > 1.0
    expected = experiment.dataset

    def unread(*_: Any) -> None:
        raise AssertionError("the data were read")

    monkeypatch.setattr(Digits, "load", unread)
    drawn = {"count": 5, "sampler": "ddim", "steps": 3, "conditioners": ["threshold"]}
    for place in (saved, experiment.folder):
        again = diffkit.Experiment.from_file(place, quiet=True)
        assert again.dataset == expected
        assert torch.equal(again.sample(**drawn).x, experiment.sample(**drawn).x)


@pytest.mark.parametrize("key", ["mean", "std"])
def test_as_many_numbers_as_channels(key: str) -> None:
    values = {"mean": (0.0,), "std": (1.0,)} | {key: (0.5, 0.5, 0.5)}
    with pytest.raises(ConfigError, match=f"{key} of the data set normalized has 3 numbers"):
        Normalized(dataset=Digits(), **values).spec()


def test_pictures_of_data_without_levels_come_in_the_units_of_the_model(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(-1.0, 0.0, (30, 1, 4, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    dataset = normalized(Array(path=str(tmp_path / "x.npy")))
    seen = torch.full((2, 1, 4, 4), 51, dtype=torch.uint8)  # -0.6 in plain units
    assert isinstance(dataset, Normalized)
    expected = (-0.6 - float(dataset.mean[0])) / float(dataset.std[0])
    torch.testing.assert_close(examples_of(seen, dataset), torch.full((2, 1, 4, 4), expected))
