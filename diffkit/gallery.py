"""Pictures of an experiment: its samples, and what noise does to data and sampling to noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    """Real examples on their way to noise, in ten frames; None where examples are no images."""
    x_0 = dataset.encode(dataset.load("train").raw[:_ROWS])
    eps = Noise(seed=seed, index=torch.arange(len(x_0))).stream("forward").normal_like(x_0)
    times = torch.linspace(sde.t_min, sde.t_max, _FRAMES, dtype=torch.float64)
    return _strip(dataset, sde, [(sde.perturb(x_0, t, eps), t) for t in times])


def reverse_strip(dataset: Dataset, sde: GaussianSDE, steps: Sequence[SampleStep]) -> Figure | None:
    """A sampling run on its way from noise, in ten frames; None where samples are no images."""
    places = torch.linspace(0, len(steps) - 1, min(_FRAMES, len(steps))).round().long().tolist()
    return _strip(dataset, sde, [(steps[place].x[:_ROWS], steps[place].s) for place in places])


def _strip(
    dataset: Dataset, sde: GaussianSDE, states: Sequence[tuple[Tensor, Tensor | None]]
) -> Figure | None:
    """States x_t / sqrt(alpha^2 + sigma^2), so that an exploding process stays on the page, left to right."""
    if not dataset.spec().image:
        return None
    frames, captions = [], []
    for x, t in states:
        size = torch.ones(()) if t is None else torch.sqrt(sde.alpha(t) ** 2 + sde.sigma(t) ** 2)
        frames.append(dataset.picture(x / expand(size, x)))
        captions.append("clean" if t is None else f"t = {float(t):.2f}")
    return plots.film_strip(torch.stack(frames), captions)
