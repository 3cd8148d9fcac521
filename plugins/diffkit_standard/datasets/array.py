"""Examples in a NumPy file: images, signals or vectors."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, final

import attrs
import numpy as np
import torch
from attrs.validators import and_, ge, gt, in_, lt
from numpy.typing import NDArray

from diffkit.component import parameter
from diffkit.errors import DataError
from diffkit.interfaces.dataset import Dataset, DataSpec, Examples, SplitName
from diffkit_standard.datasets._arrays import (
    Layout,
    array_header,
    array_label,
    array_values,
    channels_first,
    guess_layout,
    refuse_not_finite,
)
from diffkit_standard.datasets._folder import held_out
from diffkit_standard.datasets._images import refuse_too_large

__all__ = ["Array"]


def _is_range(instance: Any, attribute: Any, value: Any) -> None:
    if value not in ("auto", None) and not (len(value) == 2 and value[0] < value[1]):
        raise ValueError(f"{attribute.name!r} must be 'auto', null or [lowest, highest], got {value!r}")


@final
@attrs.frozen(kw_only=True)
class Array(Dataset):
    """A `.npy` file, or a `.npz` file with `x` and perhaps `label` (N,), integers from 0.

    Integers must lie in 0 .. 255 and have 256 levels; floating-point numbers must be finite and are
    continuous data. Layouts, with the examples along the first axis (`layout: auto`; what is
    concluded is logged where axes move):

    - (N, C, H, W) or (N, H, W, C) with C = 1 or 3 are images; where both could be meant, or
      neither, `layout` must be stated;
    - (N, H, W) of integers are grey images;
    - anything else, such as vectors (N, D) and signals (N, C, T), is taken as it is.

    Floating-point images are brought from `range` to [-1, 1]; `auto` is [0, 1] if no value lies
    outside, else [-1, 1] if none lies outside that, else an error. Other floating-point data are
    taken as they are unless a range is given. An example is for testing if its number hashes below
    `test_share`, so that appending examples moves none to the other side. `spec` reads the header
    and the labels only, and for floating-point images under `range: auto` the values.

    Raises:
        DataError: no such file, not an array, pickled objects, NaN or infinity, values outside the
            range, a shape that fits no layout, more memory than the limit.
    """

    path: str = parameter("the .npy or .npz file; relative to where the command is run")
    layout: Literal["auto", "channels-first", "channels-last", "grey"] = parameter(
        "where the channels are; grey = there is no axis for them",
        "auto",
        validator=in_(("auto", "channels-first", "channels-last", "grey")),
    )
    range: Literal["auto"] | tuple[float, float] | None = parameter(
        "[lowest, highest] floating-point value, brought to [-1, 1]; null = values as they are",
        "auto",
        validator=_is_range,
    )
    test_share: float = parameter("share of the examples held out", 0.1, validator=and_(ge(0.0), lt(1.0)))
    memory_limit_gib: float = parameter("refuse arrays that take more memory, in GiB", 4.0, validator=gt(0.0))

    def spec(self) -> DataSpec:
        return self._spec

    def load(self, split: SplitName) -> Examples:
        shape = self.spec().shape
        values, label = self._values(), self._label
        rows = np.asarray(
            held_out([str(number) for number, _ in enumerate(values)], self.test_share), dtype=bool
        )
        rows = rows if split == "test" else ~rows
        if not rows.any():
            raise DataError(
                f"the {len(values)} examples of {self._file} leave nothing for the {split} split"
                f" (test_share {self.test_share:g})",
                "at least one example in each split",
                "Give more examples, or change `test_share`",
            )
        self._refuse_out_of_range(values)
        dtype = np.dtype(np.uint8) if self._integers else values.dtype.newbyteorder("=")
        raw = np.ascontiguousarray(channels_first(values[rows], self._layout), dtype=dtype)
        return Examples(
            raw=torch.from_numpy(raw).reshape(-1, *shape),
            label=None if label is None else torch.from_numpy(label[rows]),
        )

    @cached_property
    def _spec(self) -> DataSpec:
        shape, _ = self._header
        inner = channels_first(np.broadcast_to(np.uint8(0), shape), self._layout).shape[1:]
        classes = None if self._label is None else int(self._label.max()) + 1
        if self._integers:
            return DataSpec(shape=inner, classes=classes, levels=256)
        if self._bounds is None:
            return DataSpec(shape=inner, classes=classes)
        low, high = self._bounds
        scale = 2.0 / (high - low)
        return DataSpec(shape=inner, classes=classes, scale=(scale,), offset=(-1.0 - scale * low,))

    @property
    def _file(self) -> Path:
        return Path(self.path).expanduser()

    @cached_property
    def _header(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        return array_header(self._file)

    @property
    def _integers(self) -> bool:
        return self._header[1].kind in "iu"

    @cached_property
    def _layout(self) -> Layout:
        shape, _ = self._header
        if self.layout != "auto":
            return self.layout
        layout = guess_layout(self._file, shape, self._integers)
        if layout != "channels-first":
            axes = (
                "(images, height, width, channels)"
                if layout == "channels-last"
                else "(grey images, height, width)"
            )
            logging.getLogger("diffkit").info("%s of shape %s is read as %s", self._file, shape, axes)
        return layout

    @cached_property
    def _label(self) -> NDArray[np.int64] | None:
        """Classes, where there are at least two."""
        label = array_label(self._file, self._header[0][0])
        return None if label is None or label.max() == 0 else label

    @cached_property
    def _bounds(self) -> tuple[float, float] | None:
        """Lowest and highest value, where floating-point data are rescaled."""
        if self.range != "auto":
            return self.range
        if len(self._header[0]) != 4 and self._layout != "grey":
            return None
        values = self._values()
        refuse_not_finite(self._file, values)
        low, high = float(values.min()), float(values.max())
        if low < -1.0 or high > 1.0:
            raise DataError(
                f"the images in {self._file} have values from {low:g} to {high:g}",
                "[0, 1] or [-1, 1], or a stated range",
                "Set `range: [lowest, highest]`, such as [0, 255], or `range: null` for values as they are",
            )
        return (0.0, 1.0) if low >= 0.0 else (-1.0, 1.0)

    def _values(self) -> NDArray[Any]:
        shape, dtype = self._header
        refuse_too_large(str(self._file), shape, dtype.itemsize, self.memory_limit_gib)
        return array_values(self._file)

    def _refuse_out_of_range(self, values: NDArray[Any]) -> None:
        refuse_not_finite(self._file, values)
        bounds = (0, 255) if self._integers else self._bounds
        low, high = values.min(), values.max()
        if bounds is not None and (low < bounds[0] or high > bounds[1]):
            raise DataError(
                f"{self._file} has values from {low} to {high}",
                f"values from {bounds[0]} to {bounds[1]}",
                "Rescale them, or store them as floating-point numbers and set `range:`",
            )
