"""What imputation takes as images and masks, and what it refuses, each in its own words."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import diffkit
from diffkit.errors import DataError, IncompatibleError, InputError
from diffkit.registry import create
from diffkit.testing.exact import LabelledModel
from diffkit.testing.lawbook.partners import flat_mixture
from diffkit_standard.conditioners._observed import examples_of
from diffkit_standard.operators._masks import mask_for

DIGITS = create("dataset", "digits")
SHAPE = (1, 8, 8)
RAW = DIGITS.load("test").raw[:3]
ENCODED = DIGITS.encode(RAW)


def mask_named(name: str) -> Tensor:
    return mask_for(name, SHAPE)[0, 0]


def test_named_masks_hide_what_they_are_called() -> None:
    centre = mask_named("centre")
    assert not centre[2:6, 2:6].any()
    assert int(centre.sum()) == 64 - 16
    assert torch.equal(mask_named("border"), ~centre)
    assert torch.equal(mask_named("left-half"), torch.arange(8).expand(8, 8) >= 4)
    assert int(mask_named("random:0.25").sum()) == 48
    assert not torch.equal(mask_named("random:0.5"), mask_named("random:0.5:1"))
    assert torch.equal(mask_named("random:0.5"), mask_named("random:0.5:0"))
    colour = mask_for("random:0.5", (3, 8, 8))[0]
    assert torch.equal(colour[0], colour[1])
    assert torch.equal(mask_for("centre", (4,))[0], torch.tensor([True, False, False, True]))


@pytest.mark.parametrize("size", [(8, 8), (1, 8, 8), (1, 1, 8, 8), (3, 8, 8), (3, 1, 8, 8)])
def test_a_mask_is_one_for_all_or_one_each(size: tuple[int, ...]) -> None:
    mask = torch.rand(size, generator=torch.Generator().manual_seed(0)) > 0.5
    found = mask_for(mask, SHAPE)
    assert found.shape == ((3 if size[0] == 3 else 1), *SHAPE)
    assert torch.equal(found.flatten(), mask.flatten())


def test_masks_and_images_from_files(tmp_path: Path) -> None:
    mask = mask_named("left-half")
    Image.fromarray(255 * mask.byte().numpy()).save(tmp_path / "mask.png")
    np.save(tmp_path / "mask.npy", mask.numpy())
    for name in ("mask.png", "mask.npy"):
        assert torch.equal(mask_for(tmp_path / name, SHAPE)[0, 0], mask)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, raw in enumerate(RAW):
        levels = (raw[0].double() * 255 / 16).round().byte().numpy()
        Image.fromarray(levels).save(folder / f"{number}.png")
    np.save(tmp_path / "raw.npy", RAW.numpy())
    np.save(tmp_path / "encoded.npy", ENCODED.numpy())
    for given in (folder, tmp_path / "raw.npy", tmp_path / "encoded.npy", RAW, ENCODED.numpy()):
        torch.testing.assert_close(examples_of(given, DIGITS), ENCODED, rtol=0.0, atol=2.0 / 17 / 16 + 1e-6)
    assert torch.equal(examples_of("held-out", DIGITS)[:3], ENCODED)
    torch.testing.assert_close(examples_of(RAW.movedim(1, -1), DIGITS), ENCODED)
    torch.testing.assert_close(examples_of(RAW[0, 0], DIGITS), ENCODED[:1])


@pytest.mark.parametrize(
    "mask,words",
    [
        (torch.ones(7, 8), r"the mask has the shape \(7, 8\).*\(1, 8, 8\)"),
        (torch.full((8, 8), 0.5), "the value 0.5.*binary"),
        ("center", "'center' is neither a known name nor a file.*centre"),
        ("random:1.5", "names no share"),
        ("random:half", "names no share"),
    ],
)
def test_a_wrong_mask_is_refused(mask: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        create("conditioner", "imputation", mask=mask).prepared(DIGITS)


@pytest.mark.parametrize(
    "images,words",
    [
        (torch.full((1, *SHAPE), 300), "values from 300 to 300.*0, 255.*0 to 16"),
        (torch.full((1, *SHAPE), -1.5), r"from -1.5 to -1.5.*\[-1, 1\]"),
        (torch.full((1, *SHAPE), torch.nan), "48 value.*NaN"),
        (torch.zeros(2, 1, 9, 9), r"shape \(2, 1, 9, 9\).*\(1, 8, 8\)"),
        ("nowhere", "there are no examples at nowhere"),
        ("nowhere.npy", "no file nowhere.npy"),
    ],
)
def test_wrong_images_are_refused(images: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        create("conditioner", "imputation", observed=images).prepared(DIGITS)


@pytest.mark.parametrize(
    "mask,words", [(torch.zeros(8, 8), "every element"), (torch.ones(8, 8), "no element")]
)
def test_an_empty_or_full_mask_is_allowed_and_said(
    mask: Tensor, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="diffkit"):
        create("conditioner", "imputation", mask=mask).prepared(DIGITS)
    assert words in caplog.text


def test_values_between_nought_and_one_are_asked_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="diffkit"):
        examples_of(torch.linspace(0.0, 1.0, 64).reshape(1, *SHAPE), DIGITS)
    assert "scale from -1" in caplog.text


def test_restoration_measures_the_held_out_examples_itself() -> None:
    conditioner = create(
        "conditioner", "restoration", operator={"name": "super-resolution", "factor": 2}, noise=0.1
    ).prepared(DIGITS)
    clean = DIGITS.encode(DIGITS.load("test").raw)
    error = conditioner.observed - conditioner.operator.apply(clean)
    assert float(error.std()) == pytest.approx(0.1, rel=0.02)


SDE = create("sde", "vp")
MODEL = LabelledModel(problem=flat_mixture(64), sde=SDE)
OBSERVED = torch.zeros(SHAPE)


def sampled(sampler: Any, **fields: Any) -> None:
    conditioner = create("conditioner", "imputation", observed=OBSERVED, **fields)
    diffkit.sample(MODEL, sampler=sampler, steps=3, shape=(1, *SHAPE), conditioners=[conditioner])


@pytest.mark.parametrize("method", ["replacement", "repaint", "reconstruction", "particle"])
def test_adaptive_steps_are_refused(method: str) -> None:
    calls = MODEL.passes
    with pytest.raises(IncompatibleError, match=r"chooses steps of its own.*fixed steps"):
        sampled({"name": "probability-flow", "method": "rk45"}, method=method)
    assert MODEL.passes == calls


def test_particles_need_noisy_gaussian_steps() -> None:
    with pytest.raises(IncompatibleError, match=r"noisy Gaussian steps.*ancestral"):
        sampled("ddim", method="particle")


def test_noise_cannot_be_imposed() -> None:
    with pytest.raises(InputError, match="imposes what has no noise"):
        create("conditioner", "restoration", method="replacement", noise=0.1)


def test_what_was_observed_must_fit_the_samples() -> None:
    with pytest.raises(DataError, match=r"what was observed has the shape \(1, 9\)"):
        diffkit.sample(
            MODEL,
            steps=2,
            shape=(1, *SHAPE),
            conditioners=[create("conditioner", "imputation", observed=torch.zeros(1, 9))],
        )
    with pytest.raises(DataError, match="no data set is at hand"):
        diffkit.sample(MODEL, steps=2, shape=(1, *SHAPE), conditioners=["imputation"])


def test_what_the_mask_hides_may_be_missing() -> None:
    images = ENCODED.clone()
    images[:, :, 2:6, 2:6] = torch.nan
    prepared = create("conditioner", "imputation", observed=images).prepared(DIGITS)
    seen = prepared.mask.expand_as(ENCODED)
    assert torch.equal(prepared.observed[seen], ENCODED[seen])


def test_whole_numbers_in_floating_point_are_levels() -> None:
    assert torch.equal(examples_of(RAW.double().numpy(), DIGITS), ENCODED)


def test_as_many_masks_as_examples() -> None:
    masks = torch.ones(2, *SHAPE)
    with pytest.raises(DataError, match="2 masks and 3 examples"):
        create("conditioner", "imputation", observed=RAW, mask=masks).prepared(DIGITS)
    operator = create("operator", "in-painting", mask=masks)
    with pytest.raises(DataError, match=r"given 2 masks.*`imputation`"):
        create("conditioner", "restoration", observed=ENCODED, operator=operator).prepared(DIGITS)


def test_a_noisy_measurement_may_leave_the_range_as_far_as_its_noise_goes() -> None:
    y = torch.linspace(-2.4, 2.4, 64).reshape(1, 1, 8, 8)
    kept = create("conditioner", {"name": "restoration", "observed": y, "noise": 0.25})
    assert torch.equal(kept.prepared(create("dataset", "digits")).observed, y)
    for noise in (0.0, 0.2):
        refused = attrs.evolve(kept, noise=noise)
        with pytest.raises(DataError, match=r"from -2\.4 to 2\.4"):
            refused.prepared(create("dataset", "digits"))


def test_a_picture_is_restored_at_the_size_it_was_measured(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 255, dtype=np.uint8)).save(tmp_path / "small.png")
    conditioner = create(
        "conditioner",
        "restoration",
        operator={"name": "super-resolution", "factor": 2},
        observed=tmp_path / "small.png",
    ).prepared(DIGITS)
    white = DIGITS.encode(torch.full((1, 1, 4, 4), 16, dtype=torch.uint8))
    torch.testing.assert_close(conditioner.observed, white)
    with pytest.raises(DataError, match=r"shape \(1, 1, 8, 8\).*\(1, 4, 4\)"):
        create(
            "conditioner", "restoration", operator={"name": "super-resolution", "factor": 2}, observed=RAW[:1]
        ).prepared(DIGITS)


def test_only_the_pictures_of_a_folder_are_read(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(DataError, match="holds no pictures"):
        examples_of(tmp_path, DIGITS)
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "a.png")
    assert len(examples_of(tmp_path, DIGITS)) == 1


@pytest.mark.parametrize(
    "conditioner,words",
    [
        ({"name": "imputation", "mask": "middle"}, "neither a known name nor a file"),
        ({"name": "imputation", "observed": "nowhere.png"}, "no examples at nowhere.png"),
        ({"name": "restoration", "operator": "grey"}, "have no three colours"),
    ],
)
def test_what_does_not_fit_is_refused_before_data_are_read(conditioner: dict[str, Any], words: str) -> None:
    config = {"name": "small", "dataset": "digits", "sampling": {"conditioners": [conditioner]}}
    with pytest.raises(IncompatibleError, match=words):
        diffkit.Experiment.from_dict(config)


def test_two_arrays_make_two_runs(tmp_path: Path) -> None:
    folders = {
        diffkit.Experiment.from_dict(
            {
                "name": "small",
                "dataset": "digits",
                "sampling": {"conditioners": [create("conditioner", "imputation", observed=observed)]},
            },
            runs=tmp_path,
        ).folder
        for observed in (ENCODED[:1], ENCODED[1:2], ENCODED[:1].clone())
    }
    assert len(folders) == 2
