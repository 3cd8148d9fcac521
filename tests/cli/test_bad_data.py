"""Data and models that cannot be used: exit status 2, one paragraph that names the thing, nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

FOLDER = """
name: own
dataset: {name: image-folder, path: images}
network: {name: unet, channels: 8, multipliers: [1, 1], heads: 2}
training: {steps: 1, batch_size: 2, precision: fp32}
sampling: {steps: 2, count: 1}
"""
ARRAY = FOLDER.replace("{name: image-folder, path: images}", "{name: array, path: data.npy}")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(path: Path, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": 3, "L": 1}[mode]
    values = np.random.default_rng(len(path.name)).integers(0, 256, (*size[::-1], channels), dtype=np.uint8)
    Image.fromarray(values.squeeze(), mode=mode if channels == 3 else None).save(path)


def corrupt(folder: Path) -> None:
    for number in range(4):
        picture(folder / "images" / f"{number}.png")
    broken = folder / "images" / "2.png"
    broken.write_bytes(broken.read_bytes()[:60])


def mixed_sizes(folder: Path) -> None:
    for number in range(6):
        picture(folder / "images" / f"{number}.png", size=(16, 8) if number % 2 else (8, 8))


def mixed_modes(folder: Path) -> None:
    for number in range(6):
        picture(folder / "images" / f"{number}.png", mode="L" if number % 2 else "RGB")


def empty(folder: Path) -> None:
    (folder / "images").mkdir()


def missing(folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    "make, said",
    [
        (corrupt, "2.png"),
        (mixed_sizes, "size:"),
        (mixed_modes, "mode:"),
        (empty, "images"),
        (missing, "images"),
    ],
)
def test_an_image_folder_that_cannot_be_used(
    diffkit_: Any, here: Path, make: Callable[[Path], None], said: str
) -> None:
    make(here)
    (here / "own.yaml").write_text(FOLDER)
    before = sorted(here.rglob("*"))
    status, out, err = diffkit_("run", "own.yaml")
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert [path for path in before if not path.exists()] == []
    assert not list(here.glob("runs/models/*/checkpoints"))


def not_finite(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    values = np.zeros(shape, dtype=np.float32)
    values[3, 0, 1, 1] = np.nan
    return values


@pytest.mark.parametrize(
    "values, said",
    [
        (not_finite((6, 1, 8, 8)), "NaN"),
        (np.zeros((6, 5), dtype=np.float32), "images (channels, height, width)"),
        (np.zeros((6, 1, 7, 8), dtype=np.uint8), "sides that 2 divides"),
        (np.array(["a", "b"]), "data.npy"),
    ],
    ids=["nan", "rank", "size", "text"],
)
def test_an_array_that_cannot_be_used(
    diffkit_: Any, here: Path, values: np.ndarray[Any, Any], said: str
) -> None:
    np.save(here / "data.npy", values)
    (here / "own.yaml").write_text(ARRAY)
    status, out, err = diffkit_("run", "own.yaml")
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_an_array_of_pickles_is_not_opened(diffkit_: Any, here: Path) -> None:
    np.save(here / "data.npy", np.array([object()]), allow_pickle=True)
    (here / "own.yaml").write_text(ARRAY)
    status, _, err = diffkit_("run", "own.yaml")
    assert status == 2
    assert "data.npy" in err


def test_a_runs_folder_that_cannot_be_written(diffkit_: Any, here: Path) -> None:
    np.save(here / "data.npy", np.zeros((6, 1, 8, 8), dtype=np.uint8))
    (here / "own.yaml").write_text(ARRAY)
    (here / "runs").write_text("in the way")
    status, out, err = diffkit_("run", "own.yaml")
    assert (status, out) == (2, "")
    assert "--runs" in err
    assert (here / "runs").read_text() == "in the way"


class TestSavedModels:
    @pytest.fixture
    def saved(self, diffkit_: Any, here: Path) -> Path:
        np.save(here / "data.npy", np.zeros((6, 1, 8, 8), dtype=np.uint8))
        (here / "own.yaml").write_text(ARRAY)
        assert diffkit_("train", "own.yaml", "--out", "kept")[0] == 0
        return here / "kept"

    def refused(self, diffkit_: Any, *arguments: str) -> str:
        status, out, err = diffkit_("sample", *arguments)
        assert (status, out) == (2, ""), err
        assert err.count("\n") == 1
        return str(err)

    def test_one_that_is_missing(self, diffkit_: Any, here: Path) -> None:
        assert "nowhere" in self.refused(diffkit_, "nowhere")

    def test_one_that_is_truncated(self, diffkit_: Any, saved: Path) -> None:
        (weights,) = saved.rglob("ema.safetensors")
        weights.write_bytes(weights.read_bytes()[:-100])
        assert "ema.safetensors" in self.refused(diffkit_, "kept")

    def test_one_whose_description_is_cut_short(self, diffkit_: Any, saved: Path) -> None:
        description = saved / "model.json"
        description.write_text(description.read_text()[:200])
        assert "model.json" in self.refused(diffkit_, "kept")

    def test_guidance_on_one_trained_without_labels(self, diffkit_: Any, saved: Path) -> None:
        assert "without labels" in self.refused(diffkit_, "kept", "--label", "1")

    def test_another_process_than_its_own(self, diffkit_: Any, saved: Path) -> None:
        said = self.refused(diffkit_, "kept", "--set", "sde=ve")
        assert "how" in said
        assert "was trained" in said
