"""What all figures share: colours, print, axes, and how a figure becomes a file.

The ground is white and the ink dark whatever page a figure stands on. Lines take the colours of Okabe and Ito
(2008), told apart by colour-blind readers too, and a dash pattern of their own; images run through one hue,
or through viridis, so that they survive grey print. Nothing here touches pyplot or any other global state.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from diffkit import storage
from diffkit.errors import DataError

__all__ = [
    "DENSITY",
    "DPI",
    "FAINT",
    "INK",
    "NORMAL",
    "PALETTE",
    "SMALL",
    "Array",
    "Function",
    "Picture",
    "array",
    "canvas",
    "colour_bar",
    "describe",
    "legend",
    "png",
    "save",
    "shades",
    "stroke",
]

Array: TypeAlias = ArrayLike | Tensor
"""What can be drawn: numpy's arrays, nested lists, torch's tensors on any device."""

Function: TypeAlias = Callable[[Tensor], Array]
"""A function of points, such as a log-density (N, D) -> (N,)."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DENSITY = "Blues"
"""The colour map of densities: white where there is nothing."""

DPI = 100
INK, FAINT = "#333333", "#8c8c8c"
NORMAL, SMALL = 9.5, 8.0
"""Sizes of print, in points."""


class Picture(Figure):
    """A figure that a notebook shows without pyplot's backend being set up."""

    def _repr_png_(self) -> bytes:
        return png(self)


def array(values: Array) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def canvas(columns: int, rows: int = 1, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of width x height inches and its plain axes, row by row."""
    if not columns or not rows:
        raise DataError("nothing was given to draw", "Expected one panel's worth at least")
    figure = Picture(figsize=(width, height), dpi=DPI, layout="constrained")
    made = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes in made:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.tick_params(which="both", colors=INK, labelsize=SMALL, color=FAINT)
        axes.grid(visible=True, color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)
    return figure, made


def describe(axes: Axes, horizontal: str, vertical: str, title: str = "") -> None:
    axes.set_xlabel(horizontal, fontsize=NORMAL, color=INK)
    axes.set_ylabel(vertical, fontsize=NORMAL, color=INK)
    if title:
        axes.set_title(title, fontsize=NORMAL, color=INK)


def legend(axes: Axes, **where: Any) -> None:
    axes.legend(frameon=False, fontsize=SMALL, labelcolor=INK, **where)


def colour_bar(axes: Axes, image: ScalarMappable, words: str = "") -> None:
    """Beside an image, the scale of its colours."""
    bar = axes.figure.colorbar(image, ax=axes)
    bar.ax.tick_params(labelsize=SMALL, colors=INK, color=FAINT)
    bar.outline.set_visible(False)
    bar.set_label(words, fontsize=NORMAL, color=INK)


def stroke(number: int) -> dict[str, Any]:
    """Colour and dashes of one line of several."""
    dashes = ("-", "--", ":", "-.")
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": dashes[number % len(dashes)]}


def shades(count: int) -> list[Any]:
    """Colours of an ordered family of lines, dark to light, none too light for white ground."""
    return list(colormaps["viridis"](np.linspace(0.0, 0.85, count)))


def save(figure: Figure, path: str | Path) -> Path:
    """Writes `figure` as a PNG, whole or not at all, and returns `path`."""
    path = Path(path)
    with storage.replacing(path) as unfinished:
        unfinished.write_bytes(png(figure))
    return path


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi, pil_kwargs={"optimize": True})
    return buffer.getvalue()
