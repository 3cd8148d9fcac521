"""`diffkit train`: one stage of a run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from diffkit.cli import options

if TYPE_CHECKING:
    from diffkit.experiment import Experiment

__all__ = ["command"]


@click.command("train")
@options.on_experiment
@options.fresh
@click.option("--out", type=click.Path(path_type=Path), help="Also save the model under this path.")
@options.json_output
def command(experiment: Experiment, fresh: bool, out: Path | None, as_json: bool) -> None:
    """Train a model, or find the equal one that was trained before.

    TARGET is a configuration (YAML), a run's folder, or its manifest.json.
    """
    from diffkit.checkpoint import require_free

    experiment.tell_caveats()
    if out is not None:  # told before training, not after it
        require_free(out)
    experiment.train(fresh=fresh)
    model = experiment.model_folder if out is None else experiment.save(out)
    place = shlex.quote(str(model))
    hints = (f"diffkit sample {place} --count 16", f"diffkit evaluate {place}")
    options.announce({"model": str(model)}, as_json, *hints)
