"""A bound on the likelihood, term by term."""

from __future__ import annotations

from matplotlib.figure import Figure

from diffkit.plots.style import PALETTE, Array, array, canvas, describe

__all__ = ["terms"]


def terms(t: Array, bits: Array) -> Figure:
    """Bits/dim of each step of the chain against its time; logarithmic where all are positive.

    Args:
        t, bits: (T,).
    """
    figure, (axes,) = canvas(1, width=7.2, height=3.4)
    axes.plot(array(t), array(bits), color=PALETTE[0], marker=".", markersize=3, linewidth=1.0)
    if array(bits).min() > 0:
        axes.set_yscale("log")
    describe(axes, "time t", "bits/dim of the term")
    return figure
