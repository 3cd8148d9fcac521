"""Oxford Flowers 102 as torchvision lays it out, made here in small, and as plain photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from diffkit.errors import DataError
from diffkit_standard.datasets.flowers102 import Flowers102

LABELS = [5, 1, 102, 7, 7, 9, 30, 11]
PARTS = {"trnid": [2, 4], "valid": [8, 1], "tstid": [3, 5, 6, 7]}
"""As the files have them: classes, and photographs of each part, counted from 1."""


def photograph(path: Path, red: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 16), (red, 100, 200)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The authors' archive in small: the red of a photograph is thirty times its number."""
    base = tmp_path / "flowers-102"
    for number in range(1, len(LABELS) + 1):
        photograph(base / "jpg" / f"image_{number:05}.jpg", 30 * number)
    savemat(base / "imagelabels.mat", {"labels": np.array([LABELS], dtype=np.uint8)})
    savemat(base / "setid.mat", {name: np.array([numbers]) for name, numbers in PARTS.items()})
    return tmp_path


def test_it_is_read_as_torchvision_reads_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.flowers102.check_integrity", lambda *_: True)
    peers = [datasets.Flowers102(root, split=split) for split in ("train", "val")]
    examples = Flowers102(root=str(root), size=(16, 24)).load("train")
    assert examples.label is not None
    assert examples.label.tolist() == [label for peer in peers for _, label in peer] == [0, 6, 10, 4]
    pixels = np.stack([np.asarray(picture) for peer in peers for picture, _ in peer])
    assert np.array_equal(examples.raw.numpy(), pixels.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    "train_on, train, test",
    [
        (("train", "val"), [2, 4, 8, 1], [3, 5, 6, 7]),
        (("train", "test"), [2, 4, 3, 5, 6, 7], [8, 1]),
        (("test",), [3, 5, 6, 7], [2, 4, 8, 1]),
    ],
)
def test_the_parts_to_train_on_are_chosen_and_the_rest_is_held_out(
    root: Path, train_on: Any, train: list[int], test: list[int]
) -> None:
    flowers = Flowers102(root=str(root), train_on=train_on, size=8)
    for split, numbers in (("train", train), ("test", test)):
        examples = flowers.load("train" if split == "train" else "test")
        red = examples.raw[:, 0, 4, 4].float()
        assert (red / 30.0).round().int().tolist() == numbers
        assert examples.label is not None
        assert examples.label.tolist() == [LABELS[number - 1] - 1 for number in numbers]


@pytest.mark.parametrize("train_on", [(), ("train", "val", "test"), ("val", "val"), ("all",)])
def test_impossible_parts_are_refused(train_on: Any) -> None:
    with pytest.raises(ValueError, match="train_on"):
        Flowers102(train_on=train_on)


def test_the_specification_needs_no_file(root: Path, tmp_path: Path) -> None:
    spec = Flowers102(root=str(tmp_path / "nowhere")).spec()
    assert (spec.shape, spec.classes, spec.levels) == ((3, 64, 64), 102, 256)
    assert Flowers102(root=str(root)).spec() == spec


def test_photographs_without_the_two_files_are_data_without_labels(root: Path) -> None:
    for name in ("imagelabels.mat", "setid.mat"):
        (root / "flowers-102" / name).unlink()
    flowers = Flowers102(root=str(root), size=8)
    assert flowers.spec().classes is None
    assert len(flowers.load("train")) + len(flowers.load("test")) == len(LABELS)


def test_what_is_missing_names_both_layouts_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"setid\.mat.*folders of photographs.*download: true") as error:
        Flowers102(root=str(tmp_path)).load("train")
    assert str(tmp_path) in str(error.value)


def test_a_download_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.Flowers102, "download", unreachable)
    with pytest.raises(DataError, match="no route to host"):
        Flowers102(root=str(tmp_path), download=True).load("train")


def test_annotations_of_a_class_that_does_not_exist_are_refused(root: Path) -> None:
    savemat(root / "flowers-102" / "imagelabels.mat", {"labels": np.array([[0] * 8])})
    with pytest.raises(DataError, match=r"name the class 0.*1 to 102"):
        Flowers102(root=str(root)).load("train")
