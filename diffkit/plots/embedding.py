"""What a network is told of the noise level."""

from __future__ import annotations

from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor

from diffkit.errors import DataError
from diffkit.plots.style import Array, array, canvas, colour_bar, describe

__all__ = ["embedding"]

_SAMPLES = 16  # in the width of a column


def embedding(function: Callable[[Tensor], Array], variance: Tensor | None = None) -> Figure:
    """Heat map of an embedding of the noise variance: a row a component, a column a variance.

    A column shows the mean over its width: what turns too fast to be drawn is pale, and no false pattern.

    Args:
        function: (T,) variances -> (T, K) components.
        variance: evenly spaced; 501 from 0 to 1 by default.
    """
    levels = torch.linspace(0.0, 1.0, 501) if variance is None else variance
    half = float(levels[1] - levels[0]) / 2.0
    low, high = (levels - half).clamp(min=levels[0]), (levels + half).clamp(max=levels[-1])
    places = torch.lerp(low[:, None], high[:, None], (torch.arange(_SAMPLES) + 0.5) / _SAMPLES).flatten()
    vectors = array(function(places))
    if vectors.ndim != 2 or len(vectors) != len(places):
        raise DataError(
            f"an embedding of shape {vectors.shape} came for {len(places)} noise variances",
            "Expected (T, K) components of T variances",
        )
    means = vectors.reshape(len(levels), _SAMPLES, -1).mean(1)
    figure, (axes,) = canvas(1, width=7.2, height=3.6)
    extent = (float(levels[0]) - half, float(levels[-1]) + half, means.shape[1] - 0.5, -0.5)
    image = axes.imshow(
        means.T, cmap="RdBu", vmin=-1.0, vmax=1.0, aspect="auto", interpolation="nearest", extent=extent
    )
    axes.grid(visible=False)
    colour_bar(axes, image)
    describe(axes, "noise variance", "component")
    return figure
