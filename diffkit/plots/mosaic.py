"""Many small pictures as one figure whose pixels are whole: no blur, no resampling.

A picture of H x W is enlarged k times by repetition, k the largest whole number that keeps its
longer side within 96 pixels (1 where it is longer already), and the figure measures exactly as many
pixels as the canvas it shows. Captions stand in a strip above a row, only where a row has any.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diffkit.errors import DataError
from diffkit.plots.style import DPI, INK, SMALL, Array, Picture, array

__all__ = ["mosaic", "tiles"]

_CELL, _GAP, _CAPTION = 96, 6, 16
_LETTER = 0.6 * SMALL * DPI / 72.0  # pixels
_UNKNOWN = (255, 0, 255)


def tiles(pictures: Array) -> NDArray[np.uint8]:
    """(N, H, W, 3) bytes from (N, 1 or 3, H, W) in [0, 1]; NaN becomes magenta."""
    values = array(pictures).astype(np.float32)
    if values.ndim != 4 or values.shape[1] not in (1, 3) or not values.size:
        raise DataError(
            f"pictures of shape {values.shape} cannot be drawn",
            "Expected grey or RGB pictures (N, 1 or 3, H, W) in [0, 1], at least one",
            "Draw points of the plane with `scatter` and signals with `lines`",
        )
    unknown = np.isnan(values).any(axis=1)
    levels = (np.nan_to_num(values).clip(0.0, 1.0) * 255.0).round().astype(np.uint8)
    colours = np.moveaxis(np.broadcast_to(levels, (len(levels), 3, *levels.shape[2:])), 1, -1).copy()
    colours[unknown] = _UNKNOWN
    return colours


def mosaic(
    pictures: NDArray[np.uint8], columns: int, captions: Sequence[str] = (), names: Sequence[str] = ()
) -> Figure:
    """The pictures row by row.

    Args:
        pictures: (N, H, W, 3) bytes.
        columns: of the grid.
        captions: of the first pictures, shortened to their width; an empty one leaves no trace.
        names: of the rows, written to their left.
    """
    count, height, width, _ = pictures.shape
    scale = max(1, _CELL // max(height, width))
    tall, wide = height * scale, width * scale
    rows = -(-count // columns)
    strips = [_CAPTION * any(captions[row * columns : (row + 1) * columns]) for row in range(rows)]
    tops = _GAP + np.cumsum(strips) + np.arange(rows) * (tall + _GAP)
    margin = math.ceil(_LETTER * max(map(len, names), default=0)) + _GAP * bool(names)
    lefts = margin + _GAP + np.arange(columns) * (wide + _GAP)
    size_y = _GAP + sum(strips) + rows * (tall + _GAP)
    size_x = margin + _GAP + columns * (wide + _GAP)

    canvas = np.full((size_y, size_x, 3), 255, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        top, left = tops[number // columns], lefts[number % columns]
        canvas[top : top + tall, left : left + wide] = picture.repeat(scale, axis=0).repeat(scale, axis=1)

    page = Picture(figsize=(size_x / DPI, size_y / DPI), dpi=DPI)
    axes = page.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.imshow(canvas, interpolation="nearest", aspect="auto", extent=(0.0, size_x, size_y, 0.0))
    for number, caption in enumerate(captions):
        x, y = lefts[number % columns] + wide / 2, tops[number // columns] - 3
        axes.text(x, y, _fitted(caption, wide), ha="center", fontsize=SMALL, color=INK)
    for top, name in zip(tops, names, strict=False):
        axes.text(margin, top + tall / 2, name, ha="right", va="center", fontsize=SMALL, color=INK)
    return page


def _fitted(caption: str, width: int) -> str:
    """As much of a caption as fits `width` pixels."""
    room = max(1, int(width / _LETTER))
    return caption if len(caption) <= room else caption[: max(1, room - 1)] + "…"
