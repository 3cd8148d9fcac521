"""One-dimensional signals."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from diffkit.errors import DataError
from diffkit.plots.style import DPI, FAINT, PALETTE, Array, Picture, array

__all__ = ["lines"]


def lines(signals: Array, columns: int | None = None) -> Figure:
    """1-d signals, a small panel each with the same axes, a line a channel.

    Args:
        signals: (N, L) or (N, C, L).
        columns: of the grid; by default as square as it gets.
    """
    values = array(signals)
    if values.ndim not in (2, 3) or not len(values):
        raise DataError(
            f"signals of shape {values.shape} cannot be drawn",
            "Expected signals of shape (N, L) or (N, C, L)",
        )
    values = values.reshape(len(values), -1, values.shape[-1])
    columns = columns or math.ceil(math.sqrt(len(values)))
    rows = -(-len(values) // columns)
    figure = Picture(figsize=(1.6 * columns, 1.0 * rows + 0.2), dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, signal in zip(panels, values, strict=False):
        axes.axhline(0.0, color=FAINT, linewidth=0.5)
        for channel, colour in zip(signal, PALETTE * len(signal), strict=False):
            axes.plot(channel, color=colour, linewidth=1.0)
    return figure
