"""A learnt density beside the true one, and the minima of its energy that the true one does not have."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diffkit.plots.plane import Plane
from diffkit.plots.style import FAINT, INK, PALETTE, Array, Function, array, canvas, describe, legend

__all__ = ["densities", "minima", "spurious_minima"]

_CONTOURS = np.arange(1.0, 13.0)  # nats above the deepest point


def densities(
    true: Function,
    learnt: Function,
    *,
    reach: float = 3.0,
    side: int = 161,
    depth: float = 0.1,
    near: float = 0.3,
) -> Figure:
    """Two densities of the plane side by side, with the minima of their energies -log p.

    Both are normalised on the grid that is shown, and share a scale; contours are a nat apart. The second
    panel's title holds the divergence KL(true | learnt) on that grid. Where a density is 0 its logarithm may
    be minus infinity; a learnt one counts as e^-700 there.

    Args:
        true, learnt: log-densities (N, 2) -> (N,) in nats; a constant may be missing (minus an energy, say).
        reach: the panels show [-reach, reach] in both coordinates.
        side: points of the grid along each.
        depth, near: as for `spurious_minima`.
    """
    plane = Plane(reach=reach, side=side)
    cell = (plane.axis[1] - plane.axis[0]) ** 2
    logs = [_normalised(plane.values(function), cell) for function in (true, learnt)]
    peak = max(float(np.exp(values).max()) for values in logs)
    seen = np.isfinite(logs[0])
    apart = logs[0][seen] - np.maximum(logs[1][seen], -700.0)
    divergence = float((np.exp(logs[0][seen]) * apart).sum() * cell)
    wrong = spurious_minima(-logs[0], -logs[1], plane.axis, depth=depth, near=near)
    figure, panels = canvas(2, width=9.0, height=4.6)
    told = ("true density", f"learnt density, KL {divergence:.3g} nats")
    for axes, values, title in zip(panels, logs, told, strict=True):
        plane.image(axes, np.exp(values), peak)
        height = np.minimum(values.max() - values, 2.0 * _CONTOURS[-1])
        axes.contour(plane.axis, plane.axis, height, _CONTOURS, colors=FAINT, linewidths=0.5)
        found = plane.axis[minima(-values, depth)[:, ::-1]]
        own = found if values is logs[0] else _far(found, wrong, 1e-9)
        axes.plot(*own.T, linestyle="none", marker="+", color=INK, markersize=8, label="minima of the energy")
        describe(axes, "$x_1$", "$x_2$", title)
    (_, right) = panels
    if len(wrong):
        right.plot(
            *wrong.T,
            linestyle="none",
            marker="X",
            color=PALETTE[1],
            markeredgecolor="white",
            markersize=9,
            label="spurious ones",
        )
    for axes in panels:
        legend(axes, loc="upper right")
    return figure


def spurious_minima(
    true: Array, learnt: Array, axis: Array, *, depth: float = 0.1, near: float = 0.3
) -> NDArray[np.float64]:
    """Where a learnt energy has a local minimum and the true one has none near by, (M, 2).

    Args:
        true, learnt: energies -log p on a square grid, (side, side), the first coordinate along the rows.
        axis: (side,) coordinates of either kind.
        depth: nats by which one has to climb to leave a minimum for a lower one; shallower ones do not count.
        near: distance within which a true minimum excuses a learnt one.
    """
    line = array(axis)
    own, real = (line[minima(energy, depth)[:, ::-1]] for energy in (learnt, true))
    return _far(own, real, near)


def minima(energy: Array, depth: float = 0.1) -> NDArray[np.int64]:
    """(M, 2) rows and columns of the local minima of a grid, the lowest first; not those on its edge.

    Cells are flooded from the lowest upwards. Where two pools meet, the shallower one ends: its depth is the
    height of that pass above its bottom, and it counts if that is at least `depth`. Cells that are not
    finite are walls.
    """
    values = array(energy).astype(np.float64)
    height, width = values.shape
    flat = values.ravel()
    order = np.argsort(flat, kind="stable")
    pool = np.full(flat.size, -1)
    kept: list[int] = []

    def bottom(cell: int) -> int:
        while pool[cell] != cell:
            pool[cell] = cell = pool[pool[cell]]
        return cell

    for cell in order[np.isfinite(flat[order])].tolist():
        row, column = divmod(cell, width)
        beside = {
            bottom(r * width + c)
            for r in range(max(0, row - 1), min(height, row + 2))
            for c in range(max(0, column - 1), min(width, column + 2))
            if pool[r * width + c] >= 0
        }
        first = min(beside, key=flat.__getitem__, default=cell)
        pool[cell] = first
        for other in beside - {first}:
            pool[other] = first
            if flat[cell] - flat[other] >= depth:
                kept.append(other)
    kept.extend(np.flatnonzero(pool == np.arange(flat.size)).tolist())  # nothing drains these
    places = [divmod(cell, width) for cell in sorted(kept, key=flat.__getitem__)]
    found = np.array(places, dtype=np.int64).reshape(-1, 2)
    inside = ((found > 0) & (found < np.array([height, width]) - 1)).all(1)
    return found[inside]


def _normalised(values: NDArray[np.float64], cell: float) -> NDArray[np.float64]:
    """Log-densities whose exponentials integrate to 1 on the grid."""
    top = values.max()
    shifted: NDArray[np.float64] = values - top - np.log(np.exp(values - top).sum() * cell)
    return shifted


def _far(points: NDArray[np.float64], others: NDArray[np.float64], near: float) -> NDArray[np.float64]:
    """The points (M, 2) that have none of the others within a distance."""
    distance = np.linalg.norm(points[:, None] - others[None], axis=-1)
    far: NDArray[np.float64] = points[(distance > near).all(1)]
    return far
