"""Stanford Cars as torchvision lays it out, made here in small, and as plain photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from diffkit.errors import DataError
from diffkit.interfaces.dataset import SplitName
from diffkit_standard.datasets.stanford_cars import StanfordCars

SPLITS: tuple[SplitName, ...] = ("train", "test")
CLASSES = {"train": [3, 1, 196], "test": [2, 2]}
"""As the files have them, counted from 1."""


def photograph(path: Path, red: int, size: tuple[int, int] = (24, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (red, 100, 200)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The authors' archive in small: the red of a photograph is its number in the split."""
    base = tmp_path / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    for split, classes in CLASSES.items():
        for number in range(len(classes)):
            photograph(base / f"cars_{split}" / f"{number:05}.jpg", 40 * number)
        table = np.zeros((1, len(classes)), dtype=[("class", object), ("fname", object)])
        for number, label in enumerate(classes):
            table[0, number] = (np.array([[label]], dtype=np.uint8), f"{number:05}.jpg")
        name = "devkit/cars_train_annos.mat" if split == "train" else "cars_test_annos_withlabels.mat"
        savemat(base / name, {"annotations": table})
    names = np.array([[f"make {number}" for number in range(196)]], dtype=object)
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": names})
    return tmp_path


@pytest.mark.parametrize("split", SPLITS)
def test_it_is_read_as_torchvision_reads_it(root: Path, split: SplitName) -> None:
    examples = StanfordCars(root=str(root), size=(16, 24)).load(split)
    peer = datasets.StanfordCars(root, split=split)
    assert examples.label is not None
    assert examples.label.tolist() == [label for _, label in peer] == [n - 1 for n in CLASSES[split]]
    pixels = np.stack([np.asarray(picture) for picture, _ in peer]).transpose(0, 3, 1, 2)
    assert np.array_equal(examples.raw.numpy(), pixels)


def test_the_specification_needs_no_file(root: Path, tmp_path: Path) -> None:
    spec = StanfordCars(root=str(tmp_path / "nowhere")).spec()
    assert (spec.shape, spec.classes, spec.levels) == ((3, 64, 64), 196, 256)
    assert StanfordCars(root=str(root)).spec() == spec
    assert StanfordCars(root=str(root)).load("train").raw.shape == (3, 3, 64, 64)


def test_without_annotations_theirs_are_data_without_labels(root: Path) -> None:
    base = root / "stanford_cars"
    for file in (base / "devkit").iterdir():
        file.unlink()
    (base / "devkit").rmdir()
    cars = StanfordCars(root=str(root), size=8)
    assert cars.spec().classes is None
    train, test = cars.load("train"), cars.load("test")
    assert len(train) + len(test) == 3  # those of cars_train
    assert train.label is None


def test_plain_folders_do(tmp_path: Path) -> None:
    for number in range(12):
        photograph(tmp_path / "stanford_cars" / ("old", "new")[number % 2] / f"{number}.png", number, (9, 9))
    cars = StanfordCars(root=str(tmp_path), size=4)
    assert cars.spec().names == ("new", "old")
    train, test = cars.load("train"), cars.load("test")
    assert len(train) + len(test) == 12
    assert train.label is not None
    assert torch.equal(train.raw[:, 0, 0, 0] % 2 == 0, train.label == 1)


def test_what_is_missing_names_both_layouts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"stanford_cars.*cars_train.*folders of photographs") as error:
        StanfordCars(root=str(tmp_path)).load("train")
    assert str(tmp_path) in str(error.value)


def test_a_photograph_that_is_not_there_is_named(root: Path) -> None:
    (root / "stanford_cars" / "cars_test" / "00001.jpg").unlink()
    with pytest.raises(DataError, match=r"00001\.jpg, which is not there"):
        StanfordCars(root=str(root)).load("test")


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file, of which there is no more"])
def test_damaged_annotations_are_named(root: Path, content: bytes) -> None:
    (root / "stanford_cars" / "devkit" / "cars_train_annos.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"cars_train_annos\.mat cannot be read"):
        StanfordCars(root=str(root)).load("train")
