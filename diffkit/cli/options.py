"""What the commands that run something have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from diffkit.experiment import Experiment

__all__ = [
    "announce",
    "checkpoint_of",
    "fresh",
    "json_output",
    "open_experiment",
    "overrides",
    "runs",
    "which_checkpoint",
]

overrides = click.option(
    "--set", "overrides", multiple=True, metavar="a.b=VALUE", help="Change one key; the value is YAML."
)
runs = click.option(
    "--runs",
    type=click.Path(path_type=Path),
    help="Where runs are kept: by default ./runs, or where the run in hand stands.",
)
fresh = click.option("--fresh", is_flag=True, help="Train anew, even if an equal model is there.")
json_output = click.option("--json", "as_json", is_flag=True, help="Print only JSON on stdout.")
which_checkpoint = click.option(
    "--checkpoint", default="best", show_default=True, metavar="best|last|STEP", help="Which weights."
)


def open_experiment(target: str, overrides: tuple[str, ...], runs: Path | None) -> Experiment:
    """The experiment of a configuration, a run's folder, its manifest or a saved model."""
    from diffkit.experiment import Experiment

    return Experiment.from_file(target, overrides, runs=runs)


def checkpoint_of(text: str) -> str | int:
    """`best`, `last` or a step's number, as it was written."""
    return int(text) if text.isdigit() else text


def announce(record: dict[str, Any], as_json: bool) -> None:
    """A command's result, said once by however many processes: as JSON, or one line an entry."""
    from diffkit.sharding import processes

    _, rank = processes()
    if rank != 0:
        return
    if as_json:
        click.echo(json.dumps(record, indent=2))
        return
    for key, value in record.items():
        for name, shown in value.items() if key == "metrics" else ((key, value),):
            click.echo(f"{name}: {_brief(shown)}")


def _brief(value: Any) -> str:
    """A value for one line; of a figure, what one reads first."""
    if isinstance(value, dict) and {"value", "error", "count"} <= set(value):
        error = "" if value["error"] is None else f" +- {value['error']:.2g}"
        return f"{value['value']:.5g}{error} ({value['count']} samples)"
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)
