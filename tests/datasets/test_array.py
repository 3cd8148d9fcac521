"""NumPy files: layouts, ranges, labels, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffkit.errors import DataError
from diffkit_standard.datasets.array import Array

RNG = np.random.default_rng(0)


def array(folder: Path, x: Any, **fields: Any) -> Array:
    np.save(folder / "x.npy", x)
    return Array(path=str(folder / "x.npy"), **fields)


def pixels(*shape: int) -> Any:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_channels_first(tmp_path: Path, channels: int) -> None:
    x = pixels(20, channels, 5, 6)
    dataset = array(tmp_path, x, test_share=0.0)
    assert (dataset.spec().shape, dataset.spec().levels) == ((channels, 5, 6), 256)
    assert np.array_equal(dataset.load("train").raw.numpy(), x)


def test_images_channels_last_are_moved_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    x = pixels(20, 5, 6, 3)
    dataset = array(tmp_path, x, test_share=0.0)
    with caplog.at_level(logging.INFO, logger="diffkit"):
        assert dataset.spec().shape == (3, 5, 6)
    assert "channels" in caplog.text
    assert np.array_equal(dataset.load("train").raw.numpy(), x.transpose(0, 3, 1, 2))


def test_grey_images_without_a_channel_axis(tmp_path: Path) -> None:
    assert array(tmp_path, pixels(20, 5, 6)).spec().shape == (1, 5, 6)
    floats = array(tmp_path, RNG.random((20, 5, 6)), layout="grey", test_share=0.0)
    assert floats.load("train").raw.shape == (20, 1, 5, 6)
    assert (floats.spec().scale, floats.spec().offset) == ((2.0,), (-1.0,))


@pytest.mark.parametrize("shape", [(9, 3, 5, 3), (9, 5, 6, 4), (9, 4, 8, 8)])
def test_ambiguous_layouts_are_refused_until_stated(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = pixels(*shape)
    with pytest.raises(DataError, match="layout: channels-first"):
        array(tmp_path, x).spec()
    assert array(tmp_path, x, layout="channels-first").spec().shape == shape[1:]
    assert array(tmp_path, x, layout="channels-last").spec().shape == (shape[3], shape[1], shape[2])


@pytest.mark.parametrize("shape", [(30, 2), (30, 2, 16), (30, 2, 3, 4, 5)])
def test_continuous_data_of_any_rank_stay_as_they_are(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = 10.0 * RNG.standard_normal(shape)
    dataset = array(tmp_path, x, test_share=0.0)
    spec, raw = dataset.spec(), dataset.load("train").raw
    assert (spec.shape, spec.levels, spec.scale, spec.offset) == (shape[1:], None, (1.0,), (0.0,))
    assert np.array_equal(raw.numpy(), x)
    torch.testing.assert_close(dataset.decode(dataset.encode(raw)), raw.to(torch.float32))


@pytest.mark.parametrize(
    "low, high, fields",
    [(0.0, 1.0, {}), (-1.0, 1.0, {}), (0.0, 255.0, {"range": (0.0, 255.0)}), (-4.0, 6.0, {"range": (-4, 6)})],
)
def test_floating_point_images_are_brought_to_minus_one_and_one(
    tmp_path: Path, low: float, high: float, fields: dict[str, Any]
) -> None:
    x = np.linspace(low, high, 20 * 16, dtype=np.float32).reshape(20, 1, 4, 4)
    dataset = array(tmp_path, x, test_share=0.0, **fields)
    encoded = dataset.encode(dataset.load("train").raw)
    expected = torch.linspace(-1.0, 1.0, 20 * 16).reshape(20, 1, 4, 4)
    torch.testing.assert_close(encoded, expected, rtol=0, atol=1e-6)
    assert dataset.spec().levels is None


def test_floating_point_images_of_an_unknown_range_are_refused(tmp_path: Path) -> None:
    x = np.full((9, 1, 4, 4), 200.0)
    with pytest.raises(DataError, match="range:"):
        array(tmp_path, x).spec()
    with pytest.raises(DataError, match=r"values from 200"):
        array(tmp_path, x, range=(0.0, 100.0)).load("train")
    assert array(tmp_path, x, range=None).spec().scale == (1.0,)


@pytest.mark.parametrize("bounds", [(1.0, 0.0), (0.0,), (0.0, float("nan"))])
def test_an_impossible_range_is_refused(bounds: Any) -> None:
    with pytest.raises(ValueError, match="range"):
        Array(path="x.npy", range=bounds)


def test_other_integers_serve_if_they_are_bytes(tmp_path: Path) -> None:
    x = pixels(20, 1, 4, 4).astype(np.int64)
    raw = array(tmp_path, x, test_share=0.0).load("train").raw
    assert raw.dtype == torch.uint8
    assert np.array_equal(raw.numpy(), x)
    for value in (-1, 256):
        x[3, 0, 1, 2] = value
        with pytest.raises(DataError, match=rf"values from .*{value}.*0 to 255"):
            array(tmp_path, x).load("train")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(5000, 2), (50, 1, 4, 4)])
def test_numbers_that_are_not_finite_are_counted_and_placed(
    tmp_path: Path, value: float, shape: tuple[int, ...]
) -> None:
    x = np.zeros(shape)
    place = (shape[0] - 2, *(size - 1 for size in shape[1:]))
    x[place] = x[-1].flat[0] = value
    x[-1].flat[0] = value
    with pytest.raises(DataError, match=r"2 value\(s\)") as error:
        array(tmp_path, x).load("train")
    assert str(place) in str(error.value)


def test_labels_are_the_classes(tmp_path: Path) -> None:
    x, label = pixels(20, 1, 4, 4), np.arange(20) % 3
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=x, label=label.astype(np.int32))
    dataset = Array(path=str(path), test_share=0.25)
    assert dataset.spec().classes == 3
    parts = [dataset.load("train"), dataset.load("test")]
    assert sum(map(len, parts)) == 20
    numbers = {image.tobytes(): int(number) for image, number in zip(x, label, strict=True)}
    for part in parts:
        assert part.label is not None
        assert part.label.dtype == torch.int64
        assert [numbers[image.numpy().tobytes()] for image in part.raw] == part.label.tolist()


@pytest.mark.parametrize("label", [np.arange(19), np.arange(20) - 1, np.linspace(0, 1, 20)])
def test_impossible_labels_are_refused(tmp_path: Path, label: Any) -> None:
    np.savez(tmp_path / "x.npz", x=pixels(20, 1, 4, 4), label=label)
    with pytest.raises(DataError, match="label"):
        Array(path=str(tmp_path / "x.npz")).spec()


def test_appending_examples_moves_none_to_the_other_side(tmp_path: Path) -> None:
    x = np.arange(200.0).reshape(200, 1)
    before = set(array(tmp_path, x[:120]).load("test").raw.flatten().tolist())
    after = set(array(tmp_path, x).load("test").raw.flatten().tolist())
    assert before == {value for value in after if value < 120}
    assert 8 < len(after) < 35


@pytest.mark.parametrize("x", [np.zeros(5), np.float64(3.0), np.zeros((0, 3)), np.zeros((4, 0))])
def test_shapes_without_examples_are_refused(tmp_path: Path, x: Any) -> None:
    with pytest.raises(DataError, match="shape"):
        array(tmp_path, x).spec()


@pytest.mark.parametrize(
    "x", [np.array([["a", "b"]]), np.zeros((3, 4), dtype=complex), np.zeros((3, 4), bool)]
)
def test_other_types_are_refused(tmp_path: Path, x: Any) -> None:
    with pytest.raises(DataError, match="type"):
        array(tmp_path, x).spec()


def test_pickled_objects_are_refused_unread(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    np.save(tmp_path / "x.npy", np.array([[Trap(), Trap()]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="type object"):
        Array(path=str(tmp_path / "x.npy")).load("train")
    np.savez(tmp_path / "x.npz", x=pixels(5, 2), label=np.array([Trap()] * 5, dtype=object))
    with pytest.raises(DataError, match="cannot be read"):
        Array(path=str(tmp_path / "x.npz")).load("train")
    assert not (tmp_path / "sprung").exists()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    dataset = array(tmp_path, pixels(50, 1, 8, 8))
    path = tmp_path / "x.npy"
    whole = path.read_bytes()
    for content in (b"", whole[:20], whole[:1000], b"text"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.npy cannot be read"):
            Array(path=dataset.path).load("train")
    np.savez(tmp_path / "y.npz", y=pixels(5, 2))
    with pytest.raises(DataError, match=r"an array `x`"):
        Array(path=str(tmp_path / "y.npz")).spec()
    with pytest.raises(DataError, match="there is no file"):
        Array(path=str(tmp_path / "z.npy")).spec()


def test_the_header_is_enough_for_spec_and_for_the_memory_limit(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 3, 1000, 1000)}
        )
    dataset = Array(path=str(path))
    assert dataset.spec().shape == (3, 1000, 1000)
    with pytest.raises(DataError, match="GiB"):
        dataset.load("train")
