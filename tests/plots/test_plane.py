"""Fields and clouds of the plane stand where they belong and point where they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from diffkit import plots
from diffkit.errors import DataError

CENTRE, VARIANCES = torch.tensor([0.8, -0.4]), torch.tensor([0.25, 1.0])


def log_density(x: Tensor) -> Tensor:
    return -0.5 * ((x - CENTRE) ** 2 / VARIANCES).sum(1) + 7.0  # a constant goes unseen


def score(x: Tensor) -> Tensor:
    return (CENTRE - x) / VARIANCES


def test_arrows_point_along_the_score_and_are_as_long_as_its_root() -> None:
    figure = plots.score_field(log_density, score, reach=2.0, arrows=7)
    (axes,) = figure.axes
    (field,) = axes.collections
    places = torch.from_numpy(np.asarray(field.get_offsets())).float()
    assert len(places) == 49
    assert float(places.abs().max()) == pytest.approx(1.9)
    drawn = torch.from_numpy(np.stack([field.U, field.V], 1)).float()
    force = score(places)
    length = force.norm(dim=1, keepdim=True)
    torch.testing.assert_close(drawn, force / length.sqrt(), rtol=1e-4, atol=1e-5)
    (image,) = axes.images
    shown = np.asarray(image.get_array())
    side = len(shown)
    x = torch.linspace(-2.0, 2.0, side)
    grid = torch.stack(torch.meshgrid(x, x, indexing="xy"), -1).reshape(-1, 2)
    expected = log_density(grid).exp()
    assert np.allclose(shown.ravel(), expected / expected.max(), rtol=1e-4)
    figure.canvas.draw()


def test_a_field_of_nothing_is_drawn_too() -> None:
    plots.score_field(lambda x: torch.zeros(len(x)), torch.zeros_like).canvas.draw()


def test_clouds_share_their_axes() -> None:
    frames = torch.randn(3, 20, 2, generator=torch.Generator().manual_seed(0))
    figure = plots.clouds(frames, ["t = 0", "t = 1", "t = 2"])
    for axes, frame in zip(figure.axes, frames, strict=True):
        (points,) = axes.collections
        assert np.allclose(points.get_offsets(), frame)
        assert axes.get_xlim() == figure.axes[0].get_xlim() == axes.get_ylim()
    assert figure.axes[2].get_title() == "t = 2"
    figure.canvas.draw()


def test_points_that_ran_away_leave_the_others_in_view() -> None:
    frames = torch.tensor([[[1.0, 2.0], [float("nan"), float("inf")]]])
    (axes,) = plots.clouds(frames, ["t = 0"]).axes
    assert axes.get_xlim() == pytest.approx((-2.1, 2.1))


def test_what_is_no_plane_is_refused() -> None:
    with pytest.raises(DataError, match=r"\(3, 20, 3\)"):
        plots.clouds(torch.zeros(3, 20, 3), ["a", "b", "c"])
    with pytest.raises(DataError, match=r"one value a point"):
        plots.score_field(lambda x: x, score)
