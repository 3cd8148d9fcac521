"""A sampling run as a film: frames under each other in one PNG, of which the report's slider shows one.

Its text `captions` holds the times of the frames, a JSON list.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import attrs
import torch
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from diffkit import storage
from diffkit.interfaces.dataset import Dataset
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.sampling import SampleStep
from diffkit.tensors import expand

__all__ = ["frames", "kept", "write"]

_FRAMES, _FEWEST = 31, 10
_SAMPLES, _COLUMNS = 16, 8
# Noise in colour takes three bytes a pixel, and the page has room for a megabyte or two.
_PIXELS = 400_000


def kept(step: SampleStep, image: bool) -> list[SampleStep]:
    """What of a step is worth keeping for pictures: of the first chunk of a run up to 31 states, evenly.

    Args:
        image: whether samples are images, of which 16 do.
    """
    if int(step.index[0]) or step.number not in _places(step.total, _FRAMES):
        return []
    return [attrs.evolve(step, x=step.x[: _SAMPLES if image else None].cpu())]


def write(dataset: Dataset, sde: SDE, steps: Sequence[SampleStep], path: Path) -> None:
    """Writes the film of a run from noise to images; nothing for other runs, or huge images.

    There are as many frames and samples as there is room for: 31 of 16 small pictures, ten of a single large
    one.
    """
    if not (isinstance(sde, GaussianSDE) and dataset.spec().image):
        return
    room = _PIXELS // math.prod(dataset.spec().shape[1:])
    if room < _FEWEST // 2:
        return
    from torchvision.transforms.functional import to_pil_image  # slow to import
    from torchvision.utils import make_grid

    places = _places(len(steps) - 1, max(_FEWEST, min(_FRAMES, room // 2)))
    count = max(1, min(_SAMPLES, room // len(places)))
    states, captions = frames(sde, [(steps[place].x[:count], steps[place].s) for place in places])
    grids = [make_grid(dataset.picture(x), nrow=_COLUMNS, padding=1, pad_value=1.0) for x in states]
    text = PngInfo()
    text.add_text("captions", json.dumps(captions))
    with storage.replacing(path) as unfinished:
        to_pil_image(torch.cat(grids, dim=1)).save(unfinished, "png", pnginfo=text, optimize=True)


def frames(
    sde: GaussianSDE, states: Sequence[tuple[Tensor, Tensor | None]]
) -> tuple[list[Tensor], list[str]]:
    """States x_t / sqrt(alpha^2 + sigma^2), so that an exploding process stays in view, and captions."""
    seen, captions = [], []
    for x, t in states:
        size = torch.ones(()) if t is None else torch.sqrt(sde.alpha(t) ** 2 + sde.sigma(t) ** 2)
        seen.append(x / expand(size, x))
        captions.append("clean" if t is None else f"t = {float(t):.2f}")
    return seen, captions


def _places(last: int, count: int) -> list[int]:
    """Up to `count` whole numbers from 0 to `last`, evenly, both ends among them."""
    places: list[int] = torch.linspace(0, last, min(count, last + 1)).round().long().tolist()
    return places
