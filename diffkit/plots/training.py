"""Curves along training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import median_filter

from diffkit.plots.style import PALETTE, Array, array, canvas, describe, legend

__all__ = ["loss_curve", "tracked"]


def loss_curve(steps: Array, losses: Array) -> Figure:
    """The training loss: every value faintly, and its running median over a fiftieth of the values.

    The axis is logarithmic where all losses are positive. Values that are not finite are left out.

    Args:
        steps, losses: (N,).
    """
    x, y = array(steps), array(losses).astype(np.float64)
    finite = np.isfinite(y)
    x, y = x[finite], y[finite]
    trend = median_filter(y, size=max(1, len(y) // 50) | 1, mode="nearest")
    figure, (axes,) = canvas(1, width=7.2, height=3.4)
    axes.plot(x, y, color=PALETTE[0], alpha=0.25, linewidth=0.8, label="each value")
    axes.plot(x, trend, color=PALETTE[0], linewidth=1.8, label="running median")
    if len(y) and y.min() > 0:
        axes.set_yscale("log")
    describe(axes, "step", "loss")
    legend(axes)
    return figure


def tracked(records: Sequence[Mapping[str, Any]], best: int | None = None) -> Figure:
    """Figures along training, a panel a metric, with error bars and a line at the best checkpoint.

    Args:
        records: `{"step": n, "figures": {name: {"value": v, "error": e}}}` each, as in `tracked.jsonl`.
        best: the step of the best checkpoint.
    """
    names = list(records[-1]["figures"])
    figure, panels = canvas(len(names), width=max(7.2, 3.6 * len(names)), height=3.4)
    steps = [record["step"] for record in records]
    for axes, name in zip(panels, names, strict=True):
        found = [record["figures"][name] for record in records]
        values, errors = ([each[key] for each in found] for key in ("value", "error"))
        bars = None if None in errors else errors
        axes.errorbar(steps, values, yerr=bars, color=PALETTE[0], marker="o", markersize=4, capsize=3)
        if best is not None:
            axes.axvline(best, color=PALETTE[1], linestyle="--", linewidth=1.0, label=f"best: {best:,}")
            legend(axes)
        describe(axes, "step", name)
    return figure
