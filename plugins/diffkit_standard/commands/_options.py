"""What several of these commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from diffkit.cli import complete

__all__ = ["choices", "folder", "which_checkpoint"]

Command = Callable[..., None]

which_checkpoint = click.option(
    "--checkpoint",
    default="best",
    show_default=True,
    metavar="best|last|STEP",
    callback=lambda context, option, text: int(text) if text.isdigit() else text,
    help="Which weights.",
)


def folder(default: str, help: str) -> Callable[[Command], Command]:
    """Adds --out, the folder that a command writes to."""
    kind = click.Path(path_type=Path)
    return click.option("--out", type=kind, default=Path(default), show_default=True, help=help)


def choices(function: Command) -> Command:
    """Adds what `Experiment.sample` may be told in the configuration's place."""
    for option in (
        click.option("--label", type=click.IntRange(min=0), help="The class, for a model trained on labels."),
        click.option("--seed", type=click.IntRange(min=0), help="Of the noise."),
        click.option(
            "--sampler", help="The numerical method's name.", shell_complete=complete.names("sampler")
        ),
        click.option("--steps", type=click.IntRange(min=1), help="Denoiser calls of a one-call sampler."),
    ):
        function = option(function)
    return function
