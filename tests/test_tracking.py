"""Figures along training: no weight depends on them, they resume, and the best checkpoint is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

import diffkit
from diffkit import checkpoint, plots, storage, tracking
from diffkit.batch import Batch
from diffkit.description import owner
from diffkit.errors import ConfigError, IncompatibleError
from diffkit.interfaces.metric import Measurement, Metric
from diffkit.journal import read_log
from diffkit.plots import gallery
from diffkit.sampling import SampleStep

SMALL: dict[str, Any] = {
    "name": "small",
    "dataset": "digits",
    "network": {"name": "unet", "channels": 8, "multipliers": [1, 1], "heads": 2},
    "training": {"steps": 12, "batch_size": 16, "save_every": 6, "precision": "fp32", "ema": 0.9},
    "sampling": {"steps": 3, "count": 4},
    "evaluation": {"features": "pixels"},
}
TRACK: dict[str, Any] = {"every": 5, "metrics": ["fid", "kid"], "count": 12}


def experiment(runs: Path, track: dict[str, Any] | None = TRACK, **sections: Any) -> diffkit.Experiment:
    evaluation = {**SMALL["evaluation"], **({} if track is None else {"track": track})}
    return diffkit.Experiment.from_dict(
        {**SMALL, "evaluation": evaluation, **sections}, runs=runs, quiet=True
    )


def state_of(folder: Path, step: int = 12) -> dict[str, torch.Tensor]:
    training = owner(checkpoint.read_description(folder))
    parts = storage.read_snapshot(folder, step, owner=training).parts
    return {f"{part}.{name}": value for part, tensors in parts.items() for name, value in tensors.items()}


def records(folder: Path) -> list[dict[str, Any]]:
    return list(read_log(folder / tracking.FILE))


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> diffkit.Experiment:
    made = experiment(tmp_path_factory.mktemp("tracked"))
    made.train()
    return made


def test_no_weight_depends_on_being_tracked(tracked: diffkit.Experiment, tmp_path: Path) -> None:
    plain = experiment(tmp_path, track=None)
    before = torch.random.get_rng_state()
    plain.train()
    assert torch.equal(torch.random.get_rng_state(), before)
    watched, free = state_of(tracked.model_folder), state_of(plain.model_folder)
    assert watched.keys() == free.keys()
    assert all(torch.equal(watched[name], free[name]) for name in free)
    assert not (plain.model_folder / tracking.FILE).exists()
    assert not (plain.model_folder / "looks").exists()


def test_every_so_many_steps_and_at_the_end(tracked: diffkit.Experiment) -> None:
    found = records(tracked.model_folder)
    assert [record["step"] for record in found] == [5, 10, 12]
    for record in found:
        assert set(record["figures"]) == {"fid", "kid"}
        assert record["figures"]["fid"]["count"] == 12
        assert record["steps"] == 3
    values = [record["figures"]["fid"]["value"] for record in found]
    assert len(set(values)) == 3


def test_every_look_leaves_a_strip_of_what_noise_becomes(tracked: diffkit.Experiment, tmp_path: Path) -> None:
    strips = {path.name: path.read_bytes() for path in (tracked.model_folder / "looks").iterdir()}
    assert sorted(strips) == ["step-0000005.png", "step-0000010.png", "step-0000012.png"]
    assert len(set(strips.values())) == 3
    states: list[SampleStep] = []
    tracked.sample(12, model=tracked.model(12), on_step=states.append)
    strip = gallery.reverse_strip(tracked.dataset, tracked.config.sde, states)
    assert strips["step-0000012.png"] == plots.save(strip, tmp_path / "strip.png").read_bytes()


def test_the_averaged_weights_are_measured_as_an_evaluation_would(tracked: diffkit.Experiment) -> None:
    last = diffkit.Experiment.from_dict(
        {**SMALL, "evaluation": {"features": "pixels", "metrics": ["fid"], "count": 12, "track": TRACK}},
        runs=tracked.runs,
        quiet=True,
    )
    figure = last.evaluate(checkpoint_name="last")["fid"]
    assert figure.value == records(tracked.model_folder)[-1]["figures"]["fid"]["value"]


def test_the_best_checkpoint_is_kept_and_used(tracked: diffkit.Experiment) -> None:
    found = records(tracked.model_folder)
    best = min(found, key=lambda record: record["figures"]["fid"]["value"])["step"]
    assert checkpoint.best_step(tracked.model_folder) == best
    assert {best, 12} == set(storage.snapshot_steps(tracked.model_folder))
    assert tracked.model().step == best


@attrs.frozen(kw_only=True)
class Script(Metric):
    """Figures that are known beforehand, by step: the third is the best either way."""

    up: bool = False

    @property
    def higher_is_better(self) -> bool:
        return self.up

    def start(self, context: Any) -> Any:
        return 0

    def update(self, state: Any, batch: Batch, noise: Any) -> Any:
        return state + len(batch.x)

    def merge(self, a: Any, b: Any) -> Any:
        return a + b

    def finish(self, state: Any) -> Measurement:
        return Measurement(value=0.0, error=None, count=state)


@pytest.mark.parametrize("up,best", [(False, 4), (True, 8)])
def test_the_better_is_the_higher_or_the_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, up: bool, best: int
) -> None:
    values = iter([3.0, 1.0, 2.0, 4.0, 4.0, 1.0])
    monkeypatch.setattr(
        Script, "finish", lambda self, state: Measurement(value=next(values), error=None, count=state)
    )
    made = experiment(tmp_path, {"every": 2, "metrics": [Script(up=up)], "count": 2})
    made.train()
    assert [r["step"] for r in records(made.model_folder)] == [2, 4, 6, 8, 10, 12]
    assert checkpoint.best_step(made.model_folder) == best


@pytest.mark.parametrize("killed_at", ["in a step", "in a measurement", "in the last measurement"])
def test_a_killed_training_goes_on_to_the_same_figures(
    tracked: diffkit.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    class Killed(BaseException):
        pass

    look, advance = tracking.Tracker.look, diffkit.training.Trainer._advance

    def dying_look(self: Any, trainer: Any) -> None:
        if trainer.step == (12 if "last" in killed_at else 10):
            raise Killed
        look(self, trainer)

    def dying_advance(self: Any) -> Any:
        if self.step == 11:
            raise Killed
        return advance(self)

    made = experiment(tmp_path)
    with monkeypatch.context() as patch:
        if killed_at == "in a step":
            patch.setattr(diffkit.training.Trainer, "_advance", dying_advance)
        else:
            patch.setattr(tracking.Tracker, "look", dying_look)
        with pytest.raises(Killed):
            made.train()
    again = experiment(tmp_path)
    again.train()
    assert records(again.model_folder) == records(tracked.model_folder)
    assert checkpoint.best_step(again.model_folder) == checkpoint.best_step(tracked.model_folder)
    watched, free = state_of(again.model_folder), state_of(tracked.model_folder)
    assert all(torch.equal(watched[name], free[name]) for name in free)


def test_training_afresh_tracks_afresh(tmp_path: Path) -> None:
    made = experiment(tmp_path, {**TRACK, "every": 6})
    made.train()
    first = records(made.model_folder)
    (made.model_folder / tracking.FILE).write_text(json.dumps({"step": 6, "figures": {}}) + "\n")
    (made.model_folder / "looks" / "step-0000003.png").touch()
    made.train(fresh=True)
    assert records(made.model_folder) == first
    assert not (made.model_folder / "looks" / "step-0000003.png").exists()


def test_what_is_tracked_is_part_of_what_the_model_is(tmp_path: Path) -> None:
    """Which checkpoint is best depends on it; how often samples are drawn later does not."""
    names = {
        experiment(tmp_path, track).model_folder.name
        for track in (None, TRACK, {**TRACK, "every": 6}, {**TRACK, "count": 13})
    }
    assert len(names) == 4
    assert experiment(tmp_path, sampling={"steps": 5}).model_folder == experiment(tmp_path).model_folder


def test_a_grid_that_awaits_its_fit_is_left_to_the_finished_model(tmp_path: Path) -> None:
    made = experiment(
        tmp_path,
        {**TRACK, "every": 12, "metrics": ["fid"]},
        sampling={"sampler": "ddim", "steps": 3, "count": 4, "grid": "fitted"},
    )
    made.train()
    assert len(records(made.model_folder)) == 1
    assert not list(made.model_folder.glob("*grid*"))


def test_the_run_shows_them(tracked: diffkit.Experiment) -> None:
    tracked.run()
    manifest = json.loads((tracked.folder / "manifest.json").read_text())
    assert (tracked.folder / "figures-along-training.png").stat().st_size > 1000
    assert tracking.FILE in manifest["checksums"]
    page = (tracked.folder / "report.html").read_text()
    assert "Figures along training" in page
    assert "step-0000010" in page
    shown = tracked.folder / "step-0000010.png"
    assert shown.read_bytes() == (tracked.model_folder / "looks" / shown.name).read_bytes()


def test_wrong_settings_are_refused_before_training(tmp_path: Path) -> None:
    for track, said in (
        ({**TRACK, "every": 0}, "track.every"),
        ({**TRACK, "metrics": []}, "track.metrics"),
        ({"metrics": ["fid"]}, "every"),
    ):
        with pytest.raises(ConfigError, match=said):
            experiment(tmp_path, track)
    with pytest.raises(IncompatibleError, match="inception-score"):
        experiment(tmp_path, {**TRACK, "metrics": ["inception-score"]})
