"""Overdamped Langevin dynamics on a line: dx = -U'(x) dt + sqrt(2 kT) dW, at rest exp(-U / kT)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.signal import find_peaks

from diffkit.errors import DataError
from diffkit.plots.style import INK, PALETTE, SMALL, Array, Function, array, canvas, describe, legend

__all__ = ["boltzmann", "double_well"]

_PATHS = 25


def boltzmann(
    potential: Array, x: Array, temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where basins meet, and the share of exp(-U / kT) that lies in each.

    Args:
        potential: U at `x`, (N,), in the units of kT; its local maxima part the basins.
        x: (N,), increasing, wide enough to hold all of exp(-U / kT).
        temperature: kT, above 0.

    Returns:
        The K - 1 barriers, and the K shares from left to right.
    """
    if temperature <= 0.0:
        raise DataError(f"Boltzmann's law was asked for at kT = {temperature:g}", "Expected kT above 0")
    line, energy = array(x).astype(np.float64), array(potential).astype(np.float64)
    weight = np.exp((energy.min() - energy) / temperature)
    tops = find_peaks(energy)[0]
    ends = [0, *tops, len(line) - 1]
    parts = [trapezoid(weight[a : b + 1], line[a : b + 1]) for a, b in itertools.pairwise(ends)]
    return line[tops], np.array(parts) / np.sum(parts)


def double_well(
    potential: Function, x: Array, trajectories: Mapping[str, Array], *, temperature: float
) -> Figure:
    """Particles in a potential, a row a way of moving them: where they end, their paths, and their shares.

    The shares of the basins are those of the last states, with Wilson's 68 % interval of independent
    particles; beside them stand Boltzmann's.

    Boltzmann's density and the particles' stand on a scale of their own, half as high as the panel.

    Args:
        potential: U, (N,) -> (N,).
        x: (N,), increasing, wide enough to hold all of exp(-U / kT).
        trajectories: (T, N) positions of N independent particles, from the start on, by name.
        temperature: kT, of Boltzmann's law.
    """
    line = array(x).astype(np.float64)
    energy = array(potential(torch.from_numpy(line))).astype(np.float64)
    barriers, shares = boltzmann(energy, line, temperature)
    moved = {name: array(states).astype(np.float64) for name, states in trajectories.items()}
    for name, states in moved.items():
        if states.ndim != 2 or not states.size or not np.isfinite(states).all():
            raise DataError(
                f"{name}: a trajectory of shape {states.shape} came",
                "Expected finite positions (T, N) of N particles",
                "Take smaller steps where the particles ran away",
            )
    figure, panels = canvas(3, len(moved), width=10.5, height=0.4 + 2.9 * len(moved))
    furthest = max(float(np.abs(states).max()) for states in moved.values())
    for row, (name, states) in enumerate(moved.items()):
        places, paths, occupied = panels[3 * row : 3 * row + 3]
        _places(places, line, energy, temperature, states[-1])
        describe(places, "x", "potential U", name)
        paths.plot(states[:, 1:_PATHS], color=PALETTE[0], linewidth=0.6, alpha=0.35)
        paths.plot(states[:, 0], color=PALETTE[1], linewidth=0.9)
        for barrier in barriers:
            paths.axhline(barrier, color=INK, linestyle=":", linewidth=1.0)
        paths.set_ylim(-1.1 * furthest, 1.1 * furthest)
        describe(paths, "step", "x", f"{min(_PATHS, states.shape[1])} of {states.shape[1]:,} paths")
        _occupancy(occupied, states[-1], barriers, shares)
    return figure


def _places(
    axes: Axes,
    line: NDArray[np.float64],
    energy: NDArray[np.float64],
    temperature: float,
    state: NDArray[np.float64],
) -> None:
    """The potential, and on a scale of their own the particles' density beside Boltzmann's."""
    weight = np.exp((energy.min() - energy) / temperature)
    weight /= trapezoid(weight, line)
    crowd = axes.twinx()
    counts, edges = np.histogram(state, 60, (line[0], line[-1]), density=True)
    crowd.stairs(counts, edges, fill=True, color=PALETTE[5])
    crowd.plot(line, weight, color=PALETTE[1], linestyle="--", linewidth=1.2)
    crowd.set_ylim(0.0, 2.0 * weight.max())
    crowd.set_axis_off()
    axes.plot(line, energy, color=INK, linewidth=1.4)
    low = float(energy.min())
    axes.set_ylim(low - temperature, low + 10.0 * temperature)
    axes.set_zorder(crowd.get_zorder() + 1)
    axes.patch.set_visible(False)
    handles = [*axes.lines, *crowd.lines, crowd.patches[0]]
    legend(axes, handles=handles, labels=["U", "Boltzmann", "particles"], loc="upper center")


def _occupancy(
    axes: Axes, state: NDArray[np.float64], barriers: NDArray[np.float64], shares: NDArray[np.float64]
) -> None:
    found = np.bincount(np.searchsorted(barriers, state), minlength=len(shares)) / len(state)
    places = np.arange(len(shares))
    low, high = _wilson(found, len(state))
    axes.bar(places, found, width=0.6, color=PALETTE[0], label="particles")
    axes.errorbar(places, found, [found - low, high - found], fmt="none", ecolor=INK, capsize=4)
    axes.plot(places, shares, linestyle="none", marker="D", color=PALETTE[1], label="Boltzmann")
    edges = ["", *(f"{barrier:.2g}" for barrier in barriers), ""]
    words = [f"{a} < x < {b}".strip(" <") for a, b in itertools.pairwise(edges)]
    axes.set_xticks(places, words, fontsize=SMALL)
    axes.set_ylim(0.0, 1.3)
    axes.grid(visible=False, axis="x")
    describe(axes, "", "share of the particles", "occupancy at the end")
    legend(axes, ncols=2, loc="upper center")


def _wilson(share: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the 68 % interval of a proportion; not empty at 0 and 1. Source: Wilson 1927."""
    centre = (share + 0.5 / count) / (1.0 + 1.0 / count)
    half = np.sqrt(share * (1.0 - share) / count + 0.25 / count**2) / (1.0 + 1.0 / count)
    return np.minimum(share, centre - half), np.maximum(share, centre + half)
