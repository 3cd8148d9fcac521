"""Trainings that are killed, crowded or out of room: one trains, nothing is lost, and the end is the same.

A few cases in an ordinary run, all of them in `make prove`.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffkit import storage

CONFIG = """
name: small
dataset: digits
network: {name: unet, channels: 8, multipliers: [1, 1], heads: 2}
training: {steps: 60, batch_size: 8, precision: fp32, save_every: 3, keep_last: 2}
"""
KILLS = 30


def begun(folder: Path, **more: object) -> subprocess.Popen[str]:
    (folder / "small.yaml").write_text(CONFIG)
    return subprocess.Popen(
        [sys.executable, "-m", "diffkit", "train", "small.yaml"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **more,  # type: ignore[call-overload]
    )


def model_in(folder: Path) -> Path | None:
    return next((path.parent for path in (folder / "runs" / "models").glob("*/model.json")), None)


def written(folder: Path) -> set[str]:
    """The names of checkpoints, whole and in writing."""
    model = model_in(folder)
    return set() if model is None else {entry.name for entry in (model / "checkpoints").glob("*")}


def ended_on(folder: Path) -> dict[str, str]:
    """The checksums of the last checkpoint of a finished training."""
    model = model_in(folder)
    assert model is not None
    assert storage.snapshot_steps(model)[-1] == 60
    files: dict[str, str] = storage.read_json(storage.snapshot_folder(model, 60) / "state.json")["files"]
    return files


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    child = begun(folder)
    _, said = child.communicate(timeout=300)
    assert child.returncode == 0, said
    return ended_on(folder)


@pytest.mark.parametrize("kills", [2, pytest.param(KILLS, marks=pytest.mark.prove)])
def test_killed_at_any_moment_it_ends_on_the_same_weights(
    tmp_path: Path, undisturbed: dict[str, str], kills: int
) -> None:
    """Each start is killed at a random moment after its first new checkpoint began to be written."""
    chance = random.Random(kills)
    done = 0
    while done < kills:
        seen = written(tmp_path)  # what the one killed before left half-written is no news
        child = begun(tmp_path)
        deadline = time.monotonic() + 120
        while child.poll() is None and time.monotonic() < deadline and not written(tmp_path) - seen:
            time.sleep(0.001)
        time.sleep(chance.choice([0.0, chance.uniform(0.0, 0.02), chance.uniform(0.0, 0.1)]))
        child.kill()
        child.communicate(timeout=60)
        if child.returncode == 0:  # it had come to its end; begin anew
            model = model_in(tmp_path)
            assert model is not None
            assert ended_on(tmp_path) == undisturbed
            storage.remove(model)
            continue
        assert child.returncode == -signal.SIGKILL
        done += 1
    child = begun(tmp_path)
    _, said = child.communicate(timeout=300)
    assert child.returncode == 0, said
    assert ended_on(tmp_path) == undisturbed


@pytest.mark.parametrize("starts", [2, pytest.param(8, marks=pytest.mark.prove)])
def test_of_several_at_once_one_trains(tmp_path: Path, undisturbed: dict[str, str], starts: int) -> None:
    children = [begun(tmp_path) for _ in range(starts)]
    said = [child.communicate(timeout=600)[1] for child in children]
    trained = [
        text for text in said if "training " in text and "reusing it" not in text and "Another" not in text
    ]
    refused = [text for text in said if "Another process is training" in text]
    found = [text for text in said if "reusing it" in text]  # one that started after the end of the first
    assert len(trained) == 1
    assert len(trained) + len(refused) + len(found) == starts
    assert sorted(child.returncode for child in children) == [0] * (starts - len(refused)) + [1] * len(
        refused
    )
    assert ended_on(tmp_path) == undisturbed


def test_out_of_room_the_old_checkpoint_stays(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """A limit on the size of files stands for a full disk: the checkpoint that does not fit is refused."""
    child = begun(tmp_path)
    while (model := model_in(tmp_path)) is None or not storage.snapshot_steps(model):
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.communicate(timeout=60)
    whole = storage.snapshot_steps(model)

    def little_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    child = begun(tmp_path, preexec_fn=little_room)
    _, said = child.communicate(timeout=300)
    assert child.returncode == 1
    assert "could not be written" in said
    assert "earlier checkpoints are untouched" in said
    assert "Traceback" not in said
    assert storage.snapshot_steps(model) == whole
    assert not list((model / "checkpoints").glob(".*.tmp"))
    child = begun(tmp_path)
    child.communicate(timeout=300)
    assert child.returncode == 0
    assert ended_on(tmp_path) == undisturbed
