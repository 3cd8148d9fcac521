"""`diffkit list` with many plugins installed: its time as a multiple of that with the built-ins alone.

    python examples/benchmarks/listing.py --distributions 100 --components 3

Distributions are made on the spot, in a folder like site-packages; both commands run in turn, each in a
process of its own, and the fastest of several runs of each counts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

KINDS = ("schedules", "samplers", "metrics")


def install(folder: Path, distributions: int, components: int) -> None:
    """Metadata of distributions that bring a few components each; what they name must not be imported."""
    for number in range(distributions):
        info = folder / f"crowd_{number}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: crowd-{number}\nVersion: 1.0\n")
        lines = [f"[diffkit.{KINDS[number % len(KINDS)]}]"]
        lines += [f"crowd-{number}-{i} = crowd_{number}:Component" for i in range(components)]
        (info / "entry_points.txt").write_text("\n".join(lines))
        (folder / f"crowd_{number}.py").write_text("raise SystemExit('imported')\n")


def listing(path: str) -> tuple[float, int]:
    """Seconds that one `diffkit list` takes, and how many components it shows."""
    environment = {**os.environ, "PYTHONPATH": path}
    start = time.perf_counter()
    command = [sys.executable, "-m", "diffkit", "list"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return time.perf_counter() - start, len(done.stdout.splitlines()) - 1


@click.command()
@click.option("--distributions", default=100, show_default=True)
@click.option("--components", default=3, show_default=True, help="In each distribution.")
@click.option("--rounds", default=10, show_default=True)
def main(distributions: int, components: int, rounds: int) -> None:
    """Prints both times and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder), distributions, components)
        turns = [(listing(""), listing(folder)) for _ in range(rounds)]
    (alone, own), (crowded, all_of_them) = (min(column) for column in zip(*turns, strict=True))
    print(f"built-ins alone:     {own} components, {1e3 * alone:.0f} ms")
    print(f"with {distributions} more plugins: {all_of_them} components, {1e3 * crowded:.0f} ms")
    print(f"ratio: {crowded / alone:.2f}")


if __name__ == "__main__":
    main()
