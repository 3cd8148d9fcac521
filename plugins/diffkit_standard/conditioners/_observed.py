"""What was observed, as a model sees it: from the data set, from files, or as an array.

| given                       | becomes                                                                      |
|-----------------------------|------------------------------------------------------------------------------|
| `held-out`                  | the data set's test split                                                    |
| a picture, a folder of them | black to white as the data set's lowest to highest level                     |
| whole numbers, one above 1  | levels of the data set, or 0 .. 255 as from a picture                        |
| numbers with a fraction     | in [-1, 1], or of data without levels, as they are; in [0, 255] as a picture |
"""

from __future__ import annotations

import logging
from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor

from diffkit.errors import DataError
from diffkit.interfaces.dataset import Dataset, DataSpec
from diffkit_standard.operators._masks import PICTURES, Values

__all__ = ["examples_of", "refuse_missing", "rows_for", "values_of"]

_MAX_PIXELS = 2**26
_ARRAYS = (".npy", ".npz")


def examples_of(
    given: Values,
    dataset: Dataset,
    shape: tuple[int, ...] | None = None,
    mask: Tensor | None = None,
    noise: float = 0.0,
) -> Tensor:
    """Examples (N, *shape) in the model's units, by the rules above.

    Args:
        shape: of one, where it is not that of the data set's examples.
        mask: (1 or N, *shape), where values must be finite; None = everywhere.
        noise: standard deviation of what was measured with them; it may take values six times that far
            beyond [-1, 1].

    Raises:
        DataError: no such file, another shape, values out of range or not finite.
    """
    if isinstance(given, str) and given == "held-out":
        return dataset.encode(dataset.load("test").raw)
    spec = dataset.spec() if shape is None else attrs.evolve(dataset.spec(), shape=shape)
    if isinstance(given, (str, Path)) and Path(given).suffix.lower() not in _ARRAYS:
        return _encoded_pictures(_pictures(Path(given), spec), dataset)
    what = "the examples" if isinstance(given, (Tensor, np.ndarray)) else str(given)
    values = _shaped(values_of(given), spec, what)
    if mask is not None and len(mask) in (1, len(values)):
        values = torch.where(values.isfinite() | mask.to(values.device), values, 0)
    _refuse_not_finite(values, what)
    low, high = float(values.min()), float(values.max())
    whole = not values.is_floating_point() or (high > 1.0 and bool((values == values.round()).all()))
    if whole and spec.levels is not None and low >= 0 and high < spec.levels:
        return dataset.encode(values)
    if whole and spec.image and low >= 0.0 and high <= 255.0:
        return _encoded_pictures(values, dataset)
    if spec.levels is None or (spec.image and max(-low, high) <= 1.0 + 6.0 * noise):
        if spec.image and low >= 0.0:
            logging.getLogger("diffkit").warning(
                "%s has values from %g to %g, which are read on the scale from -1 (black) to 1 (white)",
                what, low, high,
            )  # fmt: skip
        return dataset.from_plain(values.to(torch.get_default_dtype()))
    if spec.image and low >= 0.0 and high <= 255.0:
        return _encoded_pictures(values, dataset)
    raise DataError(
        f"{what} has values from {low:g} to {high:g}",
        f"floating-point values in [-1, 1], or values in [0, 255]{_levels(spec)}",
        "Rescale them",
    )


def refuse_missing(given: Values) -> None:
    """Raises `DataError` where a path leads nowhere."""
    if isinstance(given, (str, Path)) and str(given) != "held-out" and not Path(given).exists():
        raise DataError(
            f"there are no examples at {given}",
            "`held-out`, a picture, a folder of pictures, or an array in a file .npy or .npz",
            "Correct the path",
        )


def values_of(given: Values) -> Tensor:
    """The numbers of an array or of an .npy or .npz file, as they are.

    Raises:
        DataError: `held-out`, where no data set is at hand; a file that cannot be read.
    """
    if isinstance(given, (Tensor, np.ndarray)):
        return given.detach() if isinstance(given, Tensor) else torch.tensor(given)
    if str(given) == "held-out":
        raise DataError(
            "the examples to go by are 'held-out', and no data set is at hand",
            "an array (N, ...) in the model's units, or a file .npy or .npz with one",
            "Pass observed=, or sample through an Experiment, which knows its data set",
        )
    from diffkit_standard.datasets._arrays import array_values

    return torch.from_numpy(np.array(array_values(Path(given))))


def rows_for(values: Tensor, index: Tensor, shape: tuple[int, ...], what: str) -> Tensor:
    """The rows for the samples of a batch, by global index modulo their number, (B, *shape)."""
    if values.shape == torch.Size(shape):
        values = values[None]
    if values.shape[1:] != torch.Size(shape) or not len(values):
        raise DataError(
            f"{what} has the shape {tuple(values.shape)}",
            f"(N, {', '.join(map(str, shape))}): one or more, each of the shape {shape}",
            "Give it in the shape that the model's samples have",
        )
    return values[index.to(values.device) % len(values)]


def _pictures(path: Path, spec: DataSpec) -> Tensor:
    from diffkit_standard.datasets._images import decode

    refuse_missing(path)
    if not spec.image:
        raise DataError(
            f"{path} is no array",
            "an array in a file .npy or .npz, since the model's samples are no images",
            "Save the examples so",
        )
    inside = (
        sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES) if path.is_dir() else []
    )
    files = inside or [path]
    if path.is_dir() and not inside:
        raise DataError(
            f"the folder {path} holds no pictures", "files such as .png or .jpg", "Correct the path"
        )
    decoded = []
    for file in files:
        picture = decode(file, "grey" if spec.shape[0] == 1 else "rgb", _MAX_PIXELS)
        decoded.append(_shaped(picture[None], spec, str(file)))
    return torch.cat(decoded)


def _encoded_pictures(values: Tensor, dataset: Dataset) -> Tensor:
    """0 .. 255 as the data set's lowest to highest level; as [-1, 1] in plain units where it has none."""
    levels = dataset.spec().levels
    if levels is None:
        return dataset.from_plain(values.to(torch.get_default_dtype()) / 127.5 - 1.0)
    return dataset.encode(values.to(torch.float64) * ((levels - 1) / 255.0))


def _shaped(values: Tensor, spec: DataSpec, what: str) -> Tensor:
    """(N, *shape), from one example or many, channels first or last, grey without channels."""
    shape = torch.Size(spec.shape)
    candidates = [values, values[None]]
    if spec.image:
        if values.ndim in (3, 4):
            candidates += [values.movedim(-1, -3), values.movedim(-1, -3)[None]]
        if spec.shape[0] == 1:
            candidates += [values.unsqueeze(-3), values.unsqueeze(-3)[None]]
    for candidate in candidates:
        if candidate.shape[1:] == shape and len(candidate):
            return candidate
    raise DataError(
        f"{what} has the shape {tuple(values.shape)}",
        f"examples of shape {spec.shape}, as the model was trained on, one or (N, ...)",
        "Resize or crop them",
    )


def _refuse_not_finite(values: Tensor, what: str) -> None:
    bad = int((~values.isfinite()).sum())
    if bad:
        raise DataError(f"{what} holds {bad} value(s) that are NaN or infinite", "finite numbers")


def _levels(spec: DataSpec) -> str:
    return f" (the data set's levels are 0 to {spec.levels - 1})" if spec.levels else ""
