"""`diffkit report`: one stage of a run."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from diffkit.cli import complete, options

__all__ = ["command"]


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path), shell_complete=complete.runs)
@options.quiet
@options.json_output
def command(run: Path, quiet: bool, as_json: bool) -> None:
    """Write the report of a RUN's folder again."""
    from diffkit.experiment import Experiment

    experiment = Experiment.from_file(run, runs=run.parent, quiet=quiet)
    page = experiment.report()
    options.announce({"report": str(page)}, as_json, f"diffkit compare {shlex.quote(str(run))} ANOTHER-RUN")
