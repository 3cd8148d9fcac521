"""`diffkit history`: the runs that were finished, in their order."""

from __future__ import annotations

import json
from pathlib import Path

import click
from diffkit.errors import ConfigError


@click.command("history")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), help="Where runs are kept.")
def command(runs: Path) -> None:
    """Show the runs that were finished, and their figures."""
    history = runs / "history.jsonl"
    if not history.is_file():
        raise ConfigError(f"{history} is not there", "a run that was finished", "Run something first")
    for line in map(json.loads, history.read_text(encoding="utf-8").splitlines()):
        figures = ", ".join(f"{name} {value:.3g}" for name, value in line["figures"].items())
        click.echo(f"{line['run']}  seed {line['seed']}  {figures or 'no figures'}")
