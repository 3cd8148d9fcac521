"""What guidance buys and costs: class accuracy and FID of a trained model against the guidance scale.

    python examples/benchmarks/guidance.py runs/models/digits-... --count 2000
    python examples/benchmarks/guidance.py runs/models/mnist-...  --scale 1 --scale 1.5 --scale 3 --steps 20
    python examples/benchmarks/guidance.py runs/models/mnist-...  --classifier mnist-classifier

Every scale draws the same number of samples from the same noise, the classes in turn. Accuracy is how often
the features classifier finds the class that was asked for, FID is taken in its features, and both stand
beside held-out real data. The best scale is the most accurate of those whose FID is at most 1.2 times the
least. With --classifier, its own accuracy on noised held-out data is told too. Leaves a table on stdout,
and OUT.json, OUT.png.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import click
import torch
from matplotlib.figure import Figure

import diffkit
from diffkit import measuring
from diffkit.evaluation import Evaluation
from diffkit.experiment import Experiment
from diffkit.interfaces.metric import Measurement

SCALES = (0.0, 0.5, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)
DEARER = 1.2
"""By what factor the FID of a chosen scale may exceed the least."""


@attrs.frozen(kw_only=True)
class Row:
    """One scale: what was measured, and the seconds that sampling took."""

    scale: float
    accuracy: float
    accuracy_error: float
    fid: float
    fid_error: float
    seconds: float


def judge(experiment: Experiment, cache: Path, count: int, seed: int) -> Evaluation:
    return Evaluation(
        dataset=experiment.dataset,
        metrics={name: diffkit.create("metric", name) for name in ("class-accuracy", "fid")},
        features=diffkit.create("features", "classifier"),
        count=count,
        seed=seed,
        cache=cache,
    )


def figures_at(
    experiment: Experiment, evaluation: Evaluation, bend: dict[str, Any], first_scale: bool, **given: Any
) -> tuple[dict[str, Measurement], float]:
    """The figures under a conditioner, those of held-out data in the details of the first scale's."""
    begun = time.perf_counter()
    result = experiment.sample(conditioners=[bend], seed=evaluation.seed, **given)
    seconds = time.perf_counter() - begun
    batches = measuring.sample_batches(experiment.dataset, result.x.cpu(), label=result.label)
    take = evaluation.run if first_scale else evaluation.score
    return take(experiment.model(), batches), seconds


@torch.no_grad()
def accuracy_by_level(experiment: Experiment, path: str, count: int, seed: int) -> list[tuple[float, float]]:
    """(t, share of noised held-out examples that the guiding classifier tells rightly)."""
    classifier = diffkit.load(path)
    (batch,) = measuring.real_batches(experiment.dataset, "test", count=count, seed=seed, batch_size=count)
    found = []
    for t in torch.linspace(classifier.sde.t_min, classifier.sde.t_max, 11).tolist():
        x_t = diffkit.renoise(batch.x, sde=classifier.sde, t=t, seed=seed).to(classifier.device)
        guessed = classifier.logits(x_t, torch.tensor(t, dtype=torch.float64)).argmax(1).cpu()
        found.append((t, float((guessed == batch.label).double().mean())))
    return found


def chosen(rows: list[Row]) -> Row:
    """The most accurate scale of those whose FID is near the least."""
    least = min(row.fid for row in rows)
    return max((row for row in rows if row.fid <= DEARER * least), key=lambda row: row.accuracy)


def table(rows: list[Row], best: Row, floor: dict[str, Any]) -> list[str]:
    least = min(row.fid for row in rows)
    lines = ["| scale | class accuracy | FID | FID / least | seconds |", "|---" * 5 + "|"]
    lines += [
        f"| {row.scale:g}{' *' if row is best else ''} | {row.accuracy:.4f} +- {row.accuracy_error:.4f} | "
        f"{row.fid:.2f} +- {row.fid_error:.2f} | {row.fid / least:.2f} | {row.seconds:.0f} |"
        for row in rows
    ]
    real = {name: f"{each['value']:.4g} +- {each['error']:.2g}" for name, each in floor.items()}
    lines.append(f"| held-out data | {real['class-accuracy']} | {real['fid']} | | |")
    return lines


def plot(rows: list[Row], best: Row, floor: dict[str, Any], title: str, path: Path) -> None:
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    scales = [row.scale for row in rows]
    left.errorbar(
        scales,
        [100.0 * row.accuracy for row in rows],
        [100.0 * row.accuracy_error for row in rows],
        color="C0",
        marker="o",
        markersize=4,
        capsize=2,
    )
    right.errorbar(
        scales,
        [row.fid for row in rows],
        [row.fid_error for row in rows],
        color="C3",
        marker="s",
        markersize=4,
        capsize=2,
    )
    left.axhline(100.0 * floor["class-accuracy"]["value"], color="C0", linestyle=":", linewidth=1.0)
    right.axhline(floor["fid"]["value"], color="C3", linestyle=":", linewidth=1.0)
    left.axvline(best.scale, color="0.6", linestyle="--", linewidth=1.0)
    left.set(title=title, xlabel="guidance scale")
    left.set_ylabel("class accuracy (%)", color="C0")
    right.set_ylabel("FID, features of the classifier", color="C3")
    left.annotate(
        f" {best.scale:g}", (best.scale, 0.02), xycoords=("data", "axes fraction"), fontsize=8, color="0.4"
    )
    left.annotate("dotted: held-out data", (0.99, 0.02), xycoords="axes fraction", ha="right", fontsize=8)
    figure.savefig(path, dpi=110)


@click.command(help=__doc__.partition("\n")[0])
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--scale", "scales", multiple=True, type=click.FloatRange(0.0), default=SCALES, show_default=True
)
@click.option("--classifier", type=click.Path(exists=True), help="Guide by this one; else classifier-free.")
@click.option("--count", default=2000, show_default=True, help="Samples a scale.")
@click.option("--steps", default=20, show_default=True, help="Denoiser calls of a one-call sampler.")
@click.option("--sampler", default="dpm-solver++", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), default=Path("runs/cache"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("guidance"), show_default=True)
def main(
    model: Path,
    scales: tuple[float, ...],
    classifier: str | None,
    count: int,
    steps: int,
    sampler: str,
    seed: int,
    cache: Path,
    out: Path,
) -> None:
    experiment = Experiment.from_file(model, quiet=True)
    evaluation = judge(experiment, cache, count, seed)
    bend: dict[str, Any] = {"name": "class-guidance", "label": "each"}
    if classifier is not None:
        bend = {"name": "classifier-guidance", "label": "each", "classifier": classifier}
    rows: list[Row] = []
    floor: dict[str, Any] = {}
    for scale in sorted(set(scales)):
        figures, seconds = figures_at(
            experiment,
            evaluation,
            {**bend, "scale": scale},
            not rows,
            count=count,
            steps=steps,
            sampler=sampler,
        )
        if not rows:
            floor = {name: figure.details["floor"] for name, figure in figures.items()}
        accuracy, fid = figures["class-accuracy"], figures["fid"]
        rows.append(
            Row(
                scale=scale,
                accuracy=accuracy.value,
                accuracy_error=accuracy.error or 0.0,
                fid=fid.value,
                fid_error=fid.error or 0.0,
                seconds=seconds,
            )
        )
        click.echo(f"  scale {scale:g}: accuracy {accuracy.value:.4f}, FID {fid.value:.2f}", err=True)
    levels = accuracy_by_level(experiment, classifier, count, seed) if classifier is not None else []
    for t, share in levels:
        click.echo(f"  classifier at t = {t:.2f}: {share:.3f} of held-out examples", err=True)
    best = chosen(rows)
    click.echo("\n".join(table(rows, best, floor)))
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "model": str(model),
        "guidance": bend,
        "count": count,
        "steps": steps,
        "sampler": sampler,
        "seed": seed,
        "features": figures["fid"].details["features"],
        "threads": torch.get_num_threads(),
        "rows": [attrs.asdict(row) for row in rows],
        "held_out": floor,
        "best": attrs.asdict(best),
        "classifier_accuracy": levels,
    }
    out.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    title = f"{experiment.config.name}: {bend['name']}, {count} samples a scale, {sampler}, {steps} steps"
    plot(rows, best, floor, title, out.with_suffix(".png"))


if __name__ == "__main__":
    sys.exit(main())
