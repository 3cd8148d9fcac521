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
    """Write the report of a RUN's folder again, from what is in it.

    Of a run that broke off the page says what is missing.
    """
    from diffkit import report

    folder = run.parent if run.is_file() else run
    page = report.build(folder)
    options.announce(
        {"report": str(page)}, as_json, f"diffkit compare {shlex.quote(str(folder))} ANOTHER-RUN"
    )
