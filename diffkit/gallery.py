"""Pictures of an experiment: its samples, and what noise does to data and sampling to noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from diffkit import plots
from diffkit.interfaces.dataset import Dataset
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.sampling import SampleStep
from diffkit.tensors import expand

__all__ = ["completions", "forward_strip", "reverse_strip", "sheet"]

_FRAMES = 10
_ROWS = 6
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


def completions(dataset: Dataset, original: Tensor, mask: Tensor, completed: Tensor) -> Figure:
    """Examples, what was observed of them, and their completions; side by side where they are images.

    Args:
        original: (N, ...), encoded.
        mask: (1 or N, ...), true where observed.
        completed: (completions, N, ...), encoded.
    """
    if not dataset.spec().image:
        return sheet(dataset, completed.flatten(0, 1))
    shown = slice(0, _COMPLETED)
    whole, given = dataset.picture(original[shown]), mask.expand(original.shape)[shown]
    hidden = ~given.all(1, keepdim=True)
    several = [dataset.picture(each[shown]) for each in completed[:_COMPLETED]]
    return plots.before_after(whole, torch.where(hidden, torch.nan, whole), *several)


def forward_strip(dataset: Dataset, sde: GaussianSDE, seed: int) -> Figure | None:
    """Real examples on their way to noise, in ten frames; None where examples are no images."""
    if not dataset.spec().image:
        return None
    x_0 = dataset.encode(dataset.load("train").raw[:_ROWS])
    eps = Noise(seed=seed, index=torch.arange(len(x_0))).stream("forward").normal_like(x_0)
    times = torch.linspace(sde.t_min, sde.t_max, _FRAMES, dtype=torch.float64)
    frames = [dataset.picture(_unit_scale(sde, sde.perturb(x_0, t, eps), t)) for t in times]
    return plots.film_strip(torch.stack(frames), [f"t = {float(t):.2f}" for t in times])


def reverse_strip(dataset: Dataset, sde: GaussianSDE, steps: Sequence[SampleStep]) -> Figure | None:
    """A sampling run on its way from noise, in ten frames; None where samples are no images."""
    if not dataset.spec().image:
        return None
    places = torch.linspace(0, len(steps) - 1, min(_FRAMES, len(steps))).round().long().tolist()
    chosen = [steps[place] for place in places]
    frames, captions = [], []
    for step in chosen:
        x = step.x[:_ROWS]
        frames.append(dataset.picture(x if step.s is None else _unit_scale(sde, x, step.s)))
        captions.append("clean" if step.s is None else f"t = {float(step.s):.2f}")
    return plots.film_strip(torch.stack(frames), captions)


def _unit_scale(sde: GaussianSDE, x: Tensor, t: Tensor) -> Tensor:
    """x_t / sqrt(alpha^2 + sigma^2), so that an exploding process stays on the page."""
    return x / expand(torch.sqrt(sde.alpha(t) ** 2 + sde.sigma(t) ** 2), x)
