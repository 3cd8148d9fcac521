"""Schedules and processes, and what they do to a density."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.figure import Figure

from diffkit.interfaces.sde import GaussianSDE
from diffkit.plots.style import DASHES, PALETTE, Array, array, canvas, describe, legend

__all__ = ["schedules", "terms"]


def schedules(sdes: Mapping[str, GaussianSDE]) -> Figure:
    """Signal rate alpha_t and noise rate sigma_t against t, side by side, a line a process.

    The noise axis is logarithmic where a rate passes 2 (variance exploding).
    """
    figure, (signal, noise) = canvas(2, width=9.0, height=3.4)
    largest = 0.0
    for number, (name, sde) in enumerate(sdes.items()):
        t = torch.linspace(sde.t_min, sde.t_max, 257, dtype=torch.float64)
        alpha, sigma = array(sde.alpha(t)), array(sde.sigma(t))
        largest = max(largest, float(sigma.max()))
        colour, dashes = PALETTE[number % len(PALETTE)], DASHES[number % len(DASHES)]
        signal.plot(t, alpha, color=colour, linestyle=dashes, label=name)
        noise.plot(t, sigma, color=colour, linestyle=dashes)
    if largest > 2.0:
        noise.set_yscale("log")
    signal.set_ylim(-0.03, 1.06)
    describe(signal, "time t", r"signal rate $\alpha_t$")
    describe(noise, "time t", r"noise rate $\sigma_t$")
    legend(signal)
    return figure


def terms(t: Array, bits: Array) -> Figure:
    """A bound on the likelihood, term by term: bits/dim of each step of the chain against its time.

    The axis of the terms is logarithmic where all are positive.

    Args:
        t, bits: (T,).
    """
    figure, (axes,) = canvas(1, width=7.2, height=3.4)
    axes.plot(array(t), array(bits), color=PALETTE[0], marker=".", markersize=3, linewidth=1.0)
    if array(bits).min() > 0:
        axes.set_yscale("log")
    describe(axes, "time t", "bits/dim of the term")
    return figure
