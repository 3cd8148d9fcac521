"""Masks: 1 where a sample is observed, 0 where it is missing; by name, from a file, or as an array.

| name             | missing                                                                             |
|------------------|-------------------------------------------------------------------------------------|
| `centre`         | the central half of every spatial axis                                              |
| `border`         | all but the central half                                                            |
| `left-half`      | the first half of the last axis                                                     |
| `random:S[:N]`   | a share S of the places, all channels of a place together; N numbers the draw       |

The spatial axes of a sample are all but the first; the only one where there is just one.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffkit.errors import DataError
from diffkit.noise import Noise

__all__ = ["NAMES", "PICTURES", "Values", "mask_for", "same_values"]

Values = str | Path | Tensor | np.ndarray[Any, Any]
"""A name, a file, or the numbers themselves."""

NAMES = ("centre", "border", "left-half", "random:0.5")

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
_MAX_PIXELS = 2**26


def same_values(a: Values, b: Values) -> bool:
    """Whether two fields hold the same name, path or numbers."""
    arrays = [isinstance(each, (Tensor, np.ndarray)) for each in (a, b)]
    if not all(arrays):
        return not any(arrays) and str(a) == str(b)
    return torch.equal(torch.as_tensor(a), torch.as_tensor(b))


def mask_for(mask: Values, shape: tuple[int, ...]) -> Tensor:
    """The mask for samples of a shape: bool, (1 or N, *shape).

    Raises:
        DataError: an unknown name, a file that cannot be read, another shape, values that are not binary.
    """
    if isinstance(mask, (Tensor, np.ndarray)):
        return _fitted(mask if isinstance(mask, Tensor) else torch.tensor(mask), shape, "the mask")
    named = _named(mask, shape) if isinstance(mask, str) else None
    if named is not None:
        return named.expand(shape)[None]
    return _fitted(_read(Path(mask)), shape, str(mask))


def _named(name: str, shape: tuple[int, ...]) -> Tensor | None:
    """A mask by its name, over the spatial axes; None where `name` is none."""
    spatial = shape[1:] if len(shape) > 1 else shape
    if name in ("centre", "border"):
        middle = torch.ones(spatial, dtype=torch.bool)
        for axis, size in enumerate(spatial):
            place = torch.arange(size)
            inside = (place >= size // 4) & (place < size // 4 + (size + 1) // 2)
            middle = middle & inside.reshape(-1, *(1,) * (len(spatial) - 1 - axis))
        return ~middle if name == "centre" else middle
    if name == "left-half":
        return (torch.arange(spatial[-1]) >= spatial[-1] // 2).expand(spatial)
    kind, _, rest = name.partition(":")
    return _random(name, rest, spatial) if kind == "random" else None


def _random(name: str, rest: str, spatial: tuple[int, ...]) -> Tensor:
    try:
        share, number = (*rest.split(":"), "0")[:2]
        missing, draw = float(share), int(number)
    except ValueError:
        missing, draw = math.nan, 0
    if not 0.0 <= missing <= 1.0 or rest.count(":") > 1 or draw < 0:
        raise DataError(
            f"the mask {name!r} names no share of the elements",
            "random:SHARE with the share that is missing, from 0 to 1, or random:SHARE:NUMBER",
            "Write random:0.5, say",
        )
    noise = Noise(seed=draw, index=torch.zeros(1, dtype=torch.int64), path=("mask",))
    order = noise.uniform((1, *spatial), dtype=torch.float64).flatten().argsort()
    mask = torch.ones(math.prod(spatial), dtype=torch.bool)
    mask[order[: round(missing * len(mask))]] = False
    return mask.reshape(spatial)


def _read(path: Path) -> Tensor:
    if not path.is_file():
        raise DataError(
            f"the mask {str(path)!r} is neither a known name nor a file",
            f"one of {', '.join(NAMES)}, or a path of an .npy, .npz or picture file",
            "Correct the name or the path",
        )
    if path.suffix.lower() in PICTURES:
        from diffkit_standard.datasets._images import decode

        return decode(path, "grey", _MAX_PIXELS)[0]
    from diffkit_standard.datasets._arrays import array_values

    return torch.from_numpy(np.array(array_values(path)))


def _fitted(values: Tensor, shape: tuple[int, ...], what: str) -> Tensor:
    """Binary values as bool, (1 or N, *shape)."""
    if values.dtype == torch.bool:
        return _as_laid_out(values, values, shape, what)
    numbers = values.detach().to(torch.float64)
    white = 255.0 if numbers.numel() and bool((numbers == 255.0).any()) else 1.0
    if not bool(((numbers == 0.0) | (numbers == white)).all()):
        odd = numbers[(numbers != 0.0) & (numbers != white)].flatten()[0]
        raise DataError(
            f"{what} holds the value {float(odd):g}",
            "a binary mask: 1 (or 255) where the sample is observed, 0 where it is missing",
            "Save a picture as PNG in pure black and white, without soft edges; round an array: `mask > 0.5`",
        )
    return _as_laid_out(numbers != 0.0, values, shape, what)


def _as_laid_out(observed: Tensor, values: Tensor, shape: tuple[int, ...], what: str) -> Tensor:
    for candidate in _layouts(observed, shape):
        if candidate.shape[1:] == torch.Size(shape) and len(candidate):
            return candidate
    raise DataError(
        f"{what} has the shape {tuple(values.shape)}, and samples have {shape}",
        f"{shape}, {shape[1:] if len(shape) > 1 else shape} for all channels, or either with one mask a "
        "sample on a first axis",
        "Cut or resize the mask to the samples' size",
    )


def _layouts(mask: Tensor, shape: tuple[int, ...]) -> list[Tensor]:
    """What the mask may mean, the surest reading first."""
    channels, spatial = shape[:1], shape[1:] if len(shape) > 1 else shape
    found = []
    if mask.shape == torch.Size(shape):
        found.append(mask[None])
    if mask.shape == torch.Size(spatial):
        found.append(mask.expand(shape)[None])
    if mask.shape[1:] == torch.Size(shape):
        found.append(mask)
    if len(shape) > 1 and mask.ndim > 1 and mask.shape[1:] == torch.Size((1, *spatial)):
        found.append(mask.expand(-1, *channels, *(-1 for _ in spatial)))
    if len(shape) > 1 and shape[0] == 1 and mask.shape[1:] == torch.Size(spatial):
        found.append(mask[:, None])
    return found
