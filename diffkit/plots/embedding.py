"""What a network is told of the noise level."""

from __future__ import annotations

from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor

from diffkit.errors import DataError
from diffkit.plots.style import Array, array, canvas, colour_bar, describe

__all__ = ["embedding"]


def embedding(function: Callable[[Tensor], Array], variance: Tensor | None = None) -> Figure:
    """Heat map of an embedding of the noise variance: a row a component, a column a variance.

    Args:
        function: (T,) variances -> (T, K) components.
        variance: evenly spaced; 501 from 0 to 1 by default.
    """
    levels = torch.linspace(0.0, 1.0, 501) if variance is None else variance
    vectors = array(function(levels))
    if vectors.ndim != 2 or len(vectors) != len(levels):
        raise DataError(
            f"an embedding of shape {vectors.shape} came for {len(levels)} noise variances",
            "Expected (T, K) components of T variances",
        )
    figure, (axes,) = canvas(1, width=7.2, height=3.6)
    half = float(levels[1] - levels[0]) / 2.0
    extent = (float(levels[0]) - half, float(levels[-1]) + half, vectors.shape[1] - 0.5, -0.5)
    image = axes.imshow(
        vectors.T, cmap="RdBu", vmin=-1.0, vmax=1.0, aspect="auto", interpolation="nearest", extent=extent
    )
    axes.grid(visible=False)
    colour_bar(axes, image)
    describe(axes, "noise variance", "component")
    return figure
