"""What the README tells a newcomer to type does what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line for kind, body in BLOCKS if kind == "console" for line in body.splitlines()]
    told = [line.removeprefix("$ ").partition("#")[0].strip() for line in lines]
    return [line for line in told if line.startswith("diffkit ")]


@pytest.mark.parametrize("line", commands())
def test_a_command(line: str, tmp_path: Path) -> None:
    """Run as it stands; what would train is only checked."""
    words = shlex.split(line)[1:]
    if words[0] == "run":
        words += ["--runs", str(tmp_path)] + ([] if "--dry-run" in words else ["--dry-run"])
    call = [sys.executable, "-m", "diffkit", *words]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    refused = "exponential-integrator" in line and "sde=ve" in line
    assert done.returncode == (2 if refused else 0), done.stderr
    if refused:
        assert "linear drift" in done.stderr
        assert "ddim" in done.stderr


def test_the_library_example(capsys: pytest.CaptureFixture[str]) -> None:
    """The part that needs no training, as it stands."""
    (code,) = [body for kind, body in BLOCKS if kind == "python"]
    exact, training = code.split("experiment =")
    exec(compile(exact, "README.md", "exec"), {"__name__": "readme"})
    deviation, calls = re.findall(r"[\d.]+", capsys.readouterr().out)
    assert float(deviation) == pytest.approx(0.5, abs=0.03)
    assert int(calls) == 20
    assert "sample_and_plot" in training


def test_make_targets_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", TEXT, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_links_lead_somewhere() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / path).exists(), path
