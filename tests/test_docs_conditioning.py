"""What docs/conditioning.md tells a reader to type does what it says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diffkit

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "conditioning.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
PYTHON = [body for kind, body in BLOCKS if kind == "python"]
COMMANDS = [line for kind, body in BLOCKS if kind == "console" for line in body.splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models, pictures and masks that the page speaks of, all small."""
    folder = tmp_path_factory.mktemp("conditioning")
    shutil.copytree(ROOT / "examples" / "configs", folder / "examples" / "configs")
    small = ["training.steps=3", "network.channels=8", "network.multipliers=[1,1]", "network.heads=2"]
    config = folder / "examples" / "configs" / "digits.yaml"
    experiment = diffkit.Experiment.from_file(config, small, runs=folder / "made", quiet=True)
    experiment.train()
    for name in ("my-model", "runs/digits-1a2b3c4d5e"):
        experiment.save(folder / name)
    (folder / "photographs").mkdir()
    for number in range(2):
        Image.fromarray(np.full((8, 8), 90 * number, dtype=np.uint8)).save(
            folder / f"photographs/{number}.png"
        )
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(folder / "holes.png")
    return folder


@pytest.mark.parametrize("line", [line for line in COMMANDS if "classifier" not in line])
def test_a_command(line: str, place: Path) -> None:
    """Run as it stands; what would train is only checked."""
    words = shlex.split(line)[1:]
    words += ["--dry-run"] if words[0] == "run" else ["--steps", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "diffkit", *words],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_training_and_using_a_classifier(place: Path) -> None:
    train, run = (line for line in COMMANDS if "classifier" in line)
    shorter = [*shlex.split(train)[1:], "--set", "training.steps=2", "--set", "network.channels=8"]
    for words in (shorter, [*shlex.split(run)[1:], "--dry-run"]):
        call = [sys.executable, "-m", "diffkit", *words]
        done = subprocess.run(call, cwd=place, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr


def test_the_library_examples(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    told = {}
    for code in PYTHON:
        if "Experiment" in code:  # with the small model in place of the one that it would train
            code = code.replace("examples/configs/digits.yaml", "my-model").replace("experiment.train()", "")
        names: dict[str, object] = {"__name__": "page"}
        exec(compile(code, "conditioning.md", "exec"), names)
        told.update(names)
    assert torch.as_tensor(told["images"]).shape == (4, 8, 1, 8, 8)
    assert Path("completed.png").stat().st_size > 1000
    frames, a, b = (torch.as_tensor(told[name]) for name in ("frames", "a", "b"))
    torch.testing.assert_close(frames[0], a, atol=0.02, rtol=0.0)
    torch.testing.assert_close(frames[-1], b, atol=0.02, rtol=0.0)
    blur, y, restored = diffkit.create("operator", "blur", width=0.8), told["y"], told["restored"]
    off = blur.apply(torch.as_tensor(restored)) - torch.as_tensor(y)
    assert float(off.std()) < 0.1
