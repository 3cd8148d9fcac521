"""Points of the plane, and functions of it."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from diffkit.errors import DataError
from diffkit.plots.style import (
    DENSITY,
    FAINT,
    INK,
    PALETTE,
    Array,
    Function,
    array,
    canvas,
    describe,
    legend,
)

__all__ = ["Plane", "clouds", "scatter", "score_field"]


@attrs.frozen(kw_only=True)
class Plane:
    """A square grid of the plane.

    Args:
        reach: it covers [-reach, reach] in both coordinates.
        side: points along each.
    """

    reach: float = 3.0
    side: int = 161

    @property
    def axis(self) -> NDArray[np.float64]:
        """(side,) coordinates."""
        return np.linspace(-self.reach, self.reach, self.side)

    @property
    def points(self) -> Tensor:
        """(side * side, 2) in torch's default dtype, row by row from the bottom."""
        first, second = np.meshgrid(self.axis, self.axis)
        return torch.from_numpy(np.stack([first.ravel(), second.ravel()], 1)).to(torch.get_default_dtype())

    def values(self, function: Function) -> NDArray[np.float64]:
        """A function (N, 2) -> (N,) on the grid, (side, side), the first coordinate along the rows."""
        found = array(function(self.points)).astype(np.float64)
        if found.shape != (self.side**2,):
            raise DataError(
                f"a function gave values of shape {found.shape} for {self.side**2} points",
                "Expected one value a point: (N, 2) -> (N,)",
            )
        return found.reshape(self.side, self.side)

    def image(self, axes: Axes, values: NDArray[np.float64], peak: float | None = None) -> None:
        """Shows values, from white at 0 to the peak, their own by default."""
        edge = self.reach * self.side / (self.side - 1)
        extent = (-edge, edge, -edge, edge)
        axes.imshow(values, cmap=DENSITY, vmin=0.0, vmax=peak, extent=extent, origin="lower")
        axes.grid(visible=False)


def scatter(points: Array, reference: Array | None = None) -> Figure:
    """Samples of the plane as dots, over those of a reference.

    Args:
        points, reference: (N, 2).
    """
    figure, (axes,) = canvas(1, width=4.6, height=4.4)
    for cloud, colour, label in ((reference, FAINT, "reference"), (points, PALETTE[0], "samples")):
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
    describe(axes, "", "")
    if reference is not None:
        legend(axes)
    return figure


def clouds(frames: Array, captions: Sequence[str]) -> Figure:
    """Points of the plane along time, a panel a time with the same axes.

    Args:
        frames: (T, N, 2).
        captions: T of them.
    """
    film = array(frames)
    if film.ndim != 3 or film.shape[2] != 2 or len(film) != len(captions):
        raise DataError(
            f"frames of shape {film.shape} came with {len(captions)} captions",
            "Expected frames (T, N, 2) and T captions",
        )
    figure, panels = canvas(len(film), width=1.7 * len(film), height=2.0)
    reach = 1.05 * np.abs(film[np.isfinite(film)]).max(initial=1e-3)
    for axes, points, caption in zip(panels, film, captions, strict=True):
        axes.scatter(points[:, 0], points[:, 1], s=3, color=PALETTE[0], alpha=0.5, linewidths=0)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        describe(axes, "", "", caption)
        axes.label_outer()
    return figure


def score_field(log_density: Function, score: Function, reach: float = 3.0, arrows: int = 19) -> Figure:
    """The score as a vector field over the density that it is the gradient of the logarithm of.

    An arrow is as long as the root of the score's length, so that far and near ones can both be seen.

    Args:
        log_density: log p, (N, 2) -> (N,); a constant may be missing.
        score: grad log p, (N, 2) -> (N, 2).
        reach: the figure shows [-reach, reach] in both coordinates.
        arrows: along each.
    """
    figure, (axes,) = canvas(1, width=5.2, height=5.0)
    plane, sparse = Plane(reach=reach), Plane(reach=0.95 * reach, side=arrows)
    values = plane.values(log_density)
    plane.image(axes, np.exp(values - values.max()))
    places, force = array(sparse.points), array(score(sparse.points)).astype(np.float64)
    length = np.linalg.norm(force, axis=1, keepdims=True)
    drawn = force / np.sqrt(np.maximum(length, 1e-12))
    longest = np.sqrt(length.max()) or 1.0
    axes.quiver(
        *places.T,
        *drawn.T,
        color=INK,
        angles="xy",
        scale_units="xy",
        scale=longest / (3.0 * reach / arrows),
        width=0.004,
    )
    describe(axes, "$x_1$", "$x_2$", r"density and its score $\nabla \log p$ (arrows: root of its length)")
    return figure
