"""A run shows what fits it: rows for classes in turn, clouds for points, the rates of a Gaussian process."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest
import torch

import diffkit
from diffkit.plots import gallery
from diffkit.sampling import SampleResult, SampleStep


def run(sde: Any, dataset: Any, label: int | None) -> tuple[SampleResult, list[SampleStep]]:
    """Six samples of one Gaussian law, the classes in turn where `label` is None."""
    steps: list[SampleStep] = []
    shape = (6, *dataset.spec().shape)
    result = diffkit.sample(
        lambda x, t: 0.5 * x, sde=sde, sampler="ddim", steps=4, shape=shape, on_step=steps.append
    )
    labels = torch.arange(6) % 3 if label is None else torch.full((6,), label)
    return attrs.evolve(result, label=labels), steps


def test_classes_in_turn_have_rows_and_the_schedule_its_name() -> None:
    sde, digits = diffkit.create("sde", "vp", schedule="cosine"), diffkit.create("dataset", "digits")
    shown = gallery.of_run(digits, sde, 0, (), *run(sde, digits, None))
    assert set(shown) == {"classes.png", "schedule.png", "forward.png", "reverse.png"}
    assert [text.get_text() for text in shown["classes.png"].axes[0].texts] == ["0", "1", "2"]
    (name,) = shown["schedule.png"].axes[0].get_legend().get_texts()
    assert name.get_text() == "vp, cosine"


@pytest.mark.parametrize("label", [-1, 2])
def test_one_class_or_none_has_no_rows(label: int) -> None:
    sde, digits = diffkit.create("sde", "flow"), diffkit.create("dataset", "digits")
    shown = gallery.of_run(digits, sde, 0, (), *run(sde, digits, label))
    assert set(shown) == {"schedule.png", "forward.png", "reverse.png"}


def test_points_turn_into_noise_as_clouds() -> None:
    sde = diffkit.create("sde", "ve", schedule={"name": "geometric", "sigma_max": 8.0})
    points = diffkit.create("dataset", "points", count=200)
    result, steps = run(sde, points, -1)
    shown = gallery.of_run(points, sde, 0, (), result, steps)
    assert set(shown) == {"schedule.png", "forward.png", "reverse.png"}
    clean, *_, noisy = (np.asarray(axes.collections[0].get_offsets()) for axes in shown["forward.png"].axes)
    real = points.encode(points.load("train").raw).numpy()
    assert clean == pytest.approx(real, abs=0.06)  # sigma is 0.01 there
    assert noisy.std() == pytest.approx(1.0, abs=0.1)  # x_t over the root of alpha^2 + sigma^2
    last = shown["reverse.png"].axes[-1]
    assert last.get_title() == "clean"
    assert np.asarray(last.collections[0].get_offsets()) == pytest.approx(result.x.numpy())


def test_a_process_that_is_not_gaussian_has_neither_schedule_nor_strips() -> None:
    digits, vp = diffkit.create("dataset", "digits"), diffkit.create("sde", "vp")
    shown: Any = gallery.of_run
    assert set(shown(digits, object(), 0, (), *run(vp, digits, None))) == {"classes.png"}
