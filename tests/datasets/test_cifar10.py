"""CIFAR-10 as image files made here, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffkit.errors import DataError
from diffkit_standard.datasets.cifar10 import CIFAR10

REAL = Path(__file__).parents[3] / "shared" / "data" / "cifar10"
NAMES = CIFAR10().spec().names


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two images a class and split; the red value is the class, the green one the split."""
    for green, split in enumerate(("train", "test")):
        for red, name in enumerate(NAMES):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(2):
                pixels = np.full((32, 32, 3), (red, green, number), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def test_image_files_are_read_class_by_class(root: Path) -> None:
    for green, split in enumerate(("train", "test")):
        examples = CIFAR10(root=str(root)).load("train" if split == "train" else "test")
        assert examples.label is not None
        assert examples.raw.shape == (20, 3, 32, 32)
        assert examples.raw[:, 0, 0, 0].tolist() == examples.label.tolist()
        assert set(examples.raw[:, 1, 0, 0].tolist()) == {green}


def test_one_class_is_data_without_labels(root: Path) -> None:
    ship = CIFAR10(root=str(root), classes=("ship",))
    examples = ship.load("train")
    assert examples.label is None
    assert set(examples.raw[:, 0, 0, 0].tolist()) == {NAMES.index("ship")}
    assert ship.spec().classes is None
    assert ship.spec().shape == (3, 32, 32)
    assert ship.unrestricted() == CIFAR10(root=str(root))


def test_kept_classes_keep_the_order_given(root: Path) -> None:
    some = CIFAR10(root=str(root), classes=("truck", "cat"), size=16)
    examples = some.load("test")
    assert examples.label is not None
    assert [some.spec().names[number] for number in examples.label] == ["truck", "truck", "cat", "cat"]
    assert examples.raw[:, 0, 0, 0].tolist() == [9, 9, 3, 3]
    assert some.spec().shape == (3, 16, 16) == tuple(examples.raw.shape[1:])


def test_missing_data_name_both_layouts_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cifar-10-batches-py.*train/<class>.*download: true") as error:
        CIFAR10(root=str(tmp_path), classes=("ship",)).load("train")
    assert str(tmp_path) in str(error.value)


def test_batches_with_a_wrong_checksum_are_never_unpickled(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ["batches.meta", "test_batch", *(f"data_batch_{number}" for number in range(1, 6))]:
        (folder / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(DataError, match="corrupted"):
        CIFAR10(root=str(tmp_path)).load("test")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real CIFAR-10 images are not beside the checkout")
def test_the_real_files() -> None:
    ships = CIFAR10(root=str(REAL), classes=("ship",)).load("test")
    assert ships.raw.shape == (1000, 3, 32, 32)
    assert 100 < ships.raw.float().mean() < 160
