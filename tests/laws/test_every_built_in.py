"""Nothing built in escapes the laws: those that need files or a fit are given them here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diffkit
from diffkit.errors import ConfigError
from diffkit.registry import components, create
from diffkit.testing import check
from diffkit.testing.lawbook.partners import flat_mixture
from diffkit_standard.sdes.vp import VP

SHARED = Path(__file__).parents[3] / "shared" / "data"
BARE = {
    ("grid", "fitted"): "a grid that was never fitted serves no run",
    ("dataset", "mnist"): "without its files",
    ("dataset", "cifar10"): "without its files",
    ("dataset", "flowers102"): "without its files",
    ("dataset", "stanford-cars"): "without its files",
    ("features", "inception"): "without its weights",
}
"""Components to whose default instance no law applies."""


def judged(kind: str, spec: Any) -> dict[str, int]:
    """How many laws a component passes and how many do not apply; none may fail."""
    rows = check(kind, spec)
    assert [row for row in rows if row["status"] == "failed"] == []
    statuses = [row["status"] for row in rows]
    return {status: statuses.count(status) for status in ("passed", "not-applicable")}


def noise(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_an_array(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", noise(60, 1, 8, 8))
    assert judged("dataset", {"name": "array", "path": str(tmp_path / "x.npy")})["not-applicable"] == 0


def test_an_image_folder(tmp_path: Path) -> None:
    for number, picture in enumerate(noise(60, 8, 8, 3)):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number}.png")
    assert judged("dataset", {"name": "image-folder", "path": str(tmp_path)})["not-applicable"] == 0


def test_a_fitted_grid() -> None:
    sde = VP()
    grid = diffkit.fit_grid(
        flat_mixture(3).model(sde), sampler="ddim", steps=8, shape=(3,), count=2, trials=5
    )
    found = judged("grid", grid)
    assert found == {"passed": 4, "not-applicable": 1}


@pytest.mark.prove
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_real_images(name: str) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} is not there")
    assert judged("dataset", {"name": name, "root": str(SHARED / name)})["not-applicable"] == 0


@pytest.mark.prove
def test_every_default_instance_passes() -> None:
    silent = set()
    for info in components():
        if info.distribution not in ("diffkit", "diffkit-energy"):
            continue
        try:
            component = create(info.kind, info.identity)
        except ConfigError:  # a field without a default
            continue
        if judged(info.kind, component)["passed"] == 0:
            silent.add((info.kind, info.name))
    assert silent <= set(BARE)
