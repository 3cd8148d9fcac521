"""The laws of a grid: as many times as were asked for, in order, with exact ends."""

from __future__ import annotations

import torch
from torch import Tensor

from diffkit.errors import IncompatibleError
from diffkit.interfaces.grid import Grid
from diffkit.interfaces.sde import GaussianSDE
from diffkit.testing.lawbook.base import NotApplicable, book_of, ensure
from diffkit.testing.lawbook.partners import processes_for

__all__ = ["LAWS"]

_STEPS = (1, 2, 3, 4, 7, 20, 100, 1000)


def _served(grid: Grid) -> list[tuple[str, GaussianSDE, int, float, float, Tensor]]:
    """Every process, number of steps and interval that the grid serves, with its times."""
    found = []
    for name, sde in processes_for(grid):
        width = sde.t_max - sde.t_min
        for start, stop in ((sde.t_max, sde.t_min), (sde.t_max - 0.2 * width, sde.t_min + 0.1 * width)):
            for steps in _STEPS:
                try:
                    times = grid.times(sde, steps, start, stop)
                except IncompatibleError:
                    continue  # a grid fitted to one run refuses the others, as it should
                found.append(
                    (f"{name}, {steps} steps from {start:.4g} to {stop:.4g}", sde, steps, start, stop, times)
                )
    if not found:
        raise NotApplicable("it serves none of the built-in processes")
    return found


def count_and_dtype(grid: Grid) -> None:
    """times(sde, n, start, stop) has n + 1 entries, float64, on the CPU."""
    for what, _, steps, _, _, times in _served(grid):
        ensure(times.shape == (steps + 1,), f"on {what}: the shape is {tuple(times.shape)}")
        ensure(times.dtype == torch.float64, f"on {what}: the dtype is {times.dtype}")


def strictly_decreasing(grid: Grid) -> None:
    """t_0 > t_1 > ... > t_n, all finite, and log-SNR increases along with it."""
    for what, sde, _, _, _, times in _served(grid):
        ensure(times.isfinite().all(), f"on {what}: a time is not finite")
        ensure((times.diff() < 0.0).all(), f"on {what}: a time is not below the one before it")
        ensure((sde.log_snr(times).diff() > 0.0).all(), f"on {what}: two times share a noise level")


def exact_ends(grid: Grid) -> None:
    """t_0 = start and t_n = stop, to the last bit."""
    for what, _, _, start, stop, times in _served(grid):
        ends = float(times[0]), float(times[-1])
        ensure(ends == (start, stop), f"on {what}: the ends are {ends}")


def pure(grid: Grid) -> None:
    """The same arguments give the same times, and torch's global generator is left alone."""
    before = torch.get_rng_state()
    first = [row[-1] for row in _served(grid)]
    again = [row[-1] for row in _served(grid)]
    ensure(all(torch.equal(a, b) for a, b in zip(first, again, strict=True)), "two calls differ")
    ensure(torch.equal(before, torch.get_rng_state()), "the global generator was moved")


def refinement(grid: Grid) -> None:
    """On a tenth of the process, where a smooth spacing is nearly even, 200 steps halve the longest interval
    of log-SNR that 100 leave, and none is twice as long as the ones beside it: steps crowded into one place
    never converge, and i/(n + 1) in the place of i/n leaves a double step at the end."""
    served = False
    for name, sde in processes_for(grid):
        middle, reach = 0.5 * (sde.t_min + sde.t_max), 0.05 * (sde.t_max - sde.t_min)
        try:
            times = [grid.times(sde, steps, middle + reach, middle - reach) for steps in (100, 200)]
        except IncompatibleError:
            continue
        served = True
        coarse, fine = (sde.log_snr(each).diff() for each in times)
        # The bounds are half-way from what is right, 1/2 and 1, to what is wrong, 1 and 2.
        share = float(fine.max() / coarse.max())
        ensure(share < 0.75, f"on {name}: the longest interval of 200 steps is {share:.3g} of that of 100")
        padded = torch.nn.functional.pad(coarse, (1, 1))
        alone = coarse / torch.maximum(padded[:-2], padded[2:])
        place = int(alone.argmax())
        ensure(
            alone[place] < 1.5,
            f"on {name}: interval {place + 1} of 100 is {float(alone[place]):.3g} times as long as the ones "
            "beside it",
        )
    if not served:
        raise NotApplicable("it serves no run but the one that it was fitted for")


LAWS = book_of("grid", count_and_dtype, strictly_decreasing, exact_ends, pure, refinement)
