"""`diffkit sample`: one stage of a run."""

from __future__ import annotations

from pathlib import Path

import click

from diffkit.cli import options

__all__ = ["command"]


@click.command("sample")
@click.argument("target")
@options.overrides
@options.runs
@click.option("--count", type=click.IntRange(min=1), help="How many samples.")
@click.option("--steps", type=click.IntRange(min=1), help="Denoiser calls of a one-call sampler.")
@click.option("--sampler", help="The numerical method's name.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the noise.")
@click.option("--label", type=click.IntRange(min=0), help="The class, for a model trained on labels.")
@options.which_checkpoint
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("samples"),
    show_default=True,
    help="The folder for samples.npz and samples.png.",
)
@options.json_output
def command(
    target: str,
    overrides: tuple[str, ...],
    runs: Path | None,
    count: int | None,
    steps: int | None,
    sampler: str | None,
    seed: int | None,
    label: int | None,
    checkpoint: str,
    out: Path,
    as_json: bool,
) -> None:
    """Draw samples from a trained model.

    TARGET is a configuration (YAML), a run's folder, its manifest.json, or a saved model.
    """
    experiment = options.open_experiment(target, overrides, runs)
    result = experiment.sample(
        count,
        label=label,
        sampler=sampler,
        steps=steps,
        seed=seed,
        model=experiment.model(options.checkpoint_of(checkpoint)),
    )
    experiment.write_samples(result, out)
    record = {
        "samples": str(out / "samples.npz"),
        "sheet": str(out / "samples.png"),
        "count": len(result.x),
        "nfe": result.nfe,
    }
    options.announce(record, as_json)
