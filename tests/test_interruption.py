"""Ctrl-C and SIGTERM while training: the step is finished and saved, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffkit import storage

# Ctrl-C may be ignored by processes in the background, so the child takes it back.
CHILD = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from diffkit import hooks
from diffkit.cli.main import main

class Slow:
    @hooks.implementation
    def diffkit_train_step(self, event):
        print(event.step, flush=True)
        time.sleep(float(sys.argv[2]))

hooks.installed().register(Slow(), "slow")
main(["train", "small.yaml", "--runs", sys.argv[1]])
"""

CONFIG = """
name: small
dataset: digits
network: {name: unet, channels: 8, multipliers: [1, 1], heads: 2}
training: {steps: 40, batch_size: 8, precision: fp32, save_every: 1000}
"""


def started(folder: Path, runs: str, pause: float) -> subprocess.Popen[str]:
    (folder / "small.yaml").write_text(CONFIG)
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, runs, str(pause)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for_step(child: subprocess.Popen[str], number: int) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == str(number):
            return
    raise AssertionError(child.communicate()[1])


def model_of(folder: Path, runs: str) -> Path:
    (model,) = (path.parent for path in (folder / runs / "models").glob("*/model.json"))
    return model


def weights_of(folder: Path, runs: str) -> dict[str, str]:
    model = model_of(folder, runs)
    (step,) = storage.snapshot_steps(model)
    files: dict[str, str] = storage.read_json(storage.snapshot_folder(model, step) / "state.json")["files"]
    return files


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_same_command_goes_on(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    child = started(tmp_path, "runs", 0.05)
    wait_for_step(child, 5)
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert child.returncode == status, said
    assert "stopped and saved at step" in said
    (step,) = storage.snapshot_steps(model_of(tmp_path, "runs"))
    assert 5 <= step < 40
    again, undisturbed = started(tmp_path, "runs", 0.0), started(tmp_path, "others", 0.0)
    assert f"from step {step}" in again.communicate(timeout=100)[1]
    undisturbed.communicate(timeout=100)
    assert weights_of(tmp_path, "runs") == weights_of(tmp_path, "others")


def test_a_second_signal_leaves_at_once(tmp_path: Path) -> None:
    child = started(tmp_path, "runs", 30.0)
    wait_for_step(child, 1)
    begun = time.monotonic()
    child.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert child.poll() is None  # the step's end is 30 s away
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=25)
    assert child.returncode == 143
    assert time.monotonic() - begun < 25
    assert not storage.snapshot_steps(model_of(tmp_path, "runs"))
