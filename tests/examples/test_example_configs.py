"""Every configuration that ships is understood and fits together, before any data are there."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

import diffkit

CONFIGS = Path(__file__).parents[2] / "examples" / "configs"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no data."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_it_is_whole_and_named_as_its_file(path: Path) -> None:
    experiment = diffkit.Experiment.from_file(path, quiet=True)
    assert experiment.config.name == path.stem
    assert experiment.config.sampling.count >= 16


@pytest.mark.parametrize(
    "overrides",
    [
        ["schedule=cosine"],
        ["sde=sub-vp"],
        ["sde=ve", "schedule=geometric"],
    ],
)
def test_scores_are_learnt_on_every_process(overrides: list[str]) -> None:
    experiment = diffkit.Experiment.from_file(CONFIGS / "score-mnist.yaml", overrides, quiet=True)
    assert experiment.findings == []


def test_the_denoising_model_of_flowers_is_the_published_one() -> None:
    config = diffkit.Experiment.from_file(CONFIGS / "ddm-flowers.yaml", quiet=True).config
    assert (config.training.weight_decay, config.training.learning_rate, config.training.ema) == (
        1e-4,
        1e-3,
        0.999,
    )
    assert getattr(config.objective, "norm") == "l1"  # noqa: B009 - a field of the concrete class


@pytest.mark.prove
def test_a_single_image_is_generated_again(tmp_path: Path) -> None:
    """After the configuration's 1,600 steps, by squared error on the scale of [-1, 1]."""
    (tmp_path / "image").mkdir()
    Image.fromarray(load_sample_image("flower.jpg")).save(tmp_path / "image" / "flower.png")
    overrides = ["training.precision=fp32", "sampling.count=16"]
    experiment = diffkit.Experiment.from_file(CONFIGS / "dpm-single-image.yaml", overrides, quiet=True)
    assert experiment.config.training.steps == 1600
    experiment.train()
    image = experiment.dataset.encode(experiment.dataset.load("train").raw)
    error = (experiment.sample().x - image).square().flatten(1).mean(1)
    assert image.var() > 0.1
    assert float(error.max()) < 1e-3
