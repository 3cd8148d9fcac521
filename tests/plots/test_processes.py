"""Curves are the closed forms; a heated well is as wide as its variance says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

import diffkit
from diffkit import plots
from diffkit.testing.exact import GaussianProblem

MEAN, VARIANCE = 0.7, 0.09


def moments(x: NDArray[np.float64], density: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mass, mean and variance by sums."""
    mass = density.sum() * (x[1] - x[0])
    mean = (density * x).sum() / density.sum()
    return float(mass), float(mean), float((density * (x - mean) ** 2).sum() / density.sum())


def test_schedules_side_by_side_are_their_closed_forms() -> None:
    names = ("linear", "cosine", "offset-cosine")
    figure = plots.schedules({name: diffkit.create("sde", "vp", schedule=name) for name in names})
    signal, noise, ratio = figure.axes
    assert [text.get_text() for text in signal.get_legend().get_texts()] == list(names)
    t = np.asarray(signal.lines[0].get_xdata())
    start, end = math.acos(0.95), math.acos(0.02)
    s = 0.008
    cosine = np.asarray(signal.lines[1].get_xdata())
    offset = np.asarray(signal.lines[2].get_xdata())
    alpha = [
        np.exp(-0.5 * (0.1 * t + 0.5 * 19.9 * t**2)),
        np.cos(0.5 * np.pi * (cosine + s) / (1 + s)) / np.cos(0.5 * np.pi * s / (1 + s)),
        np.cos(start + offset * (end - start)),
    ]
    for number, expected in enumerate(alpha):
        assert np.allclose(signal.lines[number].get_ydata(), expected, rtol=1e-9)
        sigma = np.asarray(noise.lines[number].get_ydata())
        assert np.allclose(sigma**2, 1.0 - expected**2, rtol=1e-9)
        log_snr = np.log(expected**2 / (1.0 - expected**2))
        assert np.allclose(ratio.lines[number].get_ydata(), log_snr, rtol=1e-7)
    assert len({(line.get_color(), line.get_linestyle()) for line in signal.lines}) == 3


@pytest.mark.parametrize("name", ["ve", "vp"])
def test_a_heated_well_has_the_variance_of_its_time(name: str) -> None:
    schedule = {"name": "geometric", "sigma_max": 2.0} if name == "ve" else "linear"
    sde = diffkit.create("sde", name, schedule=schedule)
    well = GaussianProblem(mean=[MEAN], covariance=[[VARIANCE]])
    times, x = [0.01, 0.3, 0.9], np.linspace(-12.0, 12.0, 2401)
    figure = plots.marginals_1d(lambda x, t: well.log_density(sde, x, t), times, x)
    curves, plane = figure.axes[:2]
    (mesh,) = plane.collections
    image = np.asarray(mesh.get_array())
    for number, t in enumerate(times):
        alpha, sigma = (float(rate(torch.tensor(t, dtype=torch.float64))) for rate in (sde.alpha, sde.sigma))
        expected = (1.0, alpha * MEAN, alpha**2 * VARIANCE + sigma**2)
        line = curves.lines[number]
        assert line.get_label() == f"t = {t:.2f}"
        found = moments(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))
        assert found == pytest.approx(expected, rel=1e-4)
        column = round((t - 0.01) / 0.89 * 128)
        if number != 1:  # the ends of the plane are times of the curves
            assert moments(x, image[:, column]) == pytest.approx(expected, rel=1e-4)
    assert image.shape == (2401, 129)


def test_the_plane_of_a_heated_well_has_each_coordinate_in_its_place() -> None:
    sde = diffkit.create("sde", "vp")
    well = GaussianProblem(mean=[1.0, -0.5], covariance=[[0.1, 0.0], [0.0, 0.3]])
    figure = plots.marginals_2d(lambda x, t: well.log_density(sde, x, t), [0.01, 0.4], reach=5.0)
    for axes, t in zip(figure.axes, (0.01, 0.4), strict=True):
        (image,) = axes.images
        density, extent = np.asarray(image.get_array()), image.get_extent()
        assert image.origin == "lower"
        side = density.shape[0]
        cell = (extent[1] - extent[0]) / side
        middle = extent[0] + cell * (np.arange(side) + 0.5)
        alpha, sigma = (float(rate(torch.tensor(t, dtype=torch.float64))) for rate in (sde.alpha, sde.sigma))
        for axis, mean, variance in ((0, 1.0, 0.1), (1, -0.5, 0.3)):
            marginal = density.sum(axis) * cell
            expected = (1.0, alpha * mean, alpha**2 * variance + sigma**2)
            assert moments(middle, marginal) == pytest.approx(expected, rel=1e-3)
        assert f"peak {density.max():.2g}" in axes.get_title()


def test_they_render() -> None:
    sde = diffkit.create("sde", "vp")
    well = GaussianProblem(mean=[0.0], covariance=[[0.1]])
    figures: list[Figure] = [
        plots.schedules({"vp": sde, "ve": diffkit.create("sde", "ve")}),
        plots.marginals_1d(lambda x, t: well.log_density(sde, x, t), [0.1, 0.9], np.linspace(-3, 3, 21)),
    ]
    for figure in figures:
        figure.canvas.draw()
