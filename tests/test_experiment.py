"""The experiment from configuration to report, on the embedded digits at a small setting."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image

import diffkit
from diffkit import hooks
from diffkit.errors import (
    CheckpointError,
    ComponentError,
    ConfigError,
    DataError,
    IncompatibleError,
    InputError,
    RunError,
)
from diffkit.interfaces.conditioner import Conditioner
from diffkit.journal import Journal, read_log
from diffkit.storage import file_checksum, read_json, write_json

SMALL: dict[str, Any] = {
    "name": "small",
    "dataset": "digits",
    "network": {"name": "unet", "channels": 8, "multipliers": [1, 1], "heads": 2},
    "schedule": "cosine",
    "training": {
        "steps": 12,
        "batch_size": 16,
        "labels": True,
        "save_every": 6,
        "precision": "fp32",
        "ema": 0.9,
    },
    "sampling": {
        "steps": 4,
        "count": 6,
        "conditioners": [{"name": "class-guidance", "label": "each", "scale": 2.0}],
    },
    "evaluation": {"metrics": ["fid", "inception-score"], "count": 40},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def experiment(runs: Path) -> diffkit.Experiment:
    made = diffkit.Experiment.from_dict(SMALL, runs=runs, quiet=True)
    made.run()
    return made


def test_the_log_tells_of_every_step_of_training(experiment: diffkit.Experiment) -> None:
    log = experiment.log
    assert [line["step"] for line in log] == list(range(1, 13))
    assert all(line["loss"] > 0.0 for line in log)
    assert log == list(read_log(experiment.folder / "log.jsonl"))


def changed(**sections: Any) -> dict[str, Any]:
    return {**SMALL, **sections}


def test_a_run_leaves_every_piece_and_the_manifest_tells_them(experiment: diffkit.Experiment) -> None:
    folder = experiment.folder
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("config.yaml", "samples.npz", "metrics.json", "log.jsonl"):
        assert manifest["checksums"][name] == file_checksum(folder / name)
    drawn = ("samples.png", "classes.png", "schedule.png", "forward.png", "reverse.png", "loss.png")
    for name in (*drawn, "report.html"):
        assert (folder / name).stat().st_size > 1000, name
    kinds = {part["kind"] for part in manifest["components"]}
    assert {"dataset", "network", "sde", "schedule", "objective", "sampler", "metric", "features"} <= kinds
    assert all(part["version"] for part in manifest["components"])
    assert manifest["versions"]["torch"] == torch.__version__
    assert (folder / manifest["model"]).resolve() == experiment.model_folder.resolve()
    assert manifest["threads"] == torch.get_num_threads()


def test_samples_on_disk_have_the_stated_form(experiment: diffkit.Experiment) -> None:
    with np.load(experiment.folder / "samples.npz", allow_pickle=False) as saved:
        assert saved["x"].dtype == np.float32
        assert saved["x"].shape == (6, 1, 8, 8)
        assert saved["label"].tolist() == [0, 1, 2, 3, 4, 5]
        assert saved["index"].tolist() == list(range(6))


def test_the_film_runs_from_noise_to_the_samples(experiment: diffkit.Experiment) -> None:
    with Image.open(experiment.folder / "frames.png") as film:
        captions, pixels = json.loads(film.info["captions"]), np.asarray(film.convert("L")).astype(int)
    times = [float(caption.removeprefix("t = ")) for caption in captions[:-1]]
    assert captions[-1] == "clean"
    assert len(times) == 4, "the start and three steps; the fourth call gives clean samples"
    assert times == sorted(times, reverse=True)
    height = len(pixels) // len(captions)
    assert pixels.shape == (5 * (8 + 2), 6 * (8 + 1) + 1)
    with np.load(experiment.folder / "samples.npz", allow_pickle=False) as saved:
        drawn = experiment.config.dataset.picture(torch.from_numpy(saved["x"]))[:, 0].numpy()
    for number, picture in enumerate(drawn):
        left = 1 + 9 * number
        tile = pixels[-height:][1:9, left : left + 8]
        assert np.abs(tile - 255 * picture).max() < 1.0
    assert np.abs(pixels[:height] - pixels[-height:]).mean() > 20


def test_figures_stand_beside_their_floor_and_noise(experiment: diffkit.Experiment) -> None:
    figures = json.loads((experiment.folder / "metrics.json").read_text())
    fid = figures["fid"]
    assert fid["count"] == fid["details"]["floor"]["count"] == fid["details"]["noise"]["count"] == 40
    assert 0.0 <= fid["details"]["floor"]["value"] < fid["details"]["noise"]["value"]
    assert fid["details"]["floor"]["value"] < fid["value"]  # a barely trained model is no real data


def test_the_same_experiment_finds_its_model_and_makes_the_same_samples(
    experiment: diffkit.Experiment, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (experiment.folder / "samples.npz").read_bytes()
    weights = sorted(experiment.model_folder.rglob("*.safetensors"))
    times = [path.stat().st_mtime_ns for path in weights]
    again = diffkit.Experiment.from_file(experiment.folder)
    assert again.folder == experiment.folder
    again.train()
    again.draw()
    assert "found" in capsys.readouterr().err
    assert [path.stat().st_mtime_ns for path in weights] == times
    assert (experiment.folder / "samples.npz").read_bytes() == before


def test_only_what_determines_training_is_in_a_models_key(experiment: diffkit.Experiment, runs: Path) -> None:
    def folder(**sections: Any) -> Path:
        return diffkit.Experiment.from_dict(changed(**sections), runs=runs).model_folder

    home = experiment.model_folder
    assert folder(sampling={"steps": 9}) == home
    assert folder(evaluation={"count": 50}) == home
    assert folder(training={**SMALL["training"], "save_every": 3}) == home
    assert folder(seed=1) != home
    assert folder(schedule="linear") != home
    assert folder(training={**SMALL["training"], "learning_rate": 2e-3}) != home
    assert "vp-cosine-unet-noise" in home.name


def test_sampling_alone_changes_the_run_not_the_model(experiment: diffkit.Experiment, runs: Path) -> None:
    other = diffkit.Experiment.from_dict(changed(sampling={"steps": 9}), runs=runs)
    assert other.folder != experiment.folder


def test_a_label_replaces_the_configured_one(experiment: diffkit.Experiment) -> None:
    assert experiment.sample(3, label=7).label.tolist() == [7, 7, 7]
    plain = experiment.sample(3, label=7, conditioners=[])
    assert plain.label.tolist() == [7, 7, 7]


def test_another_sampler_brings_its_own_steps(experiment: diffkit.Experiment) -> None:
    result = experiment.sample(2, sampler={"name": "ddim"}, conditioners=[])
    assert result.nfe == diffkit.create("sampler", "ddim").default_steps


def test_sample_and_plot_saves_its_figure(experiment: diffkit.Experiment, tmp_path: Path) -> None:
    figure = experiment.sample_and_plot(4, label=3, sampler="ddim", steps=3, path=tmp_path / "threes.png")
    assert figure.axes
    assert (tmp_path / "threes.png").read_bytes().startswith(b"\x89PNG")


def test_a_saved_model_loads_and_samples_alike(experiment: diffkit.Experiment, tmp_path: Path) -> None:
    saved = experiment.save(tmp_path / "elsewhere" / "model")
    guidance = {"name": "class-guidance", "label": "each", "scale": 2.0}
    result = diffkit.sample(
        diffkit.load(saved), shape=(6, 1, 8, 8), steps=4, conditioners=[guidance], batch_size=64
    )
    assert torch.equal(result.x, experiment.sample().x)
    by_path = diffkit.Experiment.from_file(saved, runs=tmp_path)
    assert torch.equal(by_path.sample(6, steps=4, conditioners=[guidance]).x, result.x)


def test_a_model_is_not_sampled_with_another_process(experiment: diffkit.Experiment) -> None:
    with pytest.raises(IncompatibleError, match="one process in training and in sampling"):
        diffkit.sample(experiment.model(), sde="vp", shape=(1, 1, 8, 8))


def test_guidance_needs_a_model_trained_on_labels() -> None:
    with pytest.raises(IncompatibleError, match=r"training\.labels"):
        diffkit.Experiment.from_dict(changed(training={"steps": 1}))


@pytest.mark.parametrize(
    "sections, said",
    [
        ({"network": {"name": "unet", "channels": 7}}, "groups"),
        ({"network": {"name": "unet", "multipliers": [1, 1, 1, 1, 1]}}, "16 divides"),
        ({"sampling": {"conditioners": [{"name": "class-guidance", "label": 12}]}}, "classes 0 to 9"),
        ({"dataset": {"name": "points", "shape": "swiss-roll"}, "network": "mlp"}, "learnt from classes"),
    ],
)
def test_what_can_be_known_without_data_is_refused_at_once(sections: dict[str, Any], said: str) -> None:
    base = {**SMALL, "training": {**SMALL["training"], "labels": "dataset" not in sections}}
    if "dataset" in sections:
        base["sampling"] = {"steps": 4}
    with pytest.raises(InputError, match=said):
        diffkit.Experiment.from_dict({**base, **sections})


def test_overrides_that_ask_for_another_model_do_not_get_the_saved_one(
    experiment: diffkit.Experiment,
) -> None:
    other = diffkit.Experiment.from_file(experiment.folder, ["network.channels=16"], quiet=True)
    with pytest.raises(CheckpointError):
        other.sample(1)
    same = diffkit.Experiment.from_file(experiment.folder, ["sampling.steps=3"], quiet=True)
    assert same.sample(1, conditioners=[]).nfe == 3


def test_an_equal_model_of_another_name_is_found(experiment: diffkit.Experiment) -> None:
    other = diffkit.Experiment.from_dict(changed(name="other"), runs=experiment.runs, quiet=True)
    assert other.folder != experiment.folder
    assert other.model_folder == experiment.model_folder
    told = (experiment.model_folder / "log.jsonl").read_bytes()
    assert other.train().step == experiment.model().step
    assert (experiment.model_folder / "log.jsonl").read_bytes() == told
    another = diffkit.Experiment.from_dict(changed(name="other", seed=1), runs=experiment.runs, quiet=True)
    assert another.model_folder != experiment.model_folder


@pytest.mark.parametrize("what", ["run", "model"])
def test_what_was_made_with_a_plugin_that_is_gone_names_it(
    experiment: diffkit.Experiment, tmp_path: Path, what: str
) -> None:
    place = tmp_path / what
    if what == "run":
        shutil.copytree(experiment.folder, place)
        page = (place / "config.yaml").read_text()
        (place / "config.yaml").write_text(page.replace("name: cosine", "name: gentle"))
        described = json.loads((place / "manifest.json").read_text())
    else:
        experiment.save(place)
        described = read_json(place / "model.json")
        described["sde"] = {"name": "vp", "schedule": "gentle"}
    for part in described["components"]:
        if part["name"] == "cosine":
            part |= {"name": "gentle", "distribution": "diffkit-gentle", "version": "2.1"}
    if what == "run":
        (place / "manifest.json").write_text(json.dumps(described))
    else:
        del described["checksum"]
        write_json(place / "model.json", described)
    with pytest.raises(ComponentError, match=r"'gentle' of diffkit-gentle 2\.1.*pip install diffkit-gentle"):
        diffkit.Experiment.from_file(place)
    with pytest.raises(ComponentError, match="no sampler 'dimm'"):
        diffkit.Experiment.from_file(experiment.folder, ["sampling.sampler=dimm"])


TWO_RANKS = """
import atexit, pathlib, sys
def left():
    names = [path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
    print("threads of the group at the end:", sum("gloo" in name for name in names))
atexit.register(left)
import diffkit
experiment = diffkit.Experiment.from_file(sys.argv[1], runs=sys.argv[2], quiet=True)
result = experiment.run()
experiment.save(sys.argv[3])
experiment.write_samples(experiment.sample(2), experiment.folder / "more")
"""


def test_two_processes_make_one_run(tmp_path: Path) -> None:
    """A whole run under a launcher, from an empty folder: every rank ends well, with the samples of one."""
    config = {**SMALL, "evaluation": {"metrics": ["fid"], "count": 40}}
    (tmp_path / "run.yaml").write_text(json.dumps(config))
    (tmp_path / "work.py").write_text(TWO_RANKS)
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    call += [str(tmp_path / name) for name in ("work.py", "run.yaml", "runs", "kept")]
    done = subprocess.run(
        call,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("threads of the group at the end: 0") == 2, done.stdout
    (folder,) = [path.parent for path in (tmp_path / "runs").glob("small-*/report.html")]
    assert (tmp_path / "kept" / "model.json").is_file()
    one = diffkit.Experiment.from_file(tmp_path / "run.yaml", runs=tmp_path / "runs", quiet=True)
    with np.load(folder / "samples.npz", allow_pickle=False) as saved:
        assert np.allclose(saved["x"], one.sample().x.clamp(-1, 1).numpy(), atol=1e-5)


def test_an_interrupted_training_goes_on(experiment: diffkit.Experiment, tmp_path: Path) -> None:
    class Stopper:
        @hooks.implementation
        def diffkit_train_step(self, event: Any) -> None:
            if event.step == 9:
                raise KeyboardInterrupt

    partial = diffkit.Experiment.from_dict(SMALL, runs=tmp_path, quiet=True)
    plugin = Stopper()
    hooks.installed().register(plugin, "stopper")
    try:
        with pytest.raises(KeyboardInterrupt):
            partial.train()
    finally:
        hooks.installed().manager.unregister(plugin)
    model = diffkit.Experiment.from_dict(SMALL, runs=tmp_path, quiet=True).train()
    whole, resumed = experiment.model(), model
    assert resumed.step == 12
    x = torch.zeros(2, 1, 8, 8)
    t = torch.tensor(0.5, dtype=torch.float64)
    assert torch.equal(whole.denoise(x, t), resumed.denoise(x, t))
    steps = [record["step"] for record in read_log(partial.model_folder / "log.jsonl")]
    assert steps == list(range(1, 13))


def test_a_training_begun_afresh_and_killed_leaves_what_was_there(tmp_path: Path) -> None:
    class Stopper:
        @hooks.implementation
        def diffkit_train_step(self, event: Any) -> None:
            if event.step == 3:
                raise KeyboardInterrupt

    tracked = {"track": {"every": 6, "metrics": ["fid"], "count": 10}}
    before = diffkit.Experiment.from_dict(changed(evaluation=tracked), runs=tmp_path, quiet=True)
    model, log, folder = before.train(), before.log, before.model_folder
    looks = (folder / "tracked.jsonl").read_text()
    later = changed(evaluation=tracked, training={**SMALL["training"], "save_every": 5})
    plugin = Stopper()
    hooks.installed().register(plugin, "stopper")
    try:
        with pytest.raises(KeyboardInterrupt):
            diffkit.Experiment.from_dict(later, runs=tmp_path, quiet=True).train(fresh=True)
    finally:
        hooks.installed().manager.unregister(plugin)
    after = diffkit.Experiment.from_dict(later, runs=tmp_path, quiet=True)
    assert after.model_folder == folder
    x, t = torch.zeros(2, 1, 8, 8), torch.tensor(0.5, dtype=torch.float64)
    assert torch.equal(after.train().denoise(x, t), model.denoise(x, t))
    assert after.log == log
    assert (folder / "tracked.jsonl").read_text() == looks
    after.train(fresh=True)
    assert [line["step"] for line in after.log] == list(range(1, 13))
    assert [line["step"] for line in read_log(folder / "tracked.jsonl")] == [6, 12]


def test_a_training_begun_afresh_and_interrupted_has_its_own_log(tmp_path: Path) -> None:
    class Stopper:
        @hooks.implementation
        def diffkit_train_step(self, event: Any) -> None:
            if event.step == 3:
                os.kill(os.getpid(), signal.SIGINT)

    config = changed(evaluation={"metrics": [], "count": 10})
    diffkit.Experiment.from_dict(config, runs=tmp_path, quiet=True).train()
    again = diffkit.Experiment.from_dict(config, runs=tmp_path, quiet=True)
    plugin = Stopper()
    hooks.installed().register(plugin, "stopper")
    try:
        with pytest.raises(KeyboardInterrupt):
            again.train(fresh=True)
    finally:
        hooks.installed().manager.unregister(plugin)
    assert again.checkpoints == [3]
    assert [line["step"] for line in again.log] == [1, 2, 3]


def test_figures_of_another_checkpoint_stand_beside_those_of_the_run(tmp_path: Path) -> None:
    kept = changed(training={**SMALL["training"], "keep": [3]}, evaluation={"metrics": ["fid"], "count": 10})
    experiment = diffkit.Experiment.from_dict(kept, runs=tmp_path, quiet=True)
    folder = experiment.run().run
    own = (folder / "metrics.json").read_text()
    experiment.evaluate(checkpoint_name=3)
    assert (folder / "metrics.json").read_text() == own != (folder / "metrics-00000003.json").read_text()
    told = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(told.replace(file_checksum(folder / "metrics.json"), "of others"))
    experiment.evaluate()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["checksums"]["metrics.json"] == file_checksum(folder / "metrics.json")


def test_data_that_changed_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    np.save(tmp_path / "points.npy", points)
    config = {
        "name": "moved",
        "dataset": {"name": "array", "path": str(tmp_path / "points.npy")},
        "network": {"name": "mlp", "width": 8},
        "training": {"steps": 2, "batch_size": 8},
        "sampling": {"steps": 2, "count": 2},
        "evaluation": {"metrics": [], "count": 10},
    }
    first = diffkit.Experiment.from_dict(config, runs=tmp_path / "runs", quiet=True)
    folder = first.run().run
    saved = first.save(tmp_path / "saved")
    np.save(tmp_path / "points.npy", points + 1.0)
    with pytest.raises(DataError, match=r"not those that .*--any-version"):
        diffkit.Experiment.from_file(folder, quiet=True).run()
    diffkit.Experiment.from_file(saved, runs=tmp_path).evaluate()
    assert "was trained on other data" in capsys.readouterr().err
    diffkit.Experiment.from_dict(config, runs=tmp_path / "runs").run()
    assert "the data have changed since" in capsys.readouterr().err
    diffkit.Experiment.from_file(folder, quiet=True).run()


@attrs.frozen(kw_only=True)
class Breaking(Conditioner):
    """Loses every sample."""

    def after_step(
        self, problem: Any, x_t: Any, x_s: torch.Tensor, t: Any, s: Any, memory: Any, noise: Any
    ) -> tuple[torch.Tensor, Any]:
        return torch.full_like(x_s, torch.nan), memory


def test_samples_that_are_lost_are_no_success(experiment: diffkit.Experiment) -> None:
    with pytest.raises(DataError, match="2 of 2 samples hold NaN"):
        experiment.sample(2, conditioners=[Breaking()])


def test_a_model_in_training_is_not_trained_twice(experiment: diffkit.Experiment, runs: Path) -> None:
    from filelock import FileLock

    other = diffkit.Experiment.from_dict(changed(seed=5), runs=runs, quiet=True)
    home = other.model_folder
    with FileLock(home.parent / f".{home.name}.lock"), pytest.raises(RunError, match="Another process"):
        other.train()


def test_sampling_before_training_says_what_to_do(tmp_path: Path) -> None:
    untrained = diffkit.Experiment.from_dict(SMALL, runs=tmp_path)
    with pytest.raises(CheckpointError):
        untrained.sample(1)


def test_a_runs_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file, not a folder")
    with pytest.raises(ConfigError, match="--runs"):
        diffkit.Experiment.from_dict(SMALL, runs=tmp_path / "runs", quiet=True).run()


def test_a_hook_sees_every_step_and_the_end(experiment: diffkit.Experiment) -> None:
    seen: list[str] = []

    class Listener:
        @hooks.implementation
        def diffkit_sample_step(self, event: Any, experiment: Any) -> None:
            seen.append("sample")
            if event.s is not None:
                clean = experiment.model().denoise(event.x, event.s)
                assert clean.shape == event.x.shape

        @hooks.implementation
        def diffkit_run_end(self, run: Any, experiment: Any) -> None:
            assert run.report.is_file()
            seen.append(f"end {experiment.folder.name}")

    plugin = Listener()
    hooks.installed().register(plugin, "listener")
    try:
        experiment.run()
    finally:
        hooks.installed().manager.unregister(plugin)
    assert seen.count("sample") == 5 + 5  # the sheet, and one chunk of the evaluation: a start and four moves
    assert seen[-1] == f"end {experiment.folder.name}"


def test_only_the_main_process_tells_of_the_end(
    experiment: diffkit.Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Listener:
        @hooks.implementation
        def diffkit_run_end(self, run: Any) -> None:
            seen.append("end")

    plugin = Listener()
    hooks.installed().register(plugin, "listener")
    try:
        monkeypatch.setattr("diffkit.experiment.is_main", lambda: False)
        experiment.run()
    finally:
        hooks.installed().manager.unregister(plugin)
    assert seen == []


def test_the_global_random_state_stays(experiment: diffkit.Experiment, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    diffkit.Experiment.from_dict(SMALL, runs=tmp_path, quiet=True).train()
    experiment.sample(2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_journal_drops_the_steps_that_are_repeated(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for step in range(1, 6):
            journal.write(step, loss=float(step))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # killed while writing
    with Journal(tmp_path) as journal:
        journal.write(4, loss=40.0)
    assert [(r["step"], r["loss"]) for r in read_log(tmp_path / "log.jsonl")] == [
        (1, 1.0),
        (2, 2.0),
        (3, 3.0),
        (4, 40.0),
    ]


def test_a_fitted_grid_is_fitted_once_and_kept_beside_the_model(
    experiment: diffkit.Experiment, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wish = changed(sampling={**SMALL["sampling"], "grid": "fitted", "conditioners": []})
    first = diffkit.Experiment.from_dict(wish, runs=runs)
    again = diffkit.Experiment.from_dict(wish, runs=runs)
    made = first.sample(2)
    assert "forward passes" in capsys.readouterr().err
    kept = list((experiment.model_folder / "grids").glob("*.json"))
    assert len(kept) == 1
    assert torch.equal(again.sample(2).x, made.x)
    assert "forward passes" not in capsys.readouterr().err
    plain = experiment.sample(2, conditioners=[])
    assert made.nfe == plain.nfe == 4
    assert not torch.equal(made.x, plain.x)


def test_figures_on_disk_are_by_name_and_nothing_else(experiment: diffkit.Experiment) -> None:
    figures = json.loads((experiment.folder / "metrics.json").read_text())
    assert set(figures) == {"fid", "inception-score"}
    assert all(set(figure) == {"value", "error", "count", "details"} for figure in figures.values())
