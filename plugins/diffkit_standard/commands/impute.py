"""`diffkit impute`: completes what a mask hides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diffkit.cli import options
from diffkit_standard.commands import _options

if TYPE_CHECKING:
    from diffkit.experiment import Experiment

__all__ = ["command"]


@click.command("impute")
@options.on_experiment
@click.option(
    "--images",
    default="held-out",
    show_default=True,
    help="A picture, a folder of pictures, an array (.npy, .npz), or the data set's held-out examples.",
)
@click.option(
    "--mask",
    default="centre",
    show_default=True,
    help="What is missing: centre, border, left-half or random:SHARE; or a file, 1 where observed.",
)
@click.option("--mask-missing", is_flag=True, help="The mask is 1 where missing instead.")
@click.option(
    "--method",
    type=click.Choice(("reconstruction", "replacement", "repaint", "particle")),
    default="reconstruction",
    show_default=True,
    help="How the observed part bends the samples.",
)
@click.option(
    "--option",
    "fields",
    multiple=True,
    metavar="NAME=VALUE",
    help="A field of the conditioner, such as guidance=pigdm or particle_count=32.",
)
@click.option("--count", type=click.IntRange(min=1), help="How many of the images, from the first.")
@click.option("--completions", type=click.IntRange(min=1), default=1, help="How many of each image.")
@_options.choices
@_options.which_checkpoint
@_options.folder("imputed", "The folder for samples.npz, samples.png and completed.png.")
@options.json_output
def command(
    experiment: Experiment,
    images: str,
    mask: str,
    mask_missing: bool,
    method: str,
    fields: tuple[str, ...],
    checkpoint: str | int,
    out: Path,
    as_json: bool,
    **choices: Any,
) -> None:
    """Complete the missing part of images; the observed part comes back exactly.

    TARGET is a configuration (YAML), a run's folder, its manifest.json, or a saved model.
    """
    from diffkit.documents import parse

    pairs = (field.partition("=") for field in fields)
    given = {name: parse(value, f"--option {name}") for name, _, value in pairs}
    choices["label"] = _options.class_number(experiment, choices["label"])
    result = experiment.impute(
        images,
        mask,
        method={"method": method, "mask_missing": mask_missing, **given},
        path=out / "completed.png",
        model=experiment.model(checkpoint),
        **choices,
    )
    experiment.write_samples(result, out)
    record = {
        "samples": str(out / "samples.npz"),
        "picture": str(out / "completed.png"),
        "count": len(result.x),
        "nfe": result.nfe,
    }
    options.announce(record, as_json, "another --mask, --method or --completions 4 to see the spread")
