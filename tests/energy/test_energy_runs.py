"""A whole run of an energy-based model: its figures, its films, its refusals, and its wheel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import synthetic_run
import torch
from click.testing import CliRunner
from PIL import Image
from ruamel.yaml import YAML
from temporary_environment import Environment

from diffkit import report
from diffkit.errors import ConfigError, DataError, IncompatibleError
from diffkit.experiment import Experiment
from diffkit.journal import read_log
from diffkit_energy import plots
from diffkit_energy.commands.energy_film import command

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = {
    "name": "small",
    "dataset": {"name": "points", "count": 60, "noise": 0.2},
    "network": {"name": "energy-mlp", "width": 8},
    "sde": {"name": "langevin", "scale": 2.0},
    "objective": {
        "name": "contrastive-divergence",
        "buffer": 40,
        "steps": 3,
        "sampler": {"name": "overdamped-langevin", "step_size": 0.01},
    },
    "training": {"steps": 6, "batch_size": 20, "keep": [2], "precision": "fp32"},
    "sampling": {"sampler": {"name": "overdamped-langevin", "step_size": 0.01}, "steps": 5, "count": 4},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    experiment = Experiment.from_dict(SETTINGS, runs=tmp_path_factory.mktemp("runs"), quiet=True)
    return experiment.run().run


def test_the_energies_along_training_are_in_the_folder_and_on_the_page(run: Path) -> None:
    log = list(read_log(run / "log.jsonl"))
    assert len(log) == 6
    assert {"energy_data", "energy_samples", "energy_noise"} <= set(log[-1])
    assert size(run / "energies.png") == (720, 340)
    assert "Figure energies of this run." in (run / "report.html").read_text()


def test_a_run_without_noise_levels_lacks_no_strips(tmp_path: Path) -> None:
    folder = synthetic_run.make_run(tmp_path / "cold")
    for name in ("forward.png", "reverse.png"):
        (folder / name).unlink()
    assert "Incomplete: forward.png, reverse.png" in report.build(folder).read_text()
    yaml = YAML(typ="safe")
    config = yaml.load(folder / "config.yaml") | {"sde": "langevin"}
    yaml.dump(config, folder / "config.yaml")
    assert "Incomplete" not in report.build(folder).read_text()


def test_films_are_drawn_for_every_kept_checkpoint(run: Path, tmp_path: Path) -> None:
    words = [str(run), "--count", "3", "--at", "0,1,4", "--out", str(tmp_path), "--json"]
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    films = [Path(film).name for film in json.loads(done.stdout)["films"]]
    assert films == ["film-000002.png", "film-000006.png"]
    for name in films:
        wide, high = size(tmp_path / name)
        assert wide / high == pytest.approx(1.0, abs=0.2)  # three rows of three
        assert (tmp_path / name.replace("film", "landscape")).is_file()


def test_a_model_alone_is_sampled_by_a_sampler_that_serves_it(run: Path, tmp_path: Path) -> None:
    saved = Experiment.from_file(run).save(tmp_path / "ebm")
    alone = Experiment.from_file(saved, ["sampling.steps=3", "sampling.count=2"], quiet=True)
    assert alone.checkpoints == [2, 6]
    assert alone.sample().x.shape == (2, 2)
    with pytest.raises(IncompatibleError, match="'adams' and 'langevin' cannot be combined"):
        Experiment.from_file(saved, ["sampling.sampler=adams"])


def test_films_of_other_models_are_refused(tmp_path: Path) -> None:
    diffusion = {"name": "other", "dataset": "points", "network": {"name": "mlp", "width": 8},
                 "training": {"steps": 1, "batch_size": 4}}  # fmt: skip
    experiment = Experiment.from_dict(diffusion, runs=tmp_path, quiet=True)
    experiment.train()
    words = [str(experiment.model_folder), "--out", str(tmp_path)]
    with pytest.raises(ConfigError, match="has nothing to run down"):
        CliRunner().invoke(command, words, catch_exceptions=False, standalone_mode=False)


def size(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as image:
        return image.size


def valley(x: torch.Tensor) -> torch.Tensor:
    return 8.0 * (x.flatten(1) - 0.5).square().sum(1)


def colours(figure: Any) -> Any:
    (mesh,) = [each for each in figure.axes[0].collections if hasattr(each, "get_coordinates")]
    return mesh.get_array()


class TestLandscapes:
    def test_two_pixels_lie_in_a_plane_the_first_across(self) -> None:
        lower = colours(plots.landscape(lambda x: valley(x) + 4.0 * x[:, 0, 0, 1], (1, 1, 2)))
        row, column = divmod(int(lower.argmin()), lower.shape[1])
        assert column == 150  # the pixel at 0.5
        assert row == 125  # pulled down by 4 / 16, to 0.25

    def test_one_pixel_is_a_curve_with_marks_on_it(self) -> None:
        figure = plots.landscape(valley, (1, 1, 1), marks={"data": torch.full((3, 1, 1, 1), 0.25)})
        (line,) = figure.axes[0].lines
        assert line.get_xdata()[line.get_ydata().argmin()] == pytest.approx(0.5)
        assert figure.axes[0].collections[0].get_offsets()[0].tolist() == pytest.approx([0.25, 0.5])

    @pytest.mark.parametrize("size", [1, 2])
    def test_a_notebook_shows_it_without_pyplot(self, size: int) -> None:
        figure: Any = plots.landscape(valley, (1, 1, size))
        assert figure._repr_png_().startswith(b"\x89PNG")

    def test_points_have_coordinates_and_images_pixels(self) -> None:
        named = [plots.landscape(valley, shape).axes[0].get_xlabel() for shape in ((2,), (1, 1, 2))]
        assert named == ["$x_1$ as encoded", "first pixel"]

    def test_more_pixels_are_refused(self) -> None:
        with pytest.raises(DataError, match="4 elements"):
            plots.landscape(valley, (1, 2, 2))


@pytest.mark.parametrize("name", ["ebm-mnist", "ebm-points"])
def test_the_examples_are_sound(name: str) -> None:
    plan = Experiment.from_file(ROOT / "examples" / "configs" / f"{name}.yaml").dry_run()
    assert plan["train"].startswith("energy-")


def test_its_wheel_installs_and_brings_everything(tmp_path: Path) -> None:
    environment = Environment.at(tmp_path)
    (wheel,) = environment.install(ROOT / "plugins" / "diffkit-energy")
    assert wheel.name.startswith("diffkit_energy-")
    place = environment.python("-c", "import diffkit_energy; print(diffkit_energy.__path__[0])").stdout
    assert str(tmp_path) in place
    listed = json.loads(environment.diffkit("list", "--json").stdout)
    own = {(row["kind"], row["name"]) for row in listed if row["distribution"] == "diffkit-energy"}
    assert own == {
        ("sde", "langevin"),
        ("sampler", "overdamped-langevin"),
        ("network", "energy-cnn"),
        ("network", "energy-mlp"),
        ("objective", "contrastive-divergence"),
    }
    checked = environment.diffkit("check", "network", "energy-mlp")
    assert checked.returncode == 0, checked.stderr
    assert "energy-film" in environment.diffkit("--help").stdout
