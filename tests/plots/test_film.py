"""The film of a sampling run: how much of it is kept, whatever the size of the samples."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

import diffkit
from diffkit.plots import film
from diffkit.sampling import SampleStep


def dataset(*shape: int) -> Any:
    spec = SimpleNamespace(shape=shape, image=len(shape) == 3)
    return SimpleNamespace(spec=lambda: spec, picture=lambda x: ((x + 1) / 2).clamp(0, 1))


def steps(moves: int, *shape: int, count: int = 20) -> list[SampleStep]:
    """What is kept of a run of so many moves over `count` samples of noise."""
    sde = diffkit.create("sde", "vp")
    times = [*torch.linspace(sde.t_max, sde.t_min, moves, dtype=torch.float64), None]
    index = torch.arange(count)
    x = torch.rand(count, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    made = [
        SampleStep(number=n, total=moves, t=None, s=s, x=x, calls=torch.zeros(count), index=index)
        for n, s in enumerate(times)
    ]
    kept = [each for step in made for each in film.kept(step, image=len(shape) == 3)]
    assert {len(step.x) for step in kept} == {min(count, 16) if len(shape) == 3 else count}
    return kept


@pytest.mark.parametrize(
    "shape,frames,pictures",
    [
        ((1, 8, 8), 31, 16),
        ((3, 32, 32), 31, 12),
        ((3, 64, 64), 31, 3),
        ((3, 128, 128), 12, 2),
        ((3, 256, 256), 10, 1),
    ],
)
def test_the_film_fits_the_page(tmp_path: Path, shape: tuple[int, ...], frames: int, pictures: int) -> None:
    kept = steps(100, *shape)
    assert [kept[0].number, kept[-1].number, len(kept)] == [0, 100, 31]
    path = tmp_path / "frames.png"
    film.write(dataset(*shape), diffkit.create("sde", "vp"), kept, path)
    assert path.stat().st_size < 2_200_000
    with Image.open(path) as picture:
        captions = json.loads(picture.info["captions"])
        assert (len(captions), captions[-1]) == (frames, "clean")
        rows, columns = -(-pictures // 8), min(8, pictures)
        side = shape[-1] + 1
        lone = 0 if pictures == 1 else 1  # torchvision puts no border around a single picture
        assert picture.size == (
            columns * side + lone - (not lone),
            frames * (rows * side + lone - (not lone)),
        )


def test_a_short_run_is_kept_whole() -> None:
    assert [step.number for step in steps(4, 1, 8, 8)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("shape", [(2,), (3, 512, 512)])
def test_what_is_no_picture_or_huge_has_no_film(tmp_path: Path, shape: tuple[int, ...]) -> None:
    kept = steps(3, *shape, count=2)
    film.write(dataset(*shape), diffkit.create("sde", "vp"), kept, tmp_path / "frames.png")
    assert not list(tmp_path.iterdir())
