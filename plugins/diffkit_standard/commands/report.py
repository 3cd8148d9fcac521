"""`diffkit report`: one stage of a run."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from diffkit.cli import complete, options
from diffkit.errors import CheckpointError

__all__ = ["command"]


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path), shell_complete=complete.runs)
@options.quiet
@options.json_output
def command(run: Path, quiet: bool, as_json: bool) -> None:
    """Write the report of a RUN again, from what is in its folder.

    RUN is the run's folder, its manifest.json, or the configuration (YAML) it was made of. Of a run that
    broke off the page says what is missing.
    """
    from diffkit import report

    page = report.build(folder := _folder(run))
    options.announce(
        {"report": str(page)}, as_json, f"diffkit compare {shlex.quote(str(folder))} ANOTHER-RUN"
    )


def _folder(run: Path) -> Path:
    from diffkit.checkpoint import DESCRIPTION

    if (run / DESCRIPTION).is_file():
        raise CheckpointError(
            f"{run} is a model",
            "a run of it",
            "Make one: diffkit run CONFIG",
        )
    if not run.is_file():
        return run
    if (run.parent / "manifest.json").is_file():
        return run.parent
    from diffkit.experiment import Experiment

    return Experiment.from_file(run, quiet=True).folder
