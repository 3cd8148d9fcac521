"""Points of the plane."""

from __future__ import annotations

from matplotlib.figure import Figure

from diffkit.errors import DataError
from diffkit.plots.style import FAINT, PALETTE, Array, array, canvas, describe, legend

__all__ = ["scatter"]


def scatter(points: Array, reference: Array | None = None) -> Figure:
    """Samples of the plane as dots, over those of a reference.

    Args:
        points, reference: (N, 2).
    """
    figure, (axes,) = canvas(1, width=4.6, height=4.4)
    for cloud, colour, label in ((reference, FAINT, "reference"), (points, PALETTE[0], "samples")):
        if cloud is None:
            continue
        values = array(cloud)
        if values.ndim != 2 or values.shape[1] != 2:
            raise DataError(
                f"points of shape {values.shape} cannot be drawn in the plane",
                "Expected points of shape (N, 2)",
            )
        axes.scatter(values[:, 0], values[:, 1], s=6, color=colour, alpha=0.5, linewidths=0, label=label)
    axes.set_aspect("equal", adjustable="datalim")
    describe(axes, "", "")
    if reference is not None:
        legend(axes)
    return figure
