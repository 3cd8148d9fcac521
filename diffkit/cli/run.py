"""`diffkit run`: the main job."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from diffkit.cli import options

if TYPE_CHECKING:
    from diffkit.experiment import Experiment

__all__ = ["command"]


@click.command("run")
@options.on_experiment
@options.fresh
@click.option("--dry-run", is_flag=True, help="Check everything and say what would be done; read no data.")
@click.option("--any-version", is_flag=True, help="Repeat a run even with other versions than it records.")
@options.json_output
def command(experiment: Experiment, fresh: bool, dry_run: bool, any_version: bool, as_json: bool) -> None:
    """Train a model or find it, sample, measure, and write a report.

    TARGET is a configuration (YAML), a run's folder, or its manifest.json.
    """
    if dry_run:
        record = experiment.dry_run(any_version=any_version)
        hints = ["the same without --dry-run"]
    else:
        record = experiment.run(fresh=fresh, any_version=any_version).as_json()
        place = shlex.quote(record["run"])
        other = 20 if experiment.config.sampling.steps == 10 else 10
        hints = [f"diffkit run {place} --set sampling.steps={other}", f"diffkit compare {place} ANOTHER-RUN"]
    options.announce(record, as_json, *hints)
