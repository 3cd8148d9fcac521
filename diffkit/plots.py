"""Pictures of samples, processes and figures of merit, each a matplotlib `Figure` of its own.

Nothing here touches pyplot or any other global state, so the functions serve scripts, threads and
notebooks alike (a figure that ends a cell shows itself). Arrays may be numpy's or torch's, on any
device. Colours are those of Okabe and Ito (2008), told apart by colour-blind readers too.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import median_filter

from diffkit import storage
from diffkit.errors import DataError
from diffkit.interfaces.sde import GaussianSDE
from diffkit.mosaic import DPI, INK, SMALL, Array, array, mosaic, tiles

__all__ = [
    "before_after",
    "film_strip",
    "lines",
    "loss_curve",
    "losses",
    "save",
    "scatter",
    "schedules",
    "sheet",
    "terms",
    "tracked",
]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_FAINT = "#8c8c8c"
_NORMAL = 9.5  # points
_DASHES = ("-", "--", ":", "-.")


class _Picture(Figure):
    """A figure that a notebook shows without pyplot's backend being set up."""

    def _repr_png_(self) -> bytes:
        return _png(self)


def sheet(
    pictures: Array,
    labels: Sequence[int] | Array | None = None,
    columns: int | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Pictures in a grid, enlarged by a whole factor so that every pixel stays a crisp square.

    Args:
        pictures: (N, 1 or 3, H, W) in [0, 1]; what lies outside is clipped, NaN shows as magenta.
        labels: (N,) classes, written above the pictures; -1 = none.
        columns: of the grid; by default as square as it gets.
        names: of the classes; by default their numbers.
    """
    squares = tiles(pictures)
    columns = columns or max(1, math.ceil(math.sqrt(len(squares))))
    captions = [] if labels is None else [_class_name(int(label), names) for label in array(labels)]
    if captions and len(captions) != len(squares):
        raise DataError(
            f"{len(captions)} labels came with {len(squares)} pictures", "Expected one label a picture"
        )
    return mosaic(_Picture, squares, columns, captions)


def film_strip(frames: Array, captions: Sequence[str]) -> Figure:
    """Pictures along time: a row a sample, a column a time.

    Args:
        frames: (T, B, 1 or 3, H, W) in [0, 1].
        captions: T of them, written above the columns.
    """
    film = array(frames)
    if film.ndim != 5 or len(film) != len(captions):
        raise DataError(
            f"frames of shape {film.shape} came with {len(captions)} captions",
            "Expected frames (T, B, 1 or 3, H, W) and T captions",
        )
    by_sample = np.swapaxes(film, 0, 1)
    return mosaic(_Picture, tiles(by_sample.reshape(-1, *film.shape[2:])), len(film), captions)


def before_after(original: Array, incomplete: Array, *completed: Array) -> Figure:
    """What was there, what a model was given and what it made of it, side by side, a row an image.

    Args:
        original, incomplete: (B, 1 or 3, H, W) in [0, 1]; what is missing is NaN.
        completed: the same, once or several times.
    """
    kinds = [array(pictures) for pictures in (original, incomplete, *completed)]
    return film_strip(np.stack(kinds), ("original", "incomplete", *("completed" for _ in completed)))


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
    figure, (axes,) = _panels(1, width=7.2, height=3.4)
    axes.plot(x, y, color=PALETTE[0], alpha=0.25, linewidth=0.8, label="each value")
    axes.plot(x, trend, color=PALETTE[0], linewidth=1.8, label="running median")
    if len(y) and y.min() > 0:
        axes.set_yscale("log")
    _label(axes, "step", "loss")
    axes.legend(frameon=False, fontsize=SMALL)
    return figure


def losses(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """The training losses of several models on the same axes: running medians over a fiftieth of the values.

    Args:
        logs: by the model's name, a `{"step": n, "loss": v}` each step, as `Experiment.log` gives them.
    """
    figure, (axes,) = _panels(1, width=7.2, height=3.4)
    for number, (name, log) in enumerate(logs.items()):
        trend = median_filter([line["loss"] for line in log], size=max(1, len(log) // 50) | 1, mode="nearest")
        colour, dashes = PALETTE[number % len(PALETTE)], _DASHES[number % len(_DASHES)]
        steps = [line["step"] for line in log]
        axes.plot(steps, trend, color=colour, linestyle=dashes, linewidth=1.4, label=name)
    axes.set_yscale("log")
    _label(axes, "step", "loss (running median)")
    axes.legend(frameon=False, fontsize=SMALL)
    return figure


def terms(t: Array, bits: Array) -> Figure:
    """A bound on the likelihood, term by term: bits/dim of each step of the chain against its time.

    The axis of the terms is logarithmic where all are positive.

    Args:
        t, bits: (T,).
    """
    figure, (axes,) = _panels(1, width=7.2, height=3.4)
    axes.plot(array(t), array(bits), color=PALETTE[0], marker=".", markersize=3, linewidth=1.0)
    if array(bits).min() > 0:
        axes.set_yscale("log")
    _label(axes, "time t", "bits/dim of the term")
    return figure


def tracked(records: Sequence[Mapping[str, Any]], best: int | None = None) -> Figure:
    """Figures along training, a panel a metric, with error bars and a line at the best checkpoint.

    Args:
        records: `{"step": n, "figures": {name: {"value": v, "error": e}}}` each, as in `tracked.jsonl`.
        best: the step of the best checkpoint.
    """
    names = list(records[-1]["figures"])
    figure, panels = _panels(len(names), width=max(7.2, 3.6 * len(names)), height=3.4)
    steps = [record["step"] for record in records]
    for axes, name in zip(panels, names, strict=True):
        found = [record["figures"][name] for record in records]
        values, errors = ([each[key] for each in found] for key in ("value", "error"))
        bars = None if None in errors else errors
        axes.errorbar(steps, values, yerr=bars, color=PALETTE[0], marker="o", markersize=4, capsize=3)
        if best is not None:
            axes.axvline(best, color=PALETTE[1], linestyle="--", linewidth=1.0, label=f"best: {best:,}")
            axes.legend(frameon=False, fontsize=SMALL)
        _label(axes, "step", name)
    return figure


def schedules(sdes: Mapping[str, GaussianSDE]) -> Figure:
    """Signal rate alpha_t and noise rate sigma_t against t, side by side, a line a process.

    The noise axis is logarithmic where a rate passes 2 (variance exploding).
    """
    figure, (signal, noise) = _panels(2, width=9.0, height=3.4)
    largest = 0.0
    for number, (name, sde) in enumerate(sdes.items()):
        t = torch.linspace(sde.t_min, sde.t_max, 257, dtype=torch.float64)
        alpha, sigma = array(sde.alpha(t)), array(sde.sigma(t))
        largest = max(largest, float(sigma.max()))
        colour, dashes = PALETTE[number % len(PALETTE)], _DASHES[number % len(_DASHES)]
        signal.plot(t, alpha, color=colour, linestyle=dashes, label=name)
        noise.plot(t, sigma, color=colour, linestyle=dashes)
    if largest > 2.0:
        noise.set_yscale("log")
    signal.set_ylim(-0.03, 1.06)
    _label(signal, "time t", r"signal rate $\alpha_t$")
    _label(noise, "time t", r"noise rate $\sigma_t$")
    signal.legend(frameon=False, fontsize=SMALL)
    return figure


def scatter(points: Array, reference: Array | None = None) -> Figure:
    """Samples of the plane as dots, over those of a reference.

    Args:
        points, reference: (N, 2).
    """
    figure, (axes,) = _panels(1, width=4.6, height=4.4)
    for cloud, colour, label in ((reference, _FAINT, "reference"), (points, PALETTE[0], "samples")):
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
    _label(axes, "", "")
    if reference is not None:
        axes.legend(frameon=False, fontsize=SMALL)
    return figure


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
    figure = _Picture(figsize=(1.6 * columns, 1.0 * rows + 0.2), dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, signal in zip(panels, values, strict=False):
        axes.axhline(0.0, color=_FAINT, linewidth=0.5)
        for channel, colour in zip(signal, PALETTE * len(signal), strict=False):
            axes.plot(channel, color=colour, linewidth=1.0)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Writes `figure` as a PNG, whole or not at all, and returns `path`."""
    with storage.replacing(path) as unfinished:
        unfinished.write_bytes(_png(figure))
    return path


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi, pil_kwargs={"optimize": True})
    return buffer.getvalue()


def _class_name(label: int, names: Sequence[str] | None) -> str:
    if label < 0:
        return ""
    return str(label) if names is None or label >= len(names) else names[label]


def _panels(count: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    figure = _Picture(figsize=(width, height), dpi=DPI, layout="constrained")
    panels = list(figure.subplots(1, count, squeeze=False).ravel())
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_FAINT)
        axes.tick_params(which="both", colors=INK, labelsize=SMALL, color=_FAINT)
        axes.grid(visible=True, color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)
    return figure, panels


def _label(axes: Axes, horizontal: str, vertical: str) -> None:
    axes.set_xlabel(horizontal, fontsize=_NORMAL, color=INK)
    axes.set_ylabel(vertical, fontsize=_NORMAL, color=INK)
