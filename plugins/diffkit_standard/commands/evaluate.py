"""`diffkit evaluate`: one stage of a run."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import attrs
import click

from diffkit.cli import options
from diffkit_standard.commands import _options

if TYPE_CHECKING:
    from diffkit.experiment import Experiment

__all__ = ["command"]


@click.command("evaluate")
@options.on_experiment
@_options.which_checkpoint
@options.json_output
def command(experiment: Experiment, checkpoint: str | int, as_json: bool) -> None:
    """Measure a trained model's samples.

    TARGET is a configuration (YAML), a run's folder, its manifest.json, or a saved model.
    """
    experiment.tell_caveats()
    figures = experiment.evaluate(checkpoint_name=checkpoint)
    if not (experiment.folder / "config.yaml").is_file():
        experiment.record()
    record = {name: attrs.asdict(figure) for name, figure in figures.items()}
    place = shlex.quote(str(experiment.folder))
    hint = f"diffkit report {place}, where the figures now stand in metrics.json"
    if checkpoint != "best":
        hint = f"another --checkpoint; the figures of each stand in {place}"
    options.announce(record, as_json, hint)
