"""Completing images from the command line and from Python, with a small model of the digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffkit

CONFIG: dict[str, Any] = {
    "name": "small",
    "dataset": "digits",
    "network": {"name": "unet", "channels": 8, "multipliers": [1, 1], "heads": 2},
    "training": {"steps": 4, "batch_size": 16, "labels": True, "precision": "fp32"},
    "sampling": {"steps": 4},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "digits"
    experiment = diffkit.Experiment.from_dict(CONFIG, runs=folder.parent / "runs", quiet=True)
    experiment.train()
    return experiment.save(folder)


def test_the_command_completes_held_out_images(model: Path, tmp_path: Path, diffkit_: Any) -> None:
    out = tmp_path / "out"
    status, said, _ = diffkit_(
        "impute", str(model), "--count", "3", "--completions", "2", "--out", str(out), "--json"
    )
    assert status == 0
    record = json.loads(said)
    assert record["count"] == 6
    assert Path(record["picture"]).stat().st_size > 1000
    with np.load(record["samples"], allow_pickle=False) as saved:
        x = torch.from_numpy(saved["x"])
    dataset = diffkit.create("dataset", "digits")
    real = dataset.encode(dataset.load("test").raw[:3])
    seen = torch.ones(8, 8, dtype=torch.bool)
    seen[2:6, 2:6] = False
    for number, completed in enumerate(x):
        assert torch.equal(completed[0, seen], real[number % 3, 0, seen])
    assert not torch.equal(x[0], x[3])


def test_images_and_masks_from_files(model: Path, tmp_path: Path, diffkit_: Any) -> None:
    dataset = diffkit.create("dataset", "digits")
    np.save(tmp_path / "images.npy", dataset.load("test").raw[:2].numpy())
    missing = np.zeros((8, 8), dtype=np.uint8)
    missing[:, :3] = 1
    np.save(tmp_path / "mask.npy", missing)
    given = ["--images", str(tmp_path / "images.npy"), "--mask", str(tmp_path / "mask.npy"), "--mask-missing"]
    more = ["--method", "particle", "--sampler", "ancestral", "--steps", "4", "--label", "3"]
    status, _, err = diffkit_("impute", str(model), *given, *more, "--out", str(tmp_path / "out"))
    assert status == 0
    assert any(line.startswith("next: another --mask") for line in err.splitlines())
    with np.load(tmp_path / "out" / "samples.npz", allow_pickle=False) as saved:
        x, label = torch.from_numpy(saved["x"]), saved["label"]
    assert label.tolist() == [3, 3]
    real = dataset.encode(dataset.load("test").raw[:2])
    assert torch.equal(x[..., 3:], real[..., 3:])
    assert not torch.equal(x[..., :3], real[..., :3])


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["--mask", "middle"], "neither a known name nor a file"),
        (["--images", "nowhere"], "no examples at nowhere"),
        (["--method", "particle"], "noisy Gaussian steps"),
        (["--label", "12"], "classes 0 to 9"),
    ],
)
def test_a_mistake_is_one_paragraph(
    model: Path, tmp_path: Path, diffkit_: Any, arguments: list[str], words: str
) -> None:
    status, out, err = diffkit_("impute", str(model), "--out", str(tmp_path / "out"), *arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert words in err
    if arguments[0] in ("--mask", "--images"):
        assert not (tmp_path / "out").exists()


def test_experiment_impute_takes_arrays_and_keeps_the_configuration_s_sampler(model: Path) -> None:
    experiment = diffkit.Experiment.from_file(model, quiet=True)
    dataset = experiment.config.dataset
    images = dataset.encode(dataset.load("test").raw[:2])
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, :4], mask[1, :, 4:] = 1.0, 1.0
    first = experiment.impute(images, mask, seed=1, steps=4)
    assert torch.equal(first.x[0, :, :4].cpu(), images[0, :, :4])
    assert torch.equal(first.x[1, :, 4:].cpu(), images[1, :, 4:])
    assert torch.equal(first.x, experiment.impute(images.numpy(), mask.numpy(), seed=1, steps=4).x)
    assert not torch.equal(first.x, experiment.impute(images, mask, seed=2, steps=4).x)


def test_a_configuration_may_ask_for_imputation(model: Path, tmp_path: Path) -> None:
    bent = {**CONFIG, "sampling": {"steps": 3, "count": 2, "conditioners": [{"name": "imputation"}]}}
    experiment = diffkit.Experiment.from_dict(bent, runs=model.parent / "runs", quiet=True)
    experiment.train()
    x = experiment.draw().x
    dataset = experiment.config.dataset
    real = dataset.encode(dataset.load("test").raw[:2])
    assert torch.equal(x[:, :, :2].cpu(), real[:, :, :2])


def test_imputing_with_a_run_that_imputes_replaces_its_conditioner(model: Path, tmp_path: Path) -> None:
    bent = {**CONFIG, "sampling": {"steps": 3, "conditioners": [{"name": "imputation", "mask": "border"}]}}
    experiment = diffkit.Experiment.from_dict(bent, runs=model.parent / "runs", quiet=True)
    experiment.train()
    plain = diffkit.Experiment.from_file(model, quiet=True)
    options: dict[str, Any] = {"count": 2, "steps": 3, "sampler": "ddim"}
    assert torch.equal(experiment.impute(**options).x, plain.impute(**options).x)


def test_classes_dealt_out_to_samples_are_not_those_of_given_images(model: Path) -> None:
    def bent_by(*conditioners: dict[str, Any], **choices: Any) -> diffkit.SampleResult:
        changed = {**CONFIG, "sampling": {"steps": 3, "conditioners": conditioners}}
        experiment = diffkit.Experiment.from_dict(changed, runs=model.parent / "runs", quiet=True)
        experiment.train()  # found
        return experiment.impute(count=3, **choices)

    for label in ("each", [4, 5]):
        dealt = {"name": "class-guidance", "label": label, "scale": 3.0}
        free = bent_by(dealt)
        assert free.label.tolist() == [-1, -1, -1]
        assert torch.equal(free.x, bent_by().x)
        asked = bent_by(dealt, label=7)
        assert asked.label.tolist() == [7, 7, 7]
        one = {"name": "class-guidance", "label": 7, "scale": 3.0}
        assert torch.equal(asked.x, bent_by(one).x)


def test_a_saved_model_is_measured_with_a_word_on_its_classes_and_a_record(
    model: Path, tmp_path: Path, diffkit_: Any
) -> None:
    line = ("evaluate", str(model), "--runs", str(tmp_path), "--set", "evaluation.count=20")
    few = ("--set", "evaluation.metrics=[fid]", "--set", "evaluation.features=pixels")
    status, said, told = diffkit_(*line, *few)
    assert status == 0
    assert "asked for none" in told
    assert "; real data " in said
    (folder,) = tmp_path.glob("digits-*")
    assert (folder / "config.yaml").is_file()
    assert (
        diffkit_(*line, *few, "--set", "sampling.conditioners=[class-guidance]")[2].count("asked for none")
        == 0
    )


def test_masks_of_each_image_go_with_it(model: Path, tmp_path: Path) -> None:
    experiment = diffkit.Experiment.from_file(model, quiet=True)
    dataset = experiment.config.dataset
    images = dataset.encode(dataset.load("test").raw[:5])
    masks = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5
    given: dict[str, Any] = {"count": 3, "completions": 2, "steps": 3, "path": tmp_path / "picture.png"}
    x = experiment.impute(images, masks, **given).x.cpu()
    for number, completed in enumerate(x):
        seen = masks[number % 3]
        assert torch.equal(completed[seen], images[number % 3][seen])
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_fields_of_the_conditioner_from_the_command_line(model: Path, tmp_path: Path, diffkit_: Any) -> None:
    arguments = ["--count", "1", "--steps", "3", "--out", str(tmp_path / "out")]
    status, _, _ = diffkit_("impute", str(model), *arguments, "--option", "guidance=pigdm")
    assert status == 0
    status, _, err = diffkit_("impute", str(model), *arguments, "--option", "guidance=none")
    assert status == 2
    assert "guidance" in err
