"""`diffkit energy-film`: chains on their way down a learnt energy, for several checkpoints."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diffkit.cli import options
from diffkit.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from diffkit.experiment import Experiment
    from diffkit.interfaces.model import Model
    from diffkit.sampling import SampleStep

__all__ = ["command"]


def _numbers(context: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdigit() for word in words) or not any(int(word) for word in words):
        raise click.BadParameter("whole numbers with commas between them, one above 0 at least")
    return tuple(sorted({int(word) for word in words}))


@click.command("energy-film")
@options.on_experiment
@click.option("--count", type=click.IntRange(min=1), default=6, show_default=True, help="How many chains.")
@click.option(
    "--at",
    default="0,1,3,5,10,30,50,100,300,999",
    show_default=True,
    callback=_numbers,
    help="The steps to be shown.",
)
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    metavar="best|last|STEP",
    help="Which weights, once or more; by default all that were kept.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("film"),
    show_default=True,
    help="The folder for film-STEP.png, and landscape-STEP.png for examples of two elements at most.",
)
@options.json_output
def command(
    experiment: Experiment,
    count: int,
    at: tuple[int, ...],
    checkpoints: tuple[str, ...],
    out: Path,
    as_json: bool,
) -> None:
    """Draw Langevin chains at chosen steps, a film strip a checkpoint.

    TARGET is a configuration (YAML), a run's folder, its manifest.json, or a saved model.
    """
    from diffkit import plots
    from diffkit.sharding import is_main
    from diffkit_energy.plots import landscape

    dataset = experiment.dataset
    written: dict[int, str] = {}
    for name in checkpoints or (*map(str, experiment.checkpoints), "best"):
        model = experiment.model(int(name) if name.isdigit() else name)
        if "energy" not in model.offers:
            raise ConfigError(
                f"{experiment.config.name} is no energy-based model, and has nothing to run down",
                "a model trained by contrastive-divergence",
                "Name another TARGET",
            )
        if model.step in written:
            continue
        frames: list[Tensor] = []

        def keep(step: SampleStep, frames: list[Tensor] = frames) -> None:
            if step.number in at and int(step.index[0]) == 0:  # one chunk is enough
                frames.append(step.x.cpu())

        experiment.sample(count, model=model, steps=at[-1], on_step=keep)
        if not is_main():  # the first process has the first chunk, and draws
            continue
        captions = [f"step {number}" for number in at]
        strip = plots.film_strip(_pictures(dataset, frames), captions)
        written[model.step] = str(plots.save(strip, out / f"film-{model.step:06d}.png"))
        if math.prod(model.spec.shape) <= 2:
            reach = {"low": -3.0, "high": 3.0} if len(model.spec.shape) == 1 else {}
            energy = functools.partial(_energy_here, model)
            figure = landscape(energy, model.spec.shape, marks={"chains": frames[-1]}, **reach)
            plots.save(figure, out / f"landscape-{model.step:06d}.png")
    options.announce({"films": list(written.values())}, as_json)


def _energy_here(model: Model, x: Tensor) -> Tensor:
    """The energy of what is on the CPU, on the CPU, wherever the model computes."""
    return model.energy(x.to(model.device)).cpu()


def _pictures(dataset: Any, frames: list[Tensor]) -> Tensor:
    import torch

    return torch.stack([dataset.picture(x) for x in frames])
