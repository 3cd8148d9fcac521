"""Training on a small machine: quality and samples a second against CPU time, beside diffusers' usual recipe.

    python examples/benchmarks/training.py --config examples/configs/mnist.yaml --minutes 20
    python examples/benchmarks/training.py --minutes 2 --sides diffkit --set dataset.root=... --out training

Both sides train on the same data for the same CPU time, summed over cores, in turns of half a minute, so that
whatever else the machine does weighs on both. The clock stands still while a side is looked at.

    diffkit     the configuration as it stands, its number of steps set to what fits the time
    diffusers   UNet2DModel with widths 32-64-64 and class embedding, batch 64, AdamW 1e-4, noise prediction
                with DDPM's linear betas, EMA 0.995; sampled by DPMSolverMultistepScheduler

Both draw `--count` samples, the classes in turn, by `--steps` evaluations. FID is by the data set's own
classifier (features `classifier`) against the training split, beside the floor of as many held-out images;
agreement is how often that classifier finds the class that was asked for. On the way both are looked at
`--looks` times, evenly spaced, by `--look-count` samples: quality against minutes. Leaves a table on stdout,
and OUT.json, OUT.png (both sheets), OUT-minutes.png (the curves).
"""

from __future__ import annotations

import copy
import json
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import click
import torch
from matplotlib.figure import Figure
from torch import Tensor

import diffkit
from diffkit import measuring, plots
from diffkit.config import ExperimentConfig
from diffkit.evaluation import Evaluation
from diffkit.interfaces.model import Model
from diffkit.statistics import settled
from diffkit.training import Trainer, TrainingJob

TURN = 30.0
TRIAL = 40
"""Steps by which the time of one is found; the first ones are slower and do not count."""


class Side(ABC):
    """One of those that are compared; `steps` trains, one step at each `next`."""

    name: str

    def __init__(self) -> None:
        self.seconds, self.done = 0.0, 0
        self.looks: list[dict[str, float]] = []
        """What was seen on the way."""

    @abstractmethod
    def steps(self) -> Iterator[float]:
        """The loss of each step, for as long as asked."""

    @abstractmethod
    def sample(self, label: Tensor, steps: int) -> Tensor:
        """Samples of the classes asked for, in the data set's encoded units."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Examples a step."""


class Diffkit(Side):
    """A configuration of ours, by its own trainer."""

    name = "diffkit"

    def __init__(self, config: ExperimentConfig, budget: float) -> None:
        super().__init__()
        self.config = config
        self._folder = Path(tempfile.mkdtemp(prefix="diffkit-training-"))
        each = self._seconds_of_a_step()
        self._trainer = self._made("whole", max(1, int(budget / each)))

    @property
    def batch_size(self) -> int:
        return self.config.training.batch_size

    def steps(self) -> Iterator[float]:
        for step in self._trainer.steps():
            yield step.loss

    def sample(self, label: Tensor, steps: int) -> Tensor:
        method = self.config.sampling
        bends = [
            attrs.evolve(each, label=tuple(label.tolist()))
            if "label" in attrs.fields_dict(type(each))
            else each
            for each in method.conditioners
        ]
        self._trainer.save()
        model = diffkit.load(self._folder / "whole", "last")
        return diffkit.sample(
            model,
            sde=self.config.sde,
            sampler=method.sampler,
            grid=method.grid,
            steps=steps,
            shape=(len(label), *model.spec.shape),
            conditioners=bends,
        ).x

    def _made(self, name: str, steps: int) -> Trainer:
        section = attrs.evolve(self.config.training, steps=steps, epochs=None, save_every=10**9)
        job = TrainingJob(
            dataset=self.config.dataset,
            network=self.config.network,
            sde=self.config.sde,
            objective=self.config.objective,
            config=section,
            seed=self.config.seed,
            folder=self._folder / name,
        )
        return Trainer(job)

    def _seconds_of_a_step(self) -> float:
        """CPU seconds, of a short training that is thrown away."""
        begun, taken = 0.0, 0
        for step in self._made("trial", TRIAL).steps():
            if step.step == TRIAL // 4:
                begun, taken = time.process_time(), step.step
        return (time.process_time() - begun) / (TRIAL - taken)


class Diffusers(Side):
    """The usual recipe of the library diffusers."""

    name = "diffusers"
    batch_size = 64
    _decay = 0.995

    def __init__(self, config: ExperimentConfig) -> None:
        super().__init__()
        from diffusers import DDPMScheduler, UNet2DModel

        examples, spec = config.dataset.load("train"), config.dataset.spec()
        self._dataset, self._raw, self._label = config.dataset, examples.raw, examples.label
        self._size = spec.shape[-1]
        # Its U-Net halves the size twice: MNIST's 28 pixels do.
        torch.manual_seed(config.seed)
        self._network = UNet2DModel(
            sample_size=self._size,
            in_channels=spec.shape[0],
            out_channels=spec.shape[0],
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            num_class_embeds=spec.classes,
            norm_num_groups=8,
        )
        self._average = copy.deepcopy(self._network).requires_grad_(False)
        self._optimizer = torch.optim.AdamW(self._network.parameters(), lr=1e-4)
        self._noise = DDPMScheduler(num_train_timesteps=1000)

    def steps(self) -> Iterator[float]:
        generator = torch.Generator().manual_seed(0)
        while True:
            rows = torch.randint(len(self._raw), (self.batch_size,), generator=generator)
            x_0 = self._dataset.encode(self._raw[rows])
            eps = torch.randn(x_0.shape, generator=generator)
            t = torch.randint(1000, (self.batch_size,), generator=generator)
            assert self._label is not None
            output = self._network(self._noise.add_noise(x_0, eps, t), t, self._label[rows]).sample
            loss = torch.nn.functional.mse_loss(output, eps)
            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
            self._optimizer.step()
            with torch.no_grad():
                for mean, weight in zip(self._average.parameters(), self._network.parameters(), strict=True):
                    mean.lerp_(weight, 1.0 - self._decay)
            yield float(loss.detach())

    @torch.no_grad()
    def sample(self, label: Tensor, steps: int) -> Tensor:
        from diffusers import DPMSolverMultistepScheduler

        scheduler = DPMSolverMultistepScheduler.from_config(self._noise.config)
        generator = torch.Generator().manual_seed(1)
        parts = []
        for rows in label.split(self.batch_size):
            scheduler.set_timesteps(steps)
            x = torch.randn(len(rows), *self._raw.shape[1:], generator=generator)
            for t in scheduler.timesteps:
                x = scheduler.step(self._average(x, t, rows).sample, t, x).prev_sample
            parts.append(x)
        return torch.cat(parts)


def train_in_turns(sides: list[Side], budget: float, looks: int, look: Callable[[Side], None]) -> None:
    """Half a minute of CPU time each, until each has had its budget; looked at on the way."""
    running = [(side, side.steps()) for side in sides]
    while running:
        for side, steps in list(running):
            due = budget * (len(side.looks) + 1) / (looks + 1)
            begun = time.process_time()
            until = begun + min(TURN, due - side.seconds)
            ended = False
            while time.process_time() < until:
                if next(steps, None) is None:
                    ended = True
                    break
                side.done += 1
            side.seconds += time.process_time() - begun
            if ended or side.seconds >= budget:
                running.remove((side, steps))
            elif side.seconds >= due:
                look(side)
        told = ", ".join(f"{side.name} {side.done:,} steps in {side.seconds / 60:.1f} min" for side in sides)
        click.echo(told, err=True)


def curves(sides: list[Side], rows: dict[str, dict[str, Any]]) -> Figure:
    """FID against CPU minutes, by the samples of the looks; the last points are of the whole count."""
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axes = figure.subplots()
    for side in sides:
        seen = [*side.looks, rows[side.name]]
        axes.plot(
            [each["CPU minutes"] for each in seen], [each["fid"] for each in seen], "o-", label=side.name
        )
        axes.axhline(rows[side.name]["floor"], color="grey", linestyle=":")
    axes.set(xlabel="CPU minutes of training", ylabel="FID (dotted: held-out images)", yscale="log")
    axes.legend(frameon=False)
    return figure


def judged(evaluation: Evaluation, config: ExperimentConfig, x: Tensor, label: Tensor) -> dict[str, Any]:
    figures = evaluation.run(Model(), measuring.sample_batches(config.dataset, x, label=label))
    fid = figures["fid"]
    return {
        "fid": fid.value,
        "fid error": fid.error,
        "floor": fid.details["floor"]["value"],
        "floor error": fid.details["floor"]["error"],
        "agreement": figures["class-accuracy"].value,
    }


@click.command()
@click.option("--config", "path", default="examples/configs/mnist.yaml", show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="a.b=VALUE")
@click.option(
    "--minutes", default=20.0, show_default=True, help="CPU minutes for each side, summed over cores."
)
@click.option("--sides", default="diffkit,diffusers", show_default=True)
@click.option("--count", default=1000, show_default=True)
@click.option("--steps", default=20, show_default=True, help="Evaluations a sample.")
@click.option("--looks", default=3, show_default=True, help="On the way, beside the one at the end.")
@click.option("--look-count", default=250, show_default=True, help="Samples of a look.")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("runs/cache"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("training"), show_default=True)
def main(
    path: str,
    overrides: tuple[str, ...],
    minutes: float,
    sides: str,
    count: int,
    steps: int,
    looks: int,
    look_count: int,
    cache: Path,
    out: Path,
) -> None:
    config = ExperimentConfig.from_file(path, overrides)
    config = attrs.evolve(config, dataset=settled(config.dataset)[0])
    budget = 60.0 * minutes
    made: list[Side] = []
    for name in sides.split(","):
        made.append(Diffkit(config, budget) if name == "diffkit" else Diffusers(config))
    classes = config.dataset.spec().classes
    assert classes is not None

    def seen(side: Side, number: int) -> tuple[Tensor, dict[str, Any]]:
        """Samples of a side as it stands, and how good they are."""
        evaluation = Evaluation(
            dataset=config.dataset,
            metrics={name: diffkit.create("metric", name) for name in ("fid", "class-accuracy")},
            features=diffkit.create("features", "classifier"),
            count=number,
            seed=0,
            cache=cache,
        )
        label = torch.arange(number) % classes
        begun = time.process_time()
        x = side.sample(label, steps)
        seconds = time.process_time() - begun
        figures = judged(evaluation, config, x, label)
        return x, {**figures, "CPU minutes": side.seconds / 60.0, "CPU seconds of sampling": seconds}

    def look(side: Side) -> None:
        side.looks.append(seen(side, look_count)[1])
        click.echo(f"{side.name}: FID {side.looks[-1]['fid']:.3g} by {look_count} samples", err=True)

    train_in_turns(made, budget, looks, look)
    rows, sheets = {}, []
    for side in made:
        x, figures = seen(side, count)
        rows[side.name] = {
            **figures,
            "steps": side.done,
            "examples a CPU second": side.done * side.batch_size / side.seconds,
        }
        sheets.append(config.dataset.picture(x[:50]))
        for key, value in rows[side.name].items():
            click.echo(f"{side.name:10} {key:24} {value:.4g}")
        rows[side.name]["looks"] = side.looks
    if len(rows) == 2:
        ours, theirs = rows.values()
        click.echo(f"ratio of FID {theirs['fid'] / ours['fid']:.1f}, of sampling time "
                   f"{theirs['CPU seconds of sampling'] / ours['CPU seconds of sampling']:.1f}")  # fmt: skip
    out.with_suffix(".json").write_text(json.dumps(rows, indent=2) + "\n")
    plots.save(plots.sheet(torch.cat(sheets), columns=10), out.with_suffix(".png"))
    plots.save(curves(made, rows), out.with_name(f"{out.name}-minutes.png"))


if __name__ == "__main__":
    main()
