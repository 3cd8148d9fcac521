"""`diffkit report`: one stage of a run."""

from __future__ import annotations

from pathlib import Path

import click

from diffkit.cli import options

__all__ = ["command"]


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@options.json_output
def command(run: Path, as_json: bool) -> None:
    """Write the report of a RUN's folder again."""
    from diffkit.experiment import Experiment

    experiment = Experiment.from_file(run, runs=run.parent)
    options.announce({"report": str(experiment.report())}, as_json)
