"""`diffkit run`: the main job."""

from __future__ import annotations

from pathlib import Path

import click

from diffkit.cli import options

__all__ = ["command"]


@click.command("run")
@click.argument("target")
@options.overrides
@options.runs
@options.fresh
@click.option("--dry-run", is_flag=True, help="Check everything and say what would be done; read no data.")
@options.json_output
def command(
    target: str, overrides: tuple[str, ...], runs: Path | None, fresh: bool, dry_run: bool, as_json: bool
) -> None:
    """Train a model or find it, sample, measure, and write a report.

    TARGET is a configuration (YAML), a run's folder, or its manifest.json.
    """
    experiment = options.open_experiment(target, overrides, runs)
    record = experiment.dry_run() if dry_run else experiment.run(fresh=fresh).as_json()
    options.announce(record, as_json)
