"""What several of these commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from diffkit.cli import complete

if TYPE_CHECKING:
    from diffkit.experiment import Experiment

__all__ = ["choices", "class_number", "folder", "which_checkpoint"]

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
        click.option(
            "--label", metavar="CLASS", help="The class, by number or name, for a model trained on labels."
        ),
        click.option("--seed", type=click.IntRange(min=0), help="Of the noise."),
        click.option(
            "--sampler", help="The numerical method's name.", shell_complete=complete.names("sampler")
        ),
        click.option("--steps", type=click.IntRange(min=1), help="Denoiser calls of a one-call sampler."),
    ):
        function = option(function)
    return function


def class_number(experiment: Experiment, label: str | None) -> int | None:
    """The class that --label asks for: its number, or that of its name in the data set."""
    from diffkit.errors import ConfigError

    names = experiment.config.dataset.spec().names
    if label is None or label.isdecimal():
        return None if label is None else int(label)
    if label not in names:
        known = f", or one of {', '.join(names)}" if names else ""
        raise ConfigError(f"--label is {label!r}", f"the number of a class, from 0{known}")
    return names.index(label)
