"""Processes: their rates, and how a density widens under them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from diffkit.interfaces.sde import GaussianSDE
from diffkit.plots.plane import Plane
from diffkit.plots.style import DENSITY, Array, array, canvas, colour_bar, describe, legend, shades, stroke

__all__ = ["marginals_1d", "marginals_2d", "schedules"]

LogDensity = Callable[[Tensor, Tensor], Array]
"""log p_t(x) in nats, (N,), of points x (N, D) at a 0-d time t."""


def schedules(sdes: Mapping[str, GaussianSDE]) -> Figure:
    """Signal rate alpha_t, noise rate sigma_t and log-SNR against t, side by side, a line a process.

    The noise axis is logarithmic where a rate passes 2 (variance exploding).
    """
    figure, (signal, noise, ratio) = canvas(3, width=11.0, height=3.4)
    largest = 0.0
    for number, (name, sde) in enumerate(sdes.items()):
        t = torch.linspace(sde.t_min, sde.t_max, 257, dtype=torch.float64)
        alpha, sigma, log_snr = (array(rate(t)) for rate in (sde.alpha, sde.sigma, sde.log_snr))
        largest = max(largest, float(sigma.max()))
        look = stroke(number)
        signal.plot(t, alpha, label=name, **look)
        noise.plot(t, sigma, **look)
        ratio.plot(t, log_snr, **look)
    if largest > 2.0:
        noise.set_yscale("log")
    signal.set_ylim(-0.03, 1.06)
    describe(signal, "time t", r"signal rate $\alpha_t$")
    describe(noise, "time t", r"noise rate $\sigma_t$")
    describe(ratio, "time t", r"log-SNR $\lambda_t = 2\,\log(\alpha_t/\sigma_t)$")
    legend(signal)
    return figure


def marginals_1d(log_density: LogDensity, times: Array, x: Array) -> Figure:
    """The law of x_t on a line: a curve a time, and the whole of it over the plane of t and x.

    Args:
        log_density: log p_t, (N, 1) and 0-d -> (N,).
        times: (T,) of the curves; the plane runs from the least to the largest.
        x: (N,) points of the line, evenly spaced.
    """
    line, chosen = np.asarray(array(x), np.float64), array(times)
    points = torch.as_tensor(line, dtype=torch.get_default_dtype())[:, None]
    figure, (curves, plane) = canvas(2, width=9.0, height=3.4)
    for t, colour in zip(chosen, shades(len(chosen)), strict=True):
        curves.plot(line, _density(log_density, float(t))(points), color=colour, label=f"t = {t:.2f}")
    between = np.linspace(chosen.min(), chosen.max(), 129)
    image = np.stack([_density(log_density, t)(points) for t in between], axis=1)
    drawn = plane.pcolormesh(between, line, image, cmap=DENSITY, norm=PowerNorm(0.5), shading="nearest")
    plane.grid(visible=False)
    colour_bar(plane, drawn, "density (root scale)")
    describe(curves, "x", "density")
    describe(plane, "time t", "x")
    legend(curves)
    return figure


def marginals_2d(log_density: LogDensity, times: Array, reach: float = 3.0) -> Figure:
    """The law of x_t in the plane, a panel a time, each from white to its own peak.

    Args:
        log_density: log p_t, (N, 2) and 0-d -> (N,).
        times: (T,).
        reach: the panels show [-reach, reach] in both coordinates.
    """
    plane, chosen = Plane(reach=reach), array(times)
    figure, panels = canvas(len(chosen), width=2.5 * len(chosen), height=2.8)
    for axes, t in zip(panels, chosen, strict=True):
        density = plane.values(_density(log_density, float(t)))
        plane.image(axes, density)
        describe(axes, "", "", f"t = {t:.2f}, peak {density.max():.2g}")
        axes.label_outer()
    return figure


def _density(log_density: LogDensity, t: float) -> Callable[[Tensor], NDArray[np.float64]]:
    """p_t as a function of points."""
    time = torch.tensor(t, dtype=torch.float64)
    return lambda x: np.exp(array(log_density(x, time)).astype(np.float64))
