"""`diffkit evaluate`: one stage of a run."""

from __future__ import annotations

from pathlib import Path

import attrs
import click

from diffkit.cli import options

__all__ = ["command"]


@click.command("evaluate")
@click.argument("target")
@options.overrides
@options.runs
@options.which_checkpoint
@options.json_output
def command(
    target: str, overrides: tuple[str, ...], runs: Path | None, checkpoint: str, as_json: bool
) -> None:
    """Measure a trained model's samples.

    TARGET is a configuration (YAML), a run's folder, its manifest.json, or a saved model.
    """
    experiment = options.open_experiment(target, overrides, runs)
    figures = experiment.evaluate(checkpoint_name=options.checkpoint_of(checkpoint))
    options.announce({name: attrs.asdict(figure) for name, figure in figures.items()}, as_json)
