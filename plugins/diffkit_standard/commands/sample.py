"""`diffkit sample`: one stage of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diffkit.cli import options
from diffkit_standard.commands import _options

if TYPE_CHECKING:
    from diffkit.experiment import Experiment

__all__ = ["command"]


@click.command("sample")
@options.on_experiment
@click.option("--count", type=click.IntRange(min=1), help="How many samples.")
@_options.choices
@_options.which_checkpoint
@_options.folder("samples", "The folder for samples.npz and samples.png.")
@options.json_output
def command(
    experiment: Experiment, count: int | None, checkpoint: str | int, out: Path, as_json: bool, **choices: Any
) -> None:
    """Draw samples from a trained model.

    TARGET is a configuration (YAML), a run's folder, its manifest.json, or a saved model.
    """
    choices["label"] = _options.class_number(experiment, choices["label"])
    result = experiment.sample(count, model=experiment.model(checkpoint), **choices)
    experiment.write_samples(result, out)
    record = {
        "samples": str(out / "samples.npz"),
        "sheet": str(out / "samples.png"),
        "count": len(result.x),
        "nfe": result.nfe,
    }
    options.announce(
        record, as_json, "another --seed, --sampler or --steps; `diffkit list sampler` names them"
    )
