"""Figures of several runs as bars, a panel a metric."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffkit.plots.style import DPI, INK, PALETTE, SMALL
from diffkit_standard.commands._figures import Row

__all__ = ["bars"]


def bars(rows: Sequence[Row]) -> Figure:
    """A bar for every run that has the figure, its standard error, and the floor of real data dashed."""
    height = 0.8 + 0.36 * len(rows[0].figures)
    figure = Figure(figsize=(7.2, height * len(rows)), dpi=DPI, layout="constrained")
    for axes, row in zip(figure.subplots(len(rows), 1, squeeze=False).ravel(), rows, strict=True):
        _panel(axes, row)
    return figure


def _panel(axes: Axes, row: Row) -> None:
    there = [(place, figure) for place, figure in enumerate(row.figures.values()) if figure is not None]
    for place, figure in there:
        value, error = figure["value"], figure.get("error")
        axes.barh(
            place, value, xerr=error, height=0.6, color=PALETTE[place % len(PALETTE)], ecolor=INK, capsize=3
        )
        text = f" {value:.4g}" + ("" if error is None else f" ± {error:.2g}")
        axes.annotate(text, (max(0.0, value + (error or 0.0)), place), va="center", fontsize=SMALL, color=INK)
    real = [figure["details"]["floor"] for _, figure in there if figure["details"].get("floor")]
    floors = {(floor["value"], floor.get("error") or 0.0) for floor in real}
    if len(floors) == 1 and math.isfinite(sum(floor := floors.pop())):
        value, error = floor
        axes.axvline(value, color=INK, linestyle="--", linewidth=0.8, label="real data")
        axes.axvspan(value - error, value + error, color=INK, alpha=0.12, linewidth=0)
        axes.legend(frameon=False, fontsize=SMALL)
    axes.set_yticks(range(len(row.figures)), list(row.figures), fontsize=SMALL)
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_title(row.name, fontsize=SMALL, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
