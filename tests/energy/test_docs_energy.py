"""What docs/energy.md tells a reader to type does what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "energy.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, body in BLOCKS if kind == "console" for line in body.splitlines()]


@pytest.mark.parametrize("line", [line for line in COMMANDS if "film" not in line])
def test_a_command(line: str) -> None:
    call = [sys.executable, "-m", "diffkit", *shlex.split(line)[1:]]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def test_the_library_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told: dict[str, object] = {}
    for kind, code in BLOCKS:
        if kind == "python":
            exec(compile(code, "energy.md", "exec"), told)
    shares = [float((told[name].x > 0.05).float().mean()) for name in ("moved", "still")]  # type: ignore[attr-defined]
    assert shares == [pytest.approx(0.329, abs=0.04), pytest.approx(0.49, abs=0.05)]
    assert torch.unique(told["still"].x.round(decimals=3)).numel() == 2  # type: ignore[attr-defined]
    assert Path("landscape.png").stat().st_size > 1000
