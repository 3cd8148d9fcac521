"""In-painting of held-out images: how often the completed image keeps its class, and what it costs.

    python examples/benchmarks/imputation.py runs/models/mnist-vp-cosine-unet-velocity-...
    python examples/benchmarks/imputation.py MODEL --mask left-half --count 200 --methods particle

The same held-out images are completed by each method, by the mean image of the training split, by the value
of the nearest observed pixel, and by the hidden part of the training image nearest on what is observed.
Whether an image keeps its class is for the data set's own classifier (features `classifier`) to say; errors
are binomial standard errors. With several completions of each image the share is that over all of them, and
a second figure is for their mean, the estimate of least squared error. The times stand as ratios to a plain
sampling run of as many images, taken in the same process.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

import diffkit
from diffkit import plots
from diffkit.interfaces.dataset import Dataset
from diffkit_standard.operators._masks import mask_for

METHODS: dict[str, dict[str, Any]] = {
    "replacement": {"method": "replacement"},
    "repaint": {"method": "repaint"},
    "dps": {"method": "reconstruction", "guidance": "dps"},
    "pigdm": {"method": "reconstruction", "guidance": "pigdm"},
    "mmps": {"method": "reconstruction", "guidance": "mmps"},
    "particle": {"method": "particle"},
}
SAMPLER = {"name": "ddim", "eta": 1.0}


def by_the_mean(train: Tensor, observed: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, observed, train.mean(0, keepdim=True))


def by_the_nearest_pixel(train: Tensor, observed: Tensor, mask: Tensor) -> Tensor:
    """Every hidden pixel takes the value of the observed one that is nearest to it."""
    known = mask.expand(observed.shape)[0, 0].numpy()
    rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return observed[:, :, torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]


def by_the_nearest_image(train: Tensor, observed: Tensor, mask: Tensor) -> Tensor:
    """The training image that is nearest on the observed pixels lends its hidden ones."""
    known = mask.expand(observed.shape)[0].flatten()
    distances = torch.cdist(observed.flatten(1)[:, known], train.flatten(1)[:, known])
    return torch.where(mask, observed, train[distances.argmin(1)])


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    begun = time.perf_counter()
    return work(), time.perf_counter() - begun


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--mask", default="centre", show_default=True)
@click.option("--count", default=100, show_default=True, help="Held-out images.")
@click.option("--completions", default=1, show_default=True, help="Of each image.")
@click.option("--steps", default=100, show_default=True, help="Of every method.")
@click.option("--methods", default=",".join(METHODS), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="For PATH.json and PATH.png.")
def main(
    model: Path, mask: str, count: int, completions: int, steps: int, methods: str, out: Path | None
) -> None:
    experiment = diffkit.Experiment.from_file(model, quiet=True)
    dataset: Dataset = experiment.dataset
    judge = diffkit.create("features", "classifier").prepare(
        dataset, model.absolute().parent.parent / "cache"
    )
    train = dataset.encode(dataset.load("train").raw)
    held_out = dataset.load("test")
    order = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(0))[:count]
    real = dataset.encode(held_out.raw[order])
    assert held_out.label is not None
    label = held_out.label[order]
    observed = mask_for(mask, tuple(real.shape[1:]))
    options: dict[str, Any] = {"sampler": SAMPLER, "steps": steps, "conditioners": ()}

    def complete(name: str) -> Tensor:
        result = experiment.impute(real, observed, method=METHODS[name], completions=completions, **options)
        return result.x.cpu()

    def kept(x: Tensor) -> float:
        asked = label.repeat(len(x) // len(real))
        return float((judge.logits(x).argmax(1).cpu() == asked).double().mean())

    _, plain = timed(lambda: experiment.sample(len(real), **options).x)
    ways: dict[str, Callable[[], Tensor]] = {
        "the image itself": lambda: real,
        "mean": lambda: by_the_mean(train, real, observed),
        "nearest pixel": lambda: by_the_nearest_pixel(train, real, observed),
        "nearest training image": lambda: by_the_nearest_image(train, real, observed),
        **{name: (lambda name=name: complete(name)) for name in methods.split(",")},
    }
    rows, pictures = {}, []
    for name, work in ways.items():
        x, seconds = timed(work)
        pictures.append(x[:8])
        share, each = kept(x), seconds / len(x)
        row = {
            "keeps its class": share,
            "error": math.sqrt(share * (1.0 - share) / len(real)),
            "seconds an image": each,
            "times a plain sample": each * len(real) / plain,
        }
        told = f"{name:23} {100 * share:5.1f} % +- {100 * row['error']:.1f}"
        if len(x) > len(real):
            row["their mean keeps it"] = kept(x.reshape(-1, *real.shape).mean(0))
            told += f" (their mean {100 * row['their mean keeps it']:5.1f} %)"
        click.echo(
            f"{told}   {each:8.4f} s an image   {row['times a plain sample']:7.2f} times a plain sample"
        )
        rows[name] = row
    if out is not None:
        out.with_suffix(".json").write_text(json.dumps(rows, indent=2) + "\n")
        frames = [dataset.picture(x) for x in pictures]
        hidden = torch.where(observed[:, :1], frames[0], torch.nan)
        captions = ("original", "observed", *list(ways)[1:])
        figure = plots.film_strip(torch.stack([frames[0], hidden, *frames[1:]]), captions)
        plots.save(figure, out.with_suffix(".png"))


if __name__ == "__main__":
    main()
