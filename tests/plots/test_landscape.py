"""Minima are found where they were put, and only those that the truth does not have are spurious."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffkit import plots
from diffkit.plots.landscape import minima, spurious_minima
from diffkit.testing.exact import GaussianProblem, MixtureProblem

AXIS = np.linspace(-3.0, 3.0, 61)


def bowls(*places: tuple[float, float, float]) -> NDArray[np.float64]:
    """Round wells (x_1, x_2, depth) in a flat plain."""
    first, second = np.meshgrid(AXIS, AXIS)
    energy = np.zeros((61, 61))
    for x, y, depth in places:
        energy -= depth * np.exp(-((first - x) ** 2 + (second - y) ** 2) / 0.1)
    return energy


def test_minima_are_those_that_were_dug_from_the_lowest_up() -> None:
    energy = bowls((1.0, -2.0, 3.0), (-1.5, 0.5, 2.0), (2.0, 2.0, 0.05))
    assert AXIS[minima(energy, 0.1)[:, ::-1]] == pytest.approx(np.array([(1.0, -2.0), (-1.5, 0.5)]))
    assert len(minima(energy, 0.01)) == 3


def test_a_minimum_is_as_deep_as_its_lowest_pass() -> None:
    """Two wells of a double-well valley: the shallower ends at the saddle, the deeper at nothing."""
    first, second = np.meshgrid(AXIS, AXIS)
    energy = (first**2 - 1.0) ** 2 + 0.2 * first + second**2
    roots = np.sort(np.roots([4.0, 0.0, -4.0, 0.2]).real)
    height = [(x**2 - 1.0) ** 2 + 0.2 * x for x in roots]
    depth = height[1] - height[2]
    assert len(minima(energy, depth - 0.02)) == 2
    assert len(minima(energy, depth + 0.02)) == 1


def test_the_edge_and_walls_are_no_minima() -> None:
    slope = np.add.outer(AXIS, AXIS)
    assert len(minima(slope, 0.0)) == 0
    walled = bowls((0.0, 0.0, 1.0))
    walled[:, 40:] = np.nan
    walled[:10] = np.inf
    assert AXIS[minima(walled)[:, ::-1]] == pytest.approx(np.zeros((1, 2)), abs=1e-12)


def test_a_minimum_is_spurious_where_the_truth_has_none_near() -> None:
    true = bowls((1.0, -2.0, 3.0), (-1.5, 0.5, 2.0))
    learnt = bowls((1.2, -2.0, 3.0), (-1.5, 0.5, 2.0), (2.0, 1.0, 0.5))
    assert spurious_minima(true, learnt, AXIS) == pytest.approx(np.array([(2.0, 1.0)]))
    assert len(spurious_minima(true, learnt, AXIS, near=0.1)) == 2
    assert len(spurious_minima(true, learnt, AXIS, depth=0.6)) == 0
    assert len(spurious_minima(learnt, true, AXIS)) == 0


def test_densities_are_normalised_and_their_divergence_is_known() -> None:
    a = GaussianProblem(mean=[0.5, 0.0], covariance=[[0.3, 0.0], [0.0, 0.2]])
    b = GaussianProblem(mean=[0.0, 0.2], covariance=[[0.5, 0.0], [0.0, 0.4]])
    figure = plots.densities(
        lambda x: a.log_density(None, x, None) + 5.0,
        lambda x: b.log_density(None, x, None) - 9.0,
        reach=5.0,
        near=1.0,
    )
    divergence = 0.5 * (0.3 / 0.5 + 0.2 / 0.4 + 0.25 / 0.5 + 0.04 / 0.4 - 2.0 + math.log(0.2 / 0.06))
    left, right = figure.axes
    assert right.get_title() == f"learnt density, KL {divergence:.3g} nats"
    for axes in (left, right):
        (image,) = axes.images
        extent, shown = image.get_extent(), np.asarray(image.get_array())
        assert shown.sum() * ((extent[1] - extent[0]) / len(shown)) ** 2 == pytest.approx(1.0)
    assert left.images[0].get_clim() == right.images[0].get_clim()
    assert np.asarray(right.lines[0].get_xydata()) == pytest.approx(np.array([(0.0, 0.2)]), abs=0.04)


def test_where_there_is_nothing_the_logarithm_may_be_infinite() -> None:
    """A uniform square of side 2 learnt as one of side 4: KL is log 4, up to a cell of the grid."""

    def square(x: Tensor, half: float) -> Tensor:
        return torch.where(x.abs().amax(1) < half, 0.0, -torch.inf)

    figure = plots.densities(lambda x: square(x, 1.01), lambda x: square(x, 2.02), reach=3.0)
    divergence = float(figure.axes[1].get_title().split()[-2])
    assert divergence == pytest.approx(math.log(4.0), abs=0.05)
    figure.canvas.draw()


def test_the_spurious_well_of_a_wrong_mixture_is_marked() -> None:
    def law(*weights: float) -> Callable[[Tensor], Tensor]:
        means = [[-1.5, -1.0], [0.0, 1.5], [2.0, 1.0]][: len(weights)]
        mixture = MixtureProblem(weights=weights, means=means, variances=[0.1] * len(weights))
        return lambda x: mixture.log_density(None, x, None)

    figure = plots.densities(law(1.0, 1.0), law(1.0, 1.0, 0.1))
    left, right = figure.axes
    assert [len(line.get_xdata()) for line in left.lines] == [2]
    kept, spurious = right.lines
    assert len(kept.get_xdata()) == 2
    assert np.asarray(spurious.get_xydata()) == pytest.approx(np.array([(2.0, 1.0)]), abs=0.04)
    figure.canvas.draw()
