"""The benchmarks run, on little work, without other libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parents[1] / "examples" / "benchmarks"


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(HOME / script), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return done.stdout


def test_work_precision_writes_a_table_a_plot_and_the_figures(tmp_path: Path) -> None:
    out = tmp_path / "figures"
    given = [
        "--problem",
        "mixture-1d",
        "--calls",
        "6",
        "--samples",
        "16",
        "--trials",
        "20",
        "--out",
        str(out),
    ]
    said = run("work_precision.py", *given)
    assert "mixture-1d" in said
    assert out.with_suffix(".png").stat().st_size > 1000
    results = json.loads(out.with_suffix(".json").read_text())["results"]
    errors = {(r["solver"], r["grid"]): r["error"] for r in results if r["owner"] == "diffkit"}
    assert errors["adams velocity 3", "noise-share"] < 0.5 * errors["ddim", "uniform"]


def test_the_loop_costs_little_and_memory_is_flat() -> None:
    said = run("sampler_overhead.py", "--batch", "8", "--steps", "5", "--rounds", "1")
    few, many = (
        int(word.replace(",", "")) for word in said.split() if word.replace(",", "").isdigit() and "," in word
    )
    assert many < 1.05 * few
