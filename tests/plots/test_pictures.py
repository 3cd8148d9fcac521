"""Pictures hold the pixels they were given, in their places; curves hold the numbers."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diffkit import plots
from diffkit.errors import DataError
from diffkit.interfaces.sde import GaussianSDE

GAP, STRIP = 6, 16


@attrs.frozen(kw_only=True)
class Circle(GaussianSDE):
    """alpha = cos t, sigma = scale sin t on [0.1, 1.5]."""

    scale: float = 1.0

    @property
    def t_min(self) -> float:
        return 0.1

    @property
    def t_max(self) -> float:
        return 1.5

    def alpha(self, t: Tensor) -> Tensor:
        return torch.cos(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.scale * torch.sin(t)


def pixels(figure: Figure, tmp_path: Path) -> NDArray[np.uint8]:
    with Image.open(plots.save(figure, tmp_path / "figure.png")) as image:
        return np.asarray(image.convert("RGB"))


def random_pictures(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def tile(
    page: NDArray[np.uint8], top: int, left: int, size: tuple[int, int], scale: int
) -> NDArray[np.uint8]:
    """A tile of the page at its original size, having asserted that each of its pixels is a whole square."""
    height, width = size
    block = page[top : top + height * scale, left : left + width * scale]
    small = block[::scale, ::scale]
    assert np.array_equal(small.repeat(scale, axis=0).repeat(scale, axis=1), block)
    return small


@pytest.mark.parametrize(
    "size,scale", [((8, 8), 12), ((28, 28), 3), ((20, 32), 3), ((64, 64), 1), ((130, 90), 1)]
)
def test_a_sheet_holds_every_pixel_in_its_place(size: tuple[int, int], scale: int, tmp_path: Path) -> None:
    levels = random_pictures(5, 3, *size)
    page = pixels(plots.sheet(levels / 255.0, columns=2), tmp_path)
    height, width = size
    assert page.shape == (3 * (height * scale + GAP) + GAP, 2 * (width * scale + GAP) + GAP, 3)
    for number, expected in enumerate(np.moveaxis(levels, 1, -1)):
        top = GAP + number // 2 * (height * scale + GAP)
        left = GAP + number % 2 * (width * scale + GAP)
        assert np.array_equal(tile(page, top, left, size, scale), expected)


def test_grey_pictures_are_grey_and_clipped_and_nan_is_magenta(tmp_path: Path) -> None:
    picture = torch.tensor([[-3.0, 0.5], [7.0, math.nan]]).reshape(1, 1, 2, 2)
    page = pixels(plots.sheet(picture), tmp_path)
    expected = [[(0, 0, 0), (128, 128, 128)], [(255, 255, 255), (255, 0, 255)]]
    assert np.array_equal(tile(page, GAP, GAP, (2, 2), 48), expected)


def test_labels_are_written_above_their_pictures(tmp_path: Path) -> None:
    pictures = random_pictures(4, 1, 32, 32) / 255.0
    figure = plots.sheet(pictures, [1, -1, 0, 7], columns=2, names=("cat", "a name far too long to fit"))
    (axes,) = figure.axes
    written = {text.get_text(): text.get_position() for text in axes.texts}
    long = axes.texts[0]
    assert set(written) == {long.get_text(), "", "cat", "7"}
    assert long.get_text().startswith("a name f")
    assert long.get_text().endswith("…")
    assert long.get_window_extent().width <= 96
    assert written["cat"] == (GAP + 48, 2 * (STRIP + GAP) + 96 - 3)
    assert written["7"] == (2 * GAP + 96 + 48, written["cat"][1])
    page = pixels(figure, tmp_path)
    assert np.array_equal(tile(page, GAP + STRIP, GAP, (32, 32), 3)[..., 0], (pictures[0, 0] * 255).round())
    above_the_unlabelled = page[:STRIP, 2 * GAP + 96 :]
    assert above_the_unlabelled.min() == 255
    assert page[:STRIP, : GAP + 96].min() < 128


def test_sheets_without_labels_keep_no_room_for_them(tmp_path: Path) -> None:
    pictures = torch.zeros(2, 1, 8, 8)
    bare, unlabelled = plots.sheet(pictures), plots.sheet(pictures, torch.tensor([-1, -1]))
    assert pixels(bare, tmp_path).shape == pixels(unlabelled, tmp_path).shape


def test_a_film_strip_has_a_row_a_sample_and_a_column_a_time(tmp_path: Path) -> None:
    frames = random_pictures(3, 2, 1, 32, 32)
    figure = plots.film_strip(torch.from_numpy(frames / 255.0), ["t = 1", "t = 0.5", "t = 0"])
    page = pixels(figure, tmp_path)
    for time in range(3):
        for sample in range(2):
            top, left = GAP + STRIP + sample * (96 + GAP), GAP + time * (96 + GAP)
            assert np.array_equal(tile(page, top, left, (32, 32), 3)[..., 1], frames[time, sample, 0])
    assert [text.get_text() for text in figure.axes[0].texts] == ["t = 1", "t = 0.5", "t = 0"]


def test_before_after_reads_from_left_to_right(tmp_path: Path) -> None:
    kinds = random_pictures(3, 2, 3, 32, 32)
    figure = plots.before_after(*(torch.from_numpy(kind / 255.0) for kind in kinds))
    page = pixels(figure, tmp_path)
    for column in range(3):
        second = tile(page, GAP + STRIP + 96 + GAP, GAP + column * (96 + GAP), (32, 32), 3)
        assert np.array_equal(second, np.moveaxis(kinds[column, 1], 0, -1))
    assert [text.get_text() for text in figure.axes[0].texts] == ["original", "incomplete", "completed"]
    two = plots.before_after(*(kinds[[0, 1, 2, 2]] / 255.0), names=["repaint", "particle"])
    said = [text.get_text() for text in two.axes[0].texts]
    assert said == ["original", "incomplete", "repaint", "particle"]
    with pytest.raises(DataError, match="3 captions"):
        plots.before_after(*(kinds[[0, 1, 2, 2]] / 255.0), names=["repaint"])


def test_rows_hold_their_pictures_beside_their_names(tmp_path: Path) -> None:
    levels = random_pictures(5, 3, 32, 32)
    figure = plots.rows({"1 step": levels[:2] / 255.0, "20 steps": levels[2:] / 255.0}, ["a", "b", "c"])
    page = pixels(figure, tmp_path)
    margin = page.shape[1] - 3 * (96 + GAP) - GAP
    for number, picture in enumerate(levels):
        row, column = (0, number) if number < 2 else (1, number - 2)
        top, left = GAP + STRIP + row * (96 + GAP), margin + GAP + column * (96 + GAP)
        assert np.array_equal(tile(page, top, left, (32, 32), 3), np.moveaxis(picture, 0, -1))
    assert (
        page[GAP + STRIP : GAP + STRIP + 96, margin + 2 * (96 + GAP) + 1 :].min() == 255
    )  # the row is short
    written = {text.get_text(): text for text in figure.axes[0].texts}
    assert set(written) == {"a", "b", "c", "1 step", "20 steps"}
    assert written["20 steps"].get_position() == (margin, GAP + STRIP + 96 + GAP + 48)
    assert written["20 steps"].get_window_extent().x0 >= 0.0
    assert page[:, :margin].min() < 128


def test_classes_have_a_row_each_in_their_order(tmp_path: Path) -> None:
    levels, labels = random_pictures(7, 1, 32, 32), torch.tensor([2, 0, -1, 2, 0, 2, 2])
    page = pixels(plots.class_rows(levels / 255.0, labels, ["cat", "dog", "ship"], columns=3), tmp_path)
    margin = page.shape[1] - 3 * (96 + GAP) - GAP
    for row, rows in enumerate([[1, 4], [0, 3, 5]]):
        for column, number in enumerate(rows):
            top, left = GAP + row * (96 + GAP), margin + GAP + column * (96 + GAP)
            assert np.array_equal(tile(page, top, left, (32, 32), 3)[..., 0], levels[number, 0])
    figure = plots.class_rows(levels / 255.0, labels, ["cat", "dog", "ship"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["cat", "ship"]


def test_the_loss_curve_shows_each_finite_value_and_a_running_median() -> None:
    steps = np.arange(1000)
    losses = np.where(steps % 2 == 0, 1.0, 3.0)
    losses[500], losses[501] = 1e9, math.nan
    (axes,) = plots.loss_curve(steps, losses).axes
    raw, trend = axes.lines
    assert len(raw.get_xdata()) == 999
    assert np.nanmax(raw.get_ydata()) == 1e9
    assert set(np.unique(trend.get_ydata())) <= {1.0, 3.0}
    assert axes.get_yscale() == "log"
    assert raw.get_alpha() < 0.5 < trend.get_linewidth()


def test_the_loss_curve_is_linear_below_zero() -> None:
    assert plots.loss_curve([1, 2, 3], [1.0, -1.0, 0.5]).axes[0].get_yscale() == "linear"
    assert plots.loss_curve([], []).axes[0].get_yscale() == "linear"


def test_losses_of_several_models_are_medians_on_the_same_axes() -> None:
    even = [{"step": 10 + n, "loss": 2.0} for n in range(100)]
    bumpy = [{"step": n, "loss": 1e9 if n == 150 else 1.0 + n % 2} for n in range(300)]
    (axes,) = plots.losses({"even": even, "bumpy": bumpy}).axes
    first, second = axes.lines
    assert (next(iter(first.get_xdata())), set(first.get_ydata())) == (10, {2.0})
    assert list(second.get_xdata()) == list(range(300))
    assert set(second.get_ydata()) == {1.0, 2.0}
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["even", "bumpy"]
    assert first.get_color() != second.get_color()
    assert axes.get_yscale() == "log"


def test_losses_below_zero_and_broken_ones_leave_the_others_seen() -> None:
    odd = [{"step": n, "loss": math.nan if n == 1 else n - 3.0} for n in range(6)]
    (axes,) = plots.losses({"odd": odd}).axes
    assert axes.get_yscale() == "linear"
    assert list(axes.lines[0].get_ydata()) == [-3.0, -1.0, 0.0, 1.0, 2.0]


def test_schedules_draw_the_rates_over_the_times_of_each_process() -> None:
    figure = plots.schedules({"circle": Circle(), "wide": Circle(scale=50.0)})
    signal, noise, _ = figure.axes
    for line in signal.lines:
        assert np.allclose(line.get_ydata(), np.cos(line.get_xdata()), atol=1e-12)
    for line, scale in zip(noise.lines, (1.0, 50.0), strict=True):
        t = np.asarray(line.get_xdata())
        assert (t[0], t[-1]) == (0.1, 1.5)
        assert np.allclose(line.get_ydata(), scale * np.sin(t), rtol=1e-12)
    assert (signal.get_yscale(), noise.get_yscale()) == ("linear", "log")
    assert plots.schedules({"circle": Circle()}).axes[1].get_yscale() == "linear"


def test_vectors_and_signals_are_drawn_too() -> None:
    points = np.random.default_rng(0).normal(size=(50, 2))
    (axes,) = plots.scatter(points, reference=2 * points).axes
    reference, samples = axes.collections
    assert np.array_equal(np.asarray(samples.get_offsets()), points)
    assert np.array_equal(np.asarray(reference.get_offsets()), 2 * points)

    signals = torch.randn(5, 2, 30, generator=torch.Generator().manual_seed(0))
    panels = plots.lines(signals).axes
    assert len(panels) == 6
    assert np.array_equal(panels[4].lines[2].get_ydata(), signals[4, 1].numpy())


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.sheet(np.zeros((4, 2, 8, 8))),
        lambda: plots.sheet(np.zeros((0, 1, 8, 8))),
        lambda: plots.sheet(np.zeros((8, 8))),
        lambda: plots.sheet(np.zeros((4, 1, 8, 8)), [1, 2]),
        lambda: plots.film_strip(np.zeros((4, 2, 1, 8, 8)), ["one"]),
        lambda: plots.film_strip(np.zeros((4, 1, 8, 8)), ["one"] * 4),
        lambda: plots.scatter(np.zeros((4, 3))),
        lambda: plots.lines(np.zeros(4)),
        lambda: plots.rows({"a": np.zeros((1, 1, 8, 8)), "b": np.zeros((1, 1, 9, 8))}),
        lambda: plots.class_rows(np.zeros((4, 1, 8, 8)), [1, 2]),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_its_shape(draw: object) -> None:
    assert callable(draw)
    with pytest.raises(DataError, match=r"\d.* Expected "):
        draw()


def test_save_leaves_the_old_picture_and_no_rubbish_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plots.save(plots.sheet(torch.zeros(1, 1, 8, 8)), tmp_path / "sheet.png")
    before = path.read_bytes()

    def fail(self: Path, target: Path) -> Path:
        raise OSError("no room")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no room"):
        plots.save(plots.sheet(torch.ones(1, 1, 8, 8)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_figure_shows_itself_in_a_notebook() -> None:
    figure = plots.sheet(torch.zeros(1, 1, 8, 8))
    with Image.open(io.BytesIO(figure._repr_png_())) as image:
        assert image.size == (96 + 2 * GAP, 96 + 2 * GAP)


def test_pyplot_is_never_imported() -> None:
    program = (
        "import sys, torch; from diffkit import plots; "
        "plots.sheet(torch.rand(4, 1, 8, 8))._repr_png_(); plots.loss_curve([1, 2], [1, 2])._repr_png_(); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_terms_of_a_bound_are_drawn_as_they_are() -> None:
    figure = plots.terms([0.1, 0.2, 0.3], torch.tensor([1e-3, 1e-1, 1e-2]))
    (axes,) = figure.axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [0.1, 0.2, 0.3]
    assert line.get_ydata() == pytest.approx([1e-3, 1e-1, 1e-2])
    assert axes.get_yscale() == "log"
    assert plots.terms([0.1, 0.2], [0.0, 1.0]).axes[0].get_yscale() == "linear"
