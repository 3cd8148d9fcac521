"""Pictures in a grid, along time, and in rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from diffkit.errors import DataError
from diffkit.plots.mosaic import mosaic, tiles
from diffkit.plots.style import Array, array

__all__ = ["before_after", "class_rows", "film_strip", "rows", "sheet"]


def sheet(
    pictures: Array,
    labels: Sequence[int] | Array | None = None,
    columns: int | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Pictures in a grid, enlarged by a whole factor so that every pixel stays a crisp square.

    Args:
        pictures: (N, 1 or 3, H, W) in [0, 1]; what lies outside is clipped, NaN shows as magenta.
        labels: (N,) classes, written above the pictures; -1 = none.
        columns: of the grid; by default as square as it gets.
        names: of the classes; by default their numbers.
    """
    squares = tiles(pictures)
    columns = columns or max(1, math.ceil(math.sqrt(len(squares))))
    captions = [] if labels is None else [_class_name(int(label), names) for label in array(labels)]
    if captions and len(captions) != len(squares):
        raise DataError(
            f"{len(captions)} labels came with {len(squares)} pictures", "Expected one label a picture"
        )
    return mosaic(squares, columns, captions)


def film_strip(frames: Array, captions: Sequence[str]) -> Figure:
    """Pictures along time: a row a sample, a column a time.

    Args:
        frames: (T, B, 1 or 3, H, W) in [0, 1].
        captions: T of them, written above the columns.
    """
    film = array(frames)
    if film.ndim != 5 or len(film) != len(captions):
        raise DataError(
            f"frames of shape {film.shape} came with {len(captions)} captions",
            "Expected frames (T, B, 1 or 3, H, W) and T captions",
        )
    by_sample = np.swapaxes(film, 0, 1)
    return mosaic(tiles(by_sample.reshape(-1, *film.shape[2:])), len(film), captions)


def before_after(original: Array, incomplete: Array, *completed: Array, names: Sequence[str] = ()) -> Figure:
    """What was there, what a model was given and what it made of it, side by side, a row an image.

    Args:
        original, incomplete: (B, 1 or 3, H, W) in [0, 1]; what is missing is NaN.
        completed: the same, once or several times.
        names: of these, such as the methods that made them.
    """
    kinds = [array(pictures) for pictures in (original, incomplete, *completed)]
    return film_strip(np.stack(kinds), ("original", "incomplete", *(names or ["completed"] * len(completed))))


def rows(pictures: Mapping[str, Array], captions: Sequence[str] = ()) -> Figure:
    """Pictures in named rows: a row a number of steps, say, or a way from one sample to another, or a class.

    Args:
        pictures: (N, 1 or 3, H, W) in [0, 1] by the row's name, all of one size; rows may differ in length.
        captions: of the columns, written above them.
    """
    made = [tiles(row) for row in pictures.values()]
    if not made or len({row.shape[1:] for row in made}) > 1:
        raise DataError(
            f"{len(made)} rows came, of pictures {sorted({row.shape[1:3] for row in made})}",
            "Expected one row at least, and pictures of one size",
        )
    columns = max(map(len, made))
    full = [
        np.concatenate([row, np.full((columns - len(row), *row.shape[1:]), 255, np.uint8)]) for row in made
    ]
    return mosaic(np.concatenate(full), columns, captions, list(pictures))


def class_rows(
    pictures: Array, labels: Sequence[int] | Array, names: Sequence[str] | None = None, columns: int = 15
) -> Figure:
    """A row a class, in the order of the classes, with its name and its first pictures.

    Args:
        pictures: (N, 1 or 3, H, W) in [0, 1].
        labels: (N,) classes; pictures of -1 (none) are left out.
        names: of the classes; by default their numbers.
        columns: pictures a class at most.
    """
    values, classes = array(pictures), array(labels)
    if len(values) != len(classes):
        raise DataError(
            f"{len(classes)} labels came with {len(values)} pictures", "Expected one label a picture"
        )
    present = np.unique(classes[classes >= 0])
    return rows({_class_name(int(each), names): values[classes == each][:columns] for each in present})


def _class_name(label: int, names: Sequence[str] | None) -> str:
    if label < 0:
        return ""
    return str(label) if names is None or label >= len(names) else names[label]
