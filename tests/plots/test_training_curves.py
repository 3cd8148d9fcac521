"""What is drawn along training, and of a network before and after it, is what was computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffkit import plots
from diffkit.errors import DataError


def test_predicted_noise_is_counted_in_its_place_and_correlated() -> None:
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(50, 3, 8, 8, generator=generator)
    seen = 0.5 * true + 0.1 * torch.randn(true.shape, generator=generator)
    figure = plots.predicted_noise({"before": (true, torch.zeros_like(true)), "after": (true, seen)})
    before, after = figure.axes
    size = true.square().mean().sqrt()
    assert before.get_title() == f"before\nr undefined (constant), rms error {size:.3g}"
    r = np.corrcoef(true.ravel(), seen.ravel())[0, 1]
    error = (seen - true).square().mean().sqrt()
    assert after.get_title() == f"after\nr = {r:.3f}, rms error {error:.3g}"
    (mesh,) = after.collections
    counts = mesh.get_array().filled(0).reshape(mesh.get_coordinates().shape[0] - 1, -1)
    assert counts.sum() == true.numel()
    edges = mesh.get_coordinates()[0, :, 0]
    middle = 0.5 * (edges[1:] + edges[:-1])
    across, up = counts.sum(0) @ middle**2, counts.sum(1) @ middle**2
    assert np.sqrt(up / across) == pytest.approx(float(seen.std() / true.std()), rel=0.02)
    assert after.lines[0].get_slope() == 1.0
    figure.canvas.draw()


def test_noise_of_two_shapes_is_refused() -> None:
    with pytest.raises(DataError, match="after: 3 elements of noise came with 4"):
        plots.predicted_noise({"after": (np.zeros(3), np.zeros(4))})


def test_energies_are_lines_with_their_medians() -> None:
    steps = np.arange(500)
    data = np.where(steps % 2 == 0, 1.0, 3.0)
    data[7], data[8] = np.nan, 1e6
    figure = plots.energies(steps, {"data": data, "noise": -steps})
    (axes,) = figure.axes
    raw, trend, _, falling = axes.lines
    assert len(raw.get_xdata()) == 499
    assert np.max(raw.get_ydata()) == 1e6
    assert set(trend.get_ydata()) == {1.0, 3.0}
    assert np.asarray(falling.get_ydata())[20:-20] == pytest.approx(-steps[20:-20])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["data", "noise"]
    figure.canvas.draw()


def test_the_image_of_an_embedding_is_the_formula() -> None:
    frequencies = torch.exp(torch.linspace(0.0, np.log(1000.0), 16))

    def embed(variance: torch.Tensor) -> torch.Tensor:
        angles = 2.0 * torch.pi * variance[:, None] * frequencies
        return torch.cat((angles.sin(), angles.cos()), 1)

    figure = plots.embedding(embed, torch.linspace(0.0, 1.0, 501))
    axes = figure.axes[0]
    (image,) = axes.images
    shown, extent = np.asarray(image.get_array()), image.get_extent()
    assert shown.shape == (32, 501)
    assert extent == pytest.approx((-0.001, 1.001, 31.5, -0.5))
    # The mean of sin(w v) over a width of 2 h is sin(w v) sin(w h) / (w h); nothing is left of the fastest.
    speed = 2.0 * np.pi * frequencies.numpy()[:, None]
    angles, faded = speed * np.linspace(0.0, 1.0, 501), np.sinc(speed * 0.001 / np.pi)
    expected = np.concatenate([np.sin(angles) * faded, np.cos(angles) * faded])
    assert shown[:, 1:-1] == pytest.approx(expected[:, 1:-1], abs=5e-3)
    assert np.abs(shown[15, 1:-1]).max() < 5e-3
    assert shown[16:, 0] == pytest.approx(faded[:, 0], abs=5e-3)  # none outside the range is asked for
    figure.canvas.draw()
    with pytest.raises(DataError, match=r"\(176,\).*176 noise variances"):
        plots.embedding(lambda v: v, torch.linspace(0.0, 1.0, 11))
