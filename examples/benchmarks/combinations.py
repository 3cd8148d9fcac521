"""Every combination of process, schedule and sampler: time of training, time of sampling, quality.

    python examples/benchmarks/combinations.py                                   # 19 of them, on the digits
    python examples/benchmarks/combinations.py --all --out all                   # every allowed cell
    python examples/benchmarks/combinations.py --config mnist.yaml --set training.steps=5000 --count 2000

By default: VP and sub-VP, each with the schedules linear and cosine and four samplers, and VE with the three
samplers that it goes with. `--all` takes every cell that the computed compatibility allows, of the processes,
schedules and samplers that come with diffkit, those with a caveat included.

One model is trained for each process and schedule, and serves all its samplers. Every cell draws as many
samples from the same noise in as many steps (calls of the denoiser differ, and are told; an adaptive
sampler chooses its own). FID is in the features of a classifier trained on the data, and stands beside its
floor, that of held-out real data. (`--set objective=edm`, at home in every process, is fairest to VE.) Where
there is a GPU everything is done on it and on the CPU.

Times are by the clock, and beside them the processor's own time, which other work on the machine does not
lengthen; the threads are recorded. Finished cells are kept in OUT.json as
they come, and a training that was stopped goes on: the same command, given again, does what is missing.
Leaves a table on stdout, OUT.json and OUT.png.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import click

CONFIG = Path(__file__).parents[1] / "configs" / "digits.yaml"
SAMPLERS = ("euler-maruyama", "predictor-corrector", "probability-flow", "exponential-integrator")
NINETEEN = (
    *itertools.product(("vp", "sub-vp"), ("linear", "cosine"), SAMPLERS),
    *itertools.product(("ve",), ("geometric",), SAMPLERS[:3]),
)
DEVICES = ("cuda", "cpu")

Combination = tuple[str, str | None, str]
"""Process, its schedule (None: it takes none), sampler."""


@attrs.frozen(kw_only=True)
class Cell:
    """What was measured of one combination on one device.

    Args:
        training: seconds.
        trained_by_processor: seconds that this process computed for it; None if it was not in one go.
        sampling: seconds a sample.
        sampled_by_processor: seconds a sample that this process computed.
        calls: of the denoiser, for one sample.
    """

    device: str
    sde: str
    schedule: str | None
    sampler: str
    caveats: list[str]
    training: float
    trained_by_processor: float | None
    sampling: float
    sampled_by_processor: float
    calls: int
    fid: float
    error: float

    @property
    def name(self) -> str:
        return " ".join((self.sde, *([self.schedule] if self.schedule else []), self.sampler))


def allowed() -> Iterator[Combination]:
    """Every combination of diffkit's own that can work, as compatibility computes it."""
    from diffkit import compatibility, registry
    from diffkit.structure import settings

    def own(kind: str) -> list[str]:
        return [info.name for info in registry.components(kind) if info.distribution == "diffkit"]

    for name in own("sde"):
        sde = registry.create("sde", name)
        for schedule in own("schedule") if "schedule" in settings(type(sde)) else [None]:
            made = (
                compatibility.with_schedule(sde, registry.create("schedule", schedule)) if schedule else sde
            )
            for sampler in own("sampler"):
                selection = compatibility.Selection.of(made, registry.create("sampler", sampler))
                if all(finding.status != "refused" for finding in compatibility.check(selection)):
                    yield name, schedule, sampler


@attrs.frozen(kw_only=True, slots=False)
class Bench:
    """One device's work.

    Args:
        config, overrides: the experiment, but for process, schedule and sampler.
        runs: where models and what features need are kept.
        count, steps: samples a cell, and the steps of each.
        features: what FID sees them through.
    """

    device: str
    config: Path
    overrides: tuple[str, ...]
    runs: Path
    count: int
    steps: int
    features: str
    trained: dict[Path, float] = attrs.field(factory=dict)

    def experiment(self, sde: str, schedule: str | None, sampler: str) -> Any:
        from diffkit.experiment import Experiment

        chosen = [f"sde={sde}", f"schedule={schedule or 'null'}"]
        chosen += [f"sampling.sampler={sampler}", f"sampling.steps={self.steps}"]
        return Experiment.from_file(self.config, [*self.overrides, *chosen], runs=self.runs / self.device)

    def key(self, experiment: Any, sampler: str, device: str | None = None) -> str:
        words = (
            device or self.device,
            experiment.model_folder.name,
            sampler,
            self.count,
            self.steps,
            self.features,
        )
        return " ".join(map(str, words))

    @cached_property
    def judge(self) -> Any:
        from diffkit import registry
        from diffkit.evaluation import Evaluation
        from diffkit.experiment import Experiment

        experiment = Experiment.from_file(self.config, self.overrides)
        return Evaluation(
            dataset=experiment.dataset,
            metrics={"fid": registry.create("metric", "fid")},
            features=registry.create("features", self.features),
            count=self.count,
            seed=experiment.config.seed,
            cache=self.runs / "cache",
        )

    def measure(self, combination: Combination, experiment: Any) -> tuple[Cell, dict[str, Any]]:
        """The cell, and the figures of real data and pure noise beside it."""
        from diffkit import measuring

        sde, schedule, sampler = combination
        folder = experiment.model_folder
        anew, began = not folder.exists(), time.process_time()
        model = experiment.train()
        if anew:
            self.trained[folder] = time.process_time() - began
        experiment.sample(1, sampler=sampler, steps=2)  # what is made once is not a sample's time
        began, worked = time.perf_counter(), time.process_time()
        result = experiment.sample(self.count, sampler=sampler, steps=self.steps)
        x = result.x.cpu()
        seconds, worked = time.perf_counter() - began, time.process_time() - worked
        batches = measuring.sample_batches(experiment.dataset, x, label=result.label)
        fid = self.judge.run(model, batches)["fid"]
        cell = Cell(
            device=self.device,
            sde=sde,
            schedule=schedule,
            sampler=sampler,
            caveats=[finding.reason for finding in experiment.findings],
            training=trained_for(folder / "log.jsonl"),
            trained_by_processor=self.trained.get(folder),
            sampling=seconds / self.count,
            sampled_by_processor=worked / self.count,
            calls=result.nfe,
            fid=fid.value,
            error=fid.error or 0.0,
        )
        return cell, {name: fid.details[name] for name in ("floor", "noise", "features")}


def trained_for(log: Path) -> float:
    """Seconds of training, over however many goes: each counts from its own beginning."""
    from diffkit.journal import read_log

    seconds = [line["seconds"] for line in read_log(log)]
    ends = [a for a, b in itertools.pairwise([*seconds, 0.0]) if b < a]
    return float(sum(ends))


def table(cells: Sequence[Cell], real: dict[str, Any]) -> str:
    from diffkit.cli.table import table as drawn

    floor = real["floor"]["value"]
    head = ["process", "schedule", "sampler", "device", "training", "(processor)", "a sample", "(processor)"]
    head += ["calls", "FID", "FID : floor"]
    rows = [
        [
            cell.sde,
            cell.schedule or "-",
            cell.sampler + (" *" if cell.caveats else ""),
            cell.device,
            f"{cell.training:.0f} s",
            "-" if cell.trained_by_processor is None else f"{cell.trained_by_processor:.0f} s",
            f"{1e3 * cell.sampling:.1f} ms",
            f"{1e3 * cell.sampled_by_processor:.1f} ms",
            str(cell.calls),
            f"{cell.fid:.2f} +- {cell.error:.2f}",
            f"{cell.fid / floor:.2f}",
        ]
        for cell in cells
    ]
    words = [drawn(head, rows), f"floor (held-out real data): {floor:.2f} +- {real['floor']['error']:.2f}"]
    words += [f"pure noise: {real['noise']['value']:.0f}"]
    told = dict.fromkeys(word for cell in cells for word in cell.caveats)
    return "\n".join([*words, *(f"* {word}" for word in told)])


def plot(cells: Sequence[Cell], real: dict[str, Any], title: str, path: Path) -> None:
    """Bars of training time and time a sample, and FID beside its floor: a row a combination."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    from diffkit import plots
    from diffkit.plots.style import INK, PALETTE, SMALL, canvas, describe, legend

    names = list(dict.fromkeys(cell.name for cell in cells))
    devices = list(dict.fromkeys(cell.device for cell in cells))
    figure, (training, sampling, quality) = canvas(3, width=11.0, height=1.3 + 0.24 * len(names))
    thick = 0.8 / len(devices)
    for turn, device in enumerate(devices):
        own = [cell for cell in cells if cell.device == device]
        places = [names.index(cell.name) + thick * (turn - (len(devices) - 1) / 2) for cell in own]
        look = {"height": thick, "color": PALETTE[turn], "label": device}
        training.barh(places, [cell.training for cell in own], **look)
        sampling.barh(places, [1e3 * cell.sampling for cell in own], **look)
        errors = [cell.error for cell in own]
        values = [cell.fid for cell in own]
        quality.errorbar(values, places, xerr=errors, fmt="o", color=PALETTE[turn], capsize=2, label=device)
    quality.axvline(real["floor"]["value"], color=INK, linestyle="--", label="held-out real data")
    quality.set_xscale("log")
    quality.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    quality.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    quality.xaxis.set_minor_formatter(NullFormatter())
    describe(training, "seconds", "", "training (one model for all its samplers)")
    describe(sampling, "milliseconds", "", "sampling, each sample")
    describe(quality, "FID", "", "quality")
    for axes in (training, sampling, quality):
        axes.set_yticks(range(len(names)), names if axes is training else [], fontsize=SMALL)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
    legend(quality, loc="upper left", bbox_to_anchor=(0.0, -0.02 - 0.6 / figure.get_figheight()), ncols=3)
    figure.suptitle(title, fontsize=SMALL, color=INK)
    plots.save(figure, path)


def devices_here() -> Sequence[str]:
    import torch

    return DEVICES if torch.cuda.is_available() else ("cpu",)


@click.command(help=__doc__.partition("\n")[0])
@click.option("--config", type=click.Path(exists=True, path_type=Path), default=CONFIG, show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="a.b=value", help="Change the configuration.")
@click.option("--all", "every", is_flag=True, help="Every allowed cell of diffkit's own parts.")
@click.option("--only", metavar="WORD", multiple=True, help="Cells whose process, schedule or sampler it is.")
@click.option("--count", default=500, show_default=True, help="Samples a cell.")
@click.option("--steps", default=100, show_default=True, help="Of every sampler that does not adapt.")
@click.option("--features", default="classifier", show_default=True, help="That FID sees samples through.")
@click.option("--device", type=click.Choice(DEVICES), help="By default all there are.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("combinations"), show_default=True)
def main(
    config: Path,
    overrides: tuple[str, ...],
    every: bool,
    only: tuple[str, ...],
    count: int,
    steps: int,
    features: str,
    device: str | None,
    runs: Path,
    out: Path,
) -> None:
    if device is None and len(found := devices_here()) > 1:
        for each in found:  # a process each, for only one that sees no GPU trains on the CPU
            subprocess.run([sys.executable, *sys.argv, "--device", each], check=True)
        return
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    from diffkit import storage

    bench = Bench(
        device=device or "cpu",
        config=config,
        overrides=overrides,
        runs=runs,
        count=count,
        steps=steps,
        features=features,
    )
    wanted = [each for each in (allowed() if every else NINETEEN) if all(word in each for word in only)]
    if not wanted:
        raise click.UsageError(f"no combination has {' and '.join(only)}; see `diffkit matrix`")
    path = out.with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"cells": {}}
    shown: list[Cell] = []
    for number, combination in enumerate(wanted, 1):
        experiment, sampler = bench.experiment(*combination), combination[2]
        told = f"cell {number} of {len(wanted)}: {' '.join(filter(None, combination))} on {bench.device}"
        if (key := bench.key(experiment, sampler)) in record["cells"]:
            click.echo(f"{told}: kept", err=True)
        else:
            click.echo(told, err=True)
            cell, real = bench.measure(combination, experiment)
            record["cells"][key] = attrs.asdict(cell)
            record |= {"real": real, "threads": torch.get_num_threads(), "count": count, "steps": steps}
            storage.write_text(path, json.dumps(record, indent=2) + "\n")
        keys = (bench.key(experiment, sampler, each) for each in DEVICES)
        shown += [Cell(**record["cells"][each]) for each in keys if each in record["cells"]]
    click.echo(table(shown, record["real"]))
    title = f"{config.stem}: {count} samples a cell, {steps} steps, threads: {torch.get_num_threads()}"
    plot(shown, record["real"], title, out.with_suffix(".png"))


if __name__ == "__main__":
    sys.exit(main())
