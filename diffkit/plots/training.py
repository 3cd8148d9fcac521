"""Curves along training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from diffkit.errors import DataError
from diffkit.plots.style import PALETTE, Array, array, canvas, describe, legend, stroke

__all__ = ["energies", "loss_curve", "losses", "predicted_noise", "tracked"]


def loss_curve(steps: Array, losses: Array) -> Figure:
    """The training loss: every value faintly, and its running median over a fiftieth of the values.

    The axis is logarithmic where all losses are positive. Values that are not finite are left out.

    Args:
        steps, losses: (N,).
    """
    x, y = array(steps), array(losses).astype(np.float64)
    finite = np.isfinite(y)
    x, y = x[finite], y[finite]
    trend = _trend(y)
    figure, (axes,) = canvas(1, width=7.2, height=3.4)
    axes.plot(x, y, color=PALETTE[0], alpha=0.25, linewidth=0.8, label="each value")
    axes.plot(x, trend, color=PALETTE[0], linewidth=1.8, label="running median")
    if len(y) and y.min() > 0:
        axes.set_yscale("log")
    describe(axes, "step", "loss")
    legend(axes)
    return figure


def losses(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """The training losses of several models on the same axes: running medians over a fiftieth of the values.

    Args:
        logs: by the model's name, a `{"step": n, "loss": v}` each step, as `Experiment.log` gives them.
    """
    figure, (axes,) = canvas(1, width=7.2, height=3.4)
    positive = True
    for number, (name, log) in enumerate(logs.items()):
        x, y = (np.array([line[key] for line in log], dtype=np.float64) for key in ("step", "loss"))
        x, y = x[np.isfinite(y)], y[np.isfinite(y)]
        axes.plot(x, _trend(y), linewidth=1.4, label=name, **stroke(number))
        positive = positive and bool((y > 0.0).all())
    axes.set_yscale("log" if positive else "linear")
    describe(axes, "step", "loss (running median)")
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


def energies(steps: Array, values: Mapping[str, Array]) -> Figure:
    """Energies along training, of data and of samples, say: every value faintly, a running median a line.

    Args:
        steps: (N,).
        values: (N,) each, by name.
    """
    x = array(steps)
    figure, (axes,) = canvas(1, width=7.2, height=3.4)
    for number, (name, energy) in enumerate(values.items()):
        y = array(energy).astype(np.float64)
        finite = np.isfinite(y)
        look = stroke(number)
        axes.plot(x[finite], y[finite], color=look["color"], alpha=0.2, linewidth=0.8)
        axes.plot(x[finite], _trend(y[finite]), linewidth=1.8, label=name, **look)
    describe(axes, "step", "energy")
    legend(axes)
    return figure


def predicted_noise(pairs: Mapping[str, tuple[Array, Array]]) -> Figure:
    """Noise as a model sees it against the noise that was added, a panel a model, element by element.

    Each panel holds the density of the pairs (logarithmic), the line where both are equal, and in its title
    Pearson's correlation r and the root mean squared error.

    Args:
        pairs: eps and eps_hat, arrays of one shape, by the panel's name ("before training", say).
    """
    figure, panels = canvas(len(pairs), width=max(4.2, 3.6 * len(pairs)), height=3.6)
    for axes, (name, pair) in zip(panels, pairs.items(), strict=True):
        true, seen = (array(side).astype(np.float64).ravel() for side in pair)
        if true.shape != seen.shape or not true.size:
            raise DataError(
                f"{name}: {true.size} elements of noise came with {seen.size} predicted ones",
                "Expected two arrays of one shape, for the same elements",
            )
        reach = 1.05 * max(np.abs(true).max(), np.abs(seen).max())
        cells = int(np.clip(np.sqrt(true.size) / 2.0, 20, 90))
        edges = np.linspace(-reach, reach, cells + 1)
        counts, _, _ = np.histogram2d(seen, true, bins=(edges, edges))
        shown = np.ma.masked_equal(counts, 0)
        axes.pcolormesh(edges, edges, shown, cmap="viridis", norm=LogNorm(1, max(2.0, counts.max())))
        axes.axline((0.0, 0.0), slope=1.0, color=PALETTE[1], linestyle="--", linewidth=1.2)
        varies = true.std() > 0.0 and seen.std() > 0.0
        r = f"r = {np.corrcoef(true, seen)[0, 1]:.3f}" if varies else "r undefined (constant)"
        error = np.sqrt(np.mean((seen - true) ** 2))
        axes.set_aspect("equal")
        title = f"{name}\n{r}, rms error {error:.3g}"
        describe(axes, r"noise $\epsilon$", r"predicted $\hat\epsilon$", title)
    return figure


def _trend(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The running median over a fiftieth of the values."""
    trend: NDArray[np.float64] = median_filter(values, size=max(1, len(values) // 50) | 1, mode="nearest")
    return trend
