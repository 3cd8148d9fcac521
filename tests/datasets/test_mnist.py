"""MNIST from idx files made here, and from the real ones where they are."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from diffkit.errors import DataError
from diffkit_standard.datasets.mnist import MNIST

REAL = Path(__file__).parents[3] / "shared" / "data" / "mnist"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Forty training and twenty test images whose first pixel is their label."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", 40), ("t10k", 20)):
        label = np.arange(count, dtype=np.uint8) % 10
        images = np.zeros((count, 28, 28), dtype=np.uint8)
        images[:, 0, 0] = label
        header = struct.pack(">IIII", 0x00000803, count, 28, 28)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 0x00000801, count) + label.tobytes()
        )
    return tmp_path


def test_both_splits_are_read(root: Path) -> None:
    train, test = (MNIST(root=str(root)).load(split) for split in ("train", "test"))
    assert train.raw.shape == (40, 1, 28, 28)
    assert len(test) == 20
    assert train.label is not None
    assert torch.equal(train.raw[:, 0, 0, 0].long(), train.label)
    assert MNIST(root=str(root)).spec().classes == 10


def test_one_class_is_data_without_labels(root: Path) -> None:
    three = MNIST(root=str(root), classes=(3,))
    examples = three.load("train")
    assert examples.label is None
    assert examples.raw[:, 0, 0, 0].tolist() == [3, 3, 3, 3]
    assert three.spec().classes is None
    assert three.unrestricted().spec().classes == 10


def test_kept_classes_are_renumbered_in_the_order_given(root: Path) -> None:
    some = MNIST(root=str(root), classes=(7, "2"))
    examples = some.load("test")
    assert examples.label is not None
    assert (some.spec().classes, some.spec().names) == (2, ("7", "2"))
    names = [some.spec().names[number] for number in examples.label]
    assert names == [str(int(image[0, 0, 0])) for image in examples.raw]


@pytest.mark.parametrize("classes", [(11,), (), (3, 3), ("three",)])
def test_impossible_classes_are_refused(classes: tuple[int | str, ...]) -> None:
    with pytest.raises(ValueError, match="classes"):
        MNIST(classes=classes)


def test_size_resizes(root: Path) -> None:
    dataset = MNIST(root=str(root), size=16)
    assert dataset.spec().shape == (1, 16, 16) == tuple(dataset.load("test").raw.shape[1:])


def test_missing_files_name_the_place_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"MNIST/raw.*download: true") as error:
        MNIST(root=str(tmp_path)).load("train")
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_a_truncated_file_is_refused(root: Path, keep: int) -> None:
    path = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="cannot be read"):
        MNIST(root=str(root)).load("train")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real MNIST files are not beside the checkout")
def test_the_real_files() -> None:
    three = MNIST(root=str(REAL), classes=(3,))
    train, test = three.load("train"), three.load("test")
    assert (len(train), len(test)) == (6131, 1010)
    assert train.raw.dtype == torch.uint8
    assert 25 < train.raw.float().mean() < 45
