"""Pictures of an experiment: its samples, its process, and what noise does to data and sampling to noise."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from diffkit import plots, registry, storage
from diffkit.component import Component
from diffkit.interfaces.dataset import Dataset
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.noise import Noise
from diffkit.sampling import SampleResult, SampleStep
from diffkit.selection import nested
from diffkit.tensors import expand

__all__ = ["completions", "film", "forward_strip", "of_run", "reverse_strip", "sheet", "worth_keeping"]

_COLUMNS = 10
_ROWS, _POINTS = 6, 500
_FRAMES = 31
_FILM_SAMPLES, _FILM_COLUMNS = 16, 8
# Noise in colour takes three bytes a pixel, and the page has room for a megabyte or two.
_FILM_PIXELS = 400_000
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
    times = torch.linspace(sde.t_min, sde.t_max, _COLUMNS, dtype=torch.float64)
    return _strip(dataset, sde, [(sde.perturb(x_0, t, eps), t) for t in times])


def reverse_strip(dataset: Dataset, sde: GaussianSDE, steps: Sequence[SampleStep]) -> Figure | None:
    """A sampling run on its way from noise, in ten frames; None where there are neither images nor points."""
    chosen = [steps[place] for place in _places(len(steps) - 1, _COLUMNS)]
    return _strip(dataset, sde, [(step.x, step.s) for step in chosen])


def film(dataset: Dataset, sde: SDE, steps: Sequence[SampleStep], path: Path) -> None:
    """Writes the frames of a run from noise to images under each other; nothing for others, or huge images.

    As many as there is room for: 31 frames of 16 small pictures, ten of a single large one. The PNG
    holds the frames' captions in its text `captions`, a JSON list.
    """
    if not (isinstance(sde, GaussianSDE) and dataset.spec().image):
        return
    room = _FILM_PIXELS // math.prod(dataset.spec().shape[1:])
    if room < _COLUMNS // 2:
        return
    from torchvision.transforms.functional import to_pil_image  # slow to import
    from torchvision.utils import make_grid

    chosen = [steps[place] for place in _places(len(steps) - 1, max(_COLUMNS, min(_FRAMES, room // 2)))]
    count = max(1, min(_FILM_SAMPLES, room // len(chosen)))
    frames, captions = _frames(dataset, sde, [(step.x[:count], step.s) for step in chosen])
    grids = [make_grid(frame, nrow=_FILM_COLUMNS, padding=1, pad_value=1.0) for frame in frames]
    text = PngInfo()
    text.add_text("captions", json.dumps(captions))
    with storage.replacing(path) as unfinished:
        to_pil_image(torch.cat(grids, dim=1)).save(unfinished, "png", pnginfo=text, optimize=True)


def worth_keeping(step: SampleStep) -> Tensor | None:
    """What of a state of the run's first chunk goes into the strip and the film; None = nothing."""
    if int(step.index[0]) or step.number not in _places(step.total, _FRAMES):
        return None
    return step.x[: _POINTS if step.x.ndim == 2 else _FILM_SAMPLES].cpu()


def _places(last: int, count: int) -> list[int]:
    """Up to `count` whole numbers from 0 to `last`, evenly, both ends among them."""
    places: list[int] = torch.linspace(0, last, min(count, last + 1)).round().long().tolist()
    return places


def _strip(
    dataset: Dataset, sde: GaussianSDE, states: Sequence[tuple[Tensor, Tensor | None]]
) -> Figure | None:
    spec = dataset.spec()
    if not spec.image and spec.shape != (2,):
        return None
    rows = _ROWS if spec.image else _POINTS
    frames, captions = _frames(dataset, sde, [(x[:rows], t) for x, t in states])
    return (plots.film_strip if spec.image else plots.clouds)(frames, captions)


def _frames(
    dataset: Dataset, sde: GaussianSDE, states: Sequence[tuple[Tensor, Tensor | None]]
) -> tuple[Tensor, list[str]]:
    """States x_t / sqrt(alpha^2 + sigma^2), so that an exploding process stays in view, and their times."""
    frames, captions = [], []
    for x, t in states:
        size = torch.ones(()) if t is None else torch.sqrt(sde.alpha(t) ** 2 + sde.sigma(t) ** 2)
        seen = x / expand(size, x)
        frames.append(dataset.picture(seen) if dataset.spec().image else seen)
        captions.append("clean" if t is None else f"t = {float(t):.2f}")
    return torch.stack(frames), captions
