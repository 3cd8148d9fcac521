"""NumPy files: header, values, labels and layout, each refused with its reason; never a pickle."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from diffkit.errors import DataError

__all__ = [
    "Layout",
    "array_header",
    "array_label",
    "array_values",
    "channels_first",
    "guess_layout",
    "refuse_not_finite",
]

Layout = Literal["channels-first", "channels-last", "grey"]

_CHANNELS = (1, 3)
_BLOCK = 4096


def array_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type, from the first bytes of the file (`x` of an .npz)."""
    with _opened(path) as stream:
        version = np.lib.format.read_magic(stream)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = reader[version](stream)
    if dtype.kind not in "iuf":
        raise DataError(
            f"{path} holds values of type {dtype}",
            "integers in 0 .. 255 or floating-point numbers",
            "Save it as an array of numbers",
        )
    if len(shape) < 2 or 0 in shape:
        raise DataError(
            f"{path} holds an array of shape {shape}",
            "examples along the first axis and at least one further axis, none of them empty",
            "Reshape it, to (images, channels, height, width) for images or (N, D) for vectors",
        )
    return shape, dtype


def array_values(path: Path) -> NDArray[Any]:
    """The whole array; a memory map where the file allows it."""
    with _opened(path):
        if not zipfile.is_zipfile(path):
            return np.asarray(np.load(path, allow_pickle=False, mmap_mode="r"))
        with np.load(path, allow_pickle=False) as members:
            return np.asarray(members["x"])


def array_label(path: Path, count: int) -> NDArray[np.int64] | None:
    """`label` of an .npz, (count,), or None where there is none."""
    with _opened(path):
        if not zipfile.is_zipfile(path):
            return None
        with np.load(path, allow_pickle=False) as members:
            if "label" not in members.files:
                return None
            label = np.asarray(members["label"])
    if label.shape != (count,) or label.dtype.kind not in "iu" or label.min() < 0:
        raise DataError(
            f"`label` in {path} has the shape {label.shape}, the type {label.dtype} or values below 0",
            f"{count} integers from 0, one an example",
            "Number the classes from 0, or leave `label` out",
        )
    return label.astype(np.int64)


def guess_layout(path: Path, shape: Sequence[int], integers: bool) -> Layout:
    """What an array of this shape must mean; raises `DataError` where it could mean two things or none."""
    if len(shape) == 3 and integers:
        return "grey"
    if len(shape) != 4:
        return "channels-first"
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first == last:
        found = (
            "either the second or the last axis could be"
            if first
            else "neither the second nor the last axis is"
        )
        raise DataError(
            f"{path} holds an array of shape {tuple(shape)}, in which {found} one of 1 or 3 channels",
            "grey or RGB images, (N, C, H, W) or (N, H, W, C)",
            "State `layout: channels-first` or `channels-last`, which any number of channels may have",
        )
    return "channels-first" if first else "channels-last"


def channels_first(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """A view with the channels on the second axis."""
    if layout == "grey":
        return values[:, None]
    return np.moveaxis(values, -1, 1) if layout == "channels-last" else values


def refuse_not_finite(path: Path, values: NDArray[Any]) -> None:
    """Raises `DataError` with the number of NaN and infinite values and the place of the first."""
    count, first = 0, None
    for start in range(0, len(values), _BLOCK):
        bad = ~np.isfinite(values[start : start + _BLOCK])
        if bad.any() and first is None:
            place = np.unravel_index(int(bad.argmax()), bad.shape)
            first = (start + int(place[0]), *(int(i) for i in place[1:]))
        count += int(bad.sum())
    if count:
        raise DataError(
            f"{path} holds {count} value(s) that are NaN or infinite, the first at index {first}",
            "finite numbers",
            "Repair or remove these examples",
        )


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The array's own bytes; whatever goes wrong while reading becomes a `DataError` with the path."""
    if not path.is_file():
        raise DataError(
            f"there is no file {path} (looked for from {Path.cwd()})",
            "a .npy or .npz file",
            "Correct `path:`",
        )
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as members, members.open("x.npy") as stream:
                yield stream
        else:
            with path.open("rb") as stream:
                yield stream
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as problem:
        raise DataError(
            f"{path} cannot be read as an array: {problem}",
            "a whole .npy file, or a .npz file with an array `x`, of numbers (no pickled objects)",
            "Save it again with numpy.save(path, x), or numpy.savez(path, x=x, label=label)",
        ) from problem
