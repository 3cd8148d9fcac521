"""Pictures of an experiment: its samples, its process, and what noise does to data and sampling to noise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from diffkit import plots, registry
from diffkit.component import Component
from diffkit.interfaces.dataset import Dataset
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.noise import Noise
from diffkit.plots import film
from diffkit.sampling import SampleResult, SampleStep
from diffkit.selection import nested

__all__ = ["completions", "forward_strip", "of_run", "reverse_strip", "sheet"]

_FRAMES = 10
_ROWS, _POINTS = 6, 500
_COMPLETED = 10


def sheet(dataset: Dataset, x: Tensor, label: Tensor | None = None) -> Figure:
    """Samples (N, ...) as the data set shows them: pictures, points of the plane, or signals."""
    spec = dataset.spec()
    if spec.image:
        labelled = label is not None and bool((label >= 0).any())
        names = spec.names or None
        return plots.sheet(dataset.picture(x), label if labelled else None, names=names)
    if spec.shape == (2,):
        return plots.scatter(dataset.decode(x))
    return plots.lines(dataset.decode(x).flatten(1)[:64])


def of_run(
    dataset: Dataset,
    sde: SDE,
    seed: int,
    conditioners: Iterable[Component],
    result: SampleResult,
    steps: Sequence[SampleStep],
) -> dict[str, Figure]:
    """What a run's folder shows beside its sheet of samples, by the file's name.

    Args:
        steps: states of the run's first samples, from the start on.
    """
    spec, label, name = dataset.spec(), result.label, registry.current().name
    shown: dict[str, Figure | None] = {}
    if spec.image and len(set(label[label >= 0].tolist())) > 1:
        shown["classes.png"] = plots.class_rows(dataset.picture(result.x.cpu()), label, spec.names or None)
    for each in conditioners:
        if name(each) == "imputation":
            shown["completed.png"] = completions(dataset, each, result.x)
    if isinstance(sde, GaussianSDE):
        words = [name(sde), *(name(inner) for kind, inner in nested(sde) if kind == "schedule")]
        shown["schedule.png"] = plots.schedules({", ".join(words): sde})
        shown["forward.png"] = forward_strip(dataset, sde, seed)
        shown["reverse.png"] = reverse_strip(dataset, sde, steps)
    return {file: figure for file, figure in shown.items() if figure is not None}


def completions(dataset: Dataset, imputation: Any, completed: Tensor) -> Figure:
    """Examples, what was observed of them, and their completions; side by side where they are images.

    Args:
        imputation: the conditioner, prepared: `observed` (N, ...) and `mask` (1 or N, ...).
        completed: (samples, ...), sample i being a completion of example i modulo N.
    """
    if not dataset.spec().image:
        return sheet(dataset, completed.cpu())
    original, mask = imputation.observed.cpu(), imputation.mask.cpu()
    rows = min(_COMPLETED, len(original), len(completed))
    several = range(0, len(completed) - rows + 1, len(original))[:_COMPLETED]
    whole = dataset.picture(original[:rows])
    hidden = ~mask.expand(original.shape)[:rows].all(1, keepdim=True)
    pictures = [dataset.picture(completed[first : first + rows].cpu()) for first in several]
    return plots.before_after(whole, torch.where(hidden, torch.nan, whole), *pictures)


def forward_strip(dataset: Dataset, sde: GaussianSDE, seed: int) -> Figure | None:
    """Real examples on their way to noise, in ten frames; None where they are neither images nor points."""
    x_0 = dataset.encode(dataset.load("train").raw[: _ROWS if dataset.spec().image else _POINTS])
    eps = Noise(seed=seed, index=torch.arange(len(x_0))).stream("forward").normal_like(x_0)
    times = torch.linspace(sde.t_min, sde.t_max, _FRAMES, dtype=torch.float64)
    return _strip(dataset, sde, [(sde.perturb(x_0, t, eps), t) for t in times])


def reverse_strip(dataset: Dataset, sde: GaussianSDE, steps: Sequence[SampleStep]) -> Figure | None:
    """A sampling run on its way from noise, in ten frames; None where there are neither images nor points."""
    places = torch.linspace(0, len(steps) - 1, min(_FRAMES, len(steps))).round().long().tolist()
    return _strip(dataset, sde, [(steps[place].x, steps[place].s) for place in places])


def _strip(
    dataset: Dataset, sde: GaussianSDE, states: Sequence[tuple[Tensor, Tensor | None]]
) -> Figure | None:
    spec = dataset.spec()
    if not spec.image and spec.shape != (2,):
        return None
    seen, captions = film.frames(sde, states)
    if not spec.image:
        return plots.clouds(torch.stack(seen), captions)
    return plots.film_strip(torch.stack([dataset.picture(x[:_ROWS]) for x in seen]), captions)
