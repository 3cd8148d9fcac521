"""What is said of particles in wells is what statistical physics says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from diffkit import plots
from diffkit.errors import DataError
from diffkit.plots.langevin import boltzmann

LINE = np.linspace(-2.5, 2.5, 2001)


def potential(x: Tensor) -> Tensor:
    return (x**2 - 1.0) ** 2 + 0.3 * x


def test_shares_are_boltzmanns() -> None:
    barriers, shares = boltzmann(potential(torch.from_numpy(LINE)), LINE, 0.4)
    top = np.sort(np.roots([4.0, 0.0, -4.0, 0.3]).real)[1]
    assert barriers == pytest.approx([top], abs=0.002)

    def mass(low: float, high: float) -> float:
        return quad(lambda x: math.exp(-((x**2 - 1.0) ** 2 + 0.3 * x) / 0.4), low, high)[0]

    left = mass(-5.0, top) / mass(-5.0, 5.0)
    assert shares == pytest.approx([left, 1.0 - left], abs=1e-4)


def test_one_well_and_three_have_as_many_shares() -> None:
    assert boltzmann(LINE**2, LINE, 1.0)[1] == pytest.approx([1.0])
    barriers, shares = boltzmann(-np.cos(2.0 * np.pi * LINE), LINE, 0.5)
    assert barriers == pytest.approx([-1.5, -0.5, 0.5, 1.5], abs=2e-3)
    assert shares[1:4] == pytest.approx(np.full(3, shares[1]), rel=1e-3)


def test_the_occupancy_is_that_of_the_last_states_with_wilsons_interval() -> None:
    states = torch.tensor([[-1.0] * 10, [-1.0] * 7 + [1.0] * 3])
    figure = plots.double_well(potential, LINE, {"a": states, "b": states[:1]}, temperature=0.4)
    places, paths, occupied = figure.axes[:3]
    assert [bar.get_height() for bar in occupied.patches] == pytest.approx([0.7, 0.3])
    (whiskers,) = occupied.collections
    ends = np.array([segment[:, 1] for segment in whiskers.get_segments()])
    # The roots of (p - 0.7)^2 = p (1 - p) / 10, and of the same with 0.3.
    roots = [np.sort(np.roots([1.1, -(2.0 * share + 0.1), share**2])) for share in (0.7, 0.3)]
    assert ends == pytest.approx(np.array(roots))
    expected = boltzmann(potential(torch.from_numpy(LINE)), LINE, 0.4)[1]
    (marks,) = [line for line in occupied.lines if line.get_label() == "Boltzmann"]
    assert np.asarray(marks.get_ydata()) == pytest.approx(expected)
    assert [bar.get_height() for bar in figure.axes[5].patches] == pytest.approx([1.0, 0.0])
    assert places.get_title() == "a"
    moved = [line.get_ydata() for line in paths.lines if line.get_linestyle() == "-"]
    assert sorted(tuple(path) for path in moved) == [(-1.0, -1.0)] * 7 + [(-1.0, 1.0)] * 3
    assert np.asarray(places.lines[0].get_ydata()) == pytest.approx(potential(torch.from_numpy(LINE)).numpy())
    figure.canvas.draw()


def test_particles_at_rest_are_boltzmanns_within_the_bars() -> None:
    """Draws of the law itself, by the inverse of its distribution: three standard errors hold them."""
    weight = np.exp(-potential(torch.from_numpy(LINE)).numpy() / 0.4)
    share = (np.random.default_rng(0).random(4000) * weight.sum()).clip(max=weight.cumsum()[-1])
    states = LINE[np.searchsorted(weight.cumsum(), share)][None]
    figure = plots.double_well(potential, LINE, {"at rest": states}, temperature=0.4)
    occupied = figure.axes[2]
    (marks,) = [line for line in occupied.lines if line.get_label() == "Boltzmann"]
    (whiskers,) = occupied.collections
    for bar, mark, ends in zip(occupied.patches, marks.get_ydata(), whiskers.get_segments(), strict=True):
        assert abs(bar.get_height() - mark) < 3.0 * 0.5 * (ends[1, 1] - ends[0, 1])


@pytest.mark.parametrize(
    "moved,temperature,words",
    [
        ({"noisy": np.zeros(5)}, 1.0, r"noisy.*\(5,\)"),
        ({"noisy": np.array([[0.0, np.inf]])}, 1.0, "smaller steps"),
        ({}, 1.0, "nothing was given to draw"),
        ({"noisy": np.zeros((1, 5))}, 0.0, "kT = 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(moved: dict[str, object], temperature: float, words: str) -> None:
    with pytest.raises(DataError, match=words):
        plots.double_well(potential, LINE, moved, temperature=temperature)  # type: ignore[arg-type]
