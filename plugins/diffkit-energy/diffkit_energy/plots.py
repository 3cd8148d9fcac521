"""Energies as landscapes, over images of one or two pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from diffkit.errors import DataError
from diffkit.plots.style import INK, SMALL, canvas, colour_bar, describe

__all__ = ["landscape"]

_COLOURS = ("#0072B2", "#D55E00", "#8c8c8c", "#009E73", "#CC79A7")
_POINTS = 201


def landscape(
    energy: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    *,
    low: float = -1.0,
    high: float = 1.0,
    marks: Mapping[str, Tensor] | None = None,
) -> Figure:
    """The energy of every image of one or two pixels: a curve, or a map with contours half a nat apart.

    Args:
        energy: from (B, *shape) to (B,).
        shape: of one image: one or two elements in all.
        low, high: the range of a pixel.
        marks: images (N, *shape) to be marked in it, such as data and the ends of chains, by name.

    Raises:
        DataError: images of more elements.
    """
    size = math.prod(shape)
    if size not in (1, 2):
        raise DataError(f"an image of shape {shape} has {size} elements", "one or two, to be drawn over")
    line = torch.linspace(low, high, _POINTS)
    places = torch.cartesian_prod(*size * (line,)).reshape(-1, *shape)
    with torch.no_grad():
        heights = energy(places).reshape(*size * (_POINTS,)).numpy()
    axis = line.numpy()
    pixels = ("first pixel", "second pixel") if size == 2 else ("pixel",)
    # Points of the plane have coordinates, here in the units that the model sees.
    names = ("$x_1$ as encoded", "$x_2$ as encoded") if len(shape) == 1 else pixels
    figure, (axes,) = canvas(1, width=5.4, height=4.4 if size == 2 else 3.4)
    if size == 1:
        axes.plot(axis, heights, color=INK, linewidth=1.4)
        describe(axes, names[0], "energy E")
    else:
        depth = np.minimum(heights.T - heights.min(), 10.0)
        image = axes.pcolormesh(axis, axis, depth, cmap="viridis", rasterized=True)
        axes.contour(axis, axis, depth, np.arange(0.5, 10.0, 0.5), colors="white", linewidths=0.4)
        axes.grid(visible=False)
        axes.set_aspect("equal")
        colour_bar(axes, image, "E above its least, cut at 10")
        describe(axes, *names)
    for (name, images), colour in zip((marks or {}).items(), _COLOURS, strict=False):
        x = images.reshape(len(images), size).numpy()
        with torch.no_grad():
            y = x[:, 1] if size == 2 else energy(images).numpy()
        axes.scatter(x[:, 0], y, s=8, color=colour, edgecolors="white", linewidths=0.3, label=name, zorder=3)
    axes.set_xlim(low, high)  # marks outside are of images that nobody can show
    if size == 2:
        axes.set_ylim(low, high)
    if marks:
        axes.legend(loc="upper center" if size == 1 else "upper left", frameon=size == 2, fontsize=SMALL)
    return figure
