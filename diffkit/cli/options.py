"""What the commands that run something have in common."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from diffkit.cli import complete

__all__ = [
    "announce",
    "fresh",
    "json_output",
    "on_experiment",
    "overrides",
    "quiet",
]

Command = Callable[..., None]

overrides = click.option(
    "--set", "overrides", multiple=True, metavar="a.b=VALUE", help="Change one key; the value is YAML."
)
runs = click.option(
    "--runs",
    type=click.Path(path_type=Path),
    help="Where runs are kept: by default ./runs, or where the run in hand stands.",
)
fresh = click.option("--fresh", is_flag=True, help="Train anew, even if an equal model is there.")
quiet = click.option("--quiet", is_flag=True, help="No word on progress, nor on what to try next.")
json_output = click.option("--json", "as_json", is_flag=True, help="Print only JSON on stdout.")


def on_experiment(function: Command) -> Command:
    """Adds TARGET, --set, --runs and --quiet to a command, which is given the experiment they stand for."""

    @click.argument("target", shell_complete=complete.runs)
    @overrides
    @runs
    @quiet
    @functools.wraps(function)
    def opened(target: str, overrides: tuple[str, ...], runs: Path | None, quiet: bool, **given: Any) -> None:
        from diffkit.experiment import Experiment

        function(Experiment.from_file(target, overrides, runs=runs, quiet=quiet), **given)

    return opened


def announce(record: dict[str, Any], as_json: bool, *hints: str) -> None:
    """A command's result, said once by however many processes: as JSON, or one line an entry.

    Before it comes, on stderr and unless --json or --quiet is given, what one may want to type next.
    """
    from diffkit.sharding import is_main

    if not is_main():
        return
    if as_json:
        click.echo(json.dumps(record, indent=2))
        return
    if not click.get_current_context().params.get("quiet"):
        for number, hint in enumerate(hints):
            click.echo(f"{'      ' if number else 'next: '}{hint}", err=True)
    for key, value in record.items():
        for name, shown in value.items() if key == "metrics" else ((key, value),):
            click.echo(f"{name}: {_brief(shown)}")


def _brief(value: Any) -> str:
    """A value for one line; of a figure, what one reads first."""
    if isinstance(value, dict) and {"value", "error", "count"} <= set(value):
        error = "" if value["error"] is None else f" +- {value['error']:.2g}"
        floor = value.get("details", {}).get("floor")
        real = f"; real data {floor['value']:.3g}" if floor else ""
        return f"{value['value']:.5g}{error} ({value['count']} samples{real})"
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)
