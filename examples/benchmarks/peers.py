"""Other libraries' solvers on the problem at hand: diffusers, azula and k-diffusion, as far as installed.

Every solver gets the exact denoiser, the same start and the same end points, on the grids that its own
library offers. A path of the probability flow depends on the process only through sigma/alpha, so states
are handed over as y = x / alpha, and come back so.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import attrs
import torch
from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]
"""(y, ratio) -> D, for y = x / alpha at sigma/alpha = ratio."""

Solve = Callable[[Denoise, Tensor, Tensor], Tensor]
"""(denoise, y, ratios (n + 1,), decreasing) -> y at the last ratio."""


@attrs.frozen
class Peer:
    """A solver of another library.

    Args:
        library, name: what it is.
        solve: the run.
        grids: names of the grids that its library offers.
        calls: denoiser calls a step.
        default: the grid of its default settings, if these are a default of its library.
        ends_clean: whether these end with a denoiser call of their own.
    """

    library: str
    name: str
    solve: Solve
    grids: tuple[str, ...]
    calls: int = 1
    default: str | None = None
    ends_clean: bool = True


def ratios(kind: str, steps: int, start: float, stop: float, ratio: Callable[[Tensor], Tensor]) -> Tensor:
    """(steps + 1,) sigma/alpha on a named grid, decreasing.

    Args:
        start, stop: times of the process.
        ratio: sigma/alpha at times of the process.
    """
    high, low = (float(end) for end in ratio(torch.tensor([start, stop], dtype=torch.float64)))
    u = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64)
    if kind == "time":
        grid = ratio(start + u * (stop - start))
    elif kind == "time-quadratic":
        grid = ratio((math.sqrt(start) + u * (math.sqrt(stop) - math.sqrt(start))) ** 2)
    elif kind == "log-snr":
        grid = torch.exp(math.log(high) + u * (math.log(low) - math.log(high)))
    elif kind == "karras":
        grid = (high ** (1 / 7) + u * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    elif kind == "rectified":
        share = high / (1 + high) + u * (low / (1 + low) - high / (1 + high))
        grid = share / (1 - share)
    elif kind == "cosine":
        grid = torch.tan(math.atan(high) + u * (math.atan(low) - math.atan(high)))
    elif kind == "decay":
        share = (1.0 - 0.1 ** (1.0 - u)) / 0.9
        share = low / (1 + low) + share * (high / (1 + high) - low / (1 + low))
        grid = share / (1 - share)
    elif kind == "square":
        # alpha = exp(-c t^2): azula's variance-preserving schedule.
        log_alpha = -0.5 * math.log1p(high**2) * (1.0 - u) ** 2
        grid = torch.sqrt(torch.expm1(-2.0 * log_alpha) + low**2)
    else:
        raise ValueError(kind)
    grid[0], grid[-1] = high, low
    return grid


AZULA_GRIDS = ("time", "log-snr", "rectified", "cosine", "decay", "square")
K_GRIDS = ("time", "log-snr", "karras")
DIFFUSERS_GRIDS = ("time", "log-snr", "karras")
AUTHORS_GRIDS = ("time", "log-snr", "time-quadratic")
"""Of the DPM-Solver authors' code, whose methods diffusers carries too."""


def installed() -> list[Peer]:
    """The solvers of every library that can be imported."""
    found: list[Peer] = []
    for library, solvers in (("azula", _azula), ("k_diffusion", _k_diffusion), ("diffusers", _diffusers)):
        if importlib.util.find_spec(library) is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found += solvers()
    return found


def _azula() -> Iterator[Peer]:
    from azula import sample as library

    class Denoiser:
        """azula's interface, on a variance-exploding scale: alpha = 1."""

        def __init__(self, denoise: Denoise, grid: Tensor) -> None:
            self.denoise, self.grid = denoise, grid

        def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
            place = ((1.0 - t) * (len(self.grid) - 1)).round().long()
            # On the variance-preserving scale, so that "velocity" is what azula means by it.
            alpha = torch.rsqrt(1.0 + self.grid[place] ** 2)
            return alpha, alpha * self.grid[place]

        def __call__(self, x: Tensor, t: Tensor) -> SimpleNamespace:
            alpha, sigma = self.schedule(t)
            return SimpleNamespace(mean=self.denoise(x / alpha, float(sigma / alpha)))

    def solve(sampler: type, **options: int) -> Solve:
        def run(denoise: Denoise, y: Tensor, grid: Tensor) -> Tensor:
            denoiser = Denoiser(denoise, grid)
            made = sampler(denoiser, steps=len(grid) - 1, silent=True, dtype=torch.float64, **options)
            first = torch.rsqrt(1.0 + grid[0] ** 2)
            return made(y * first) * torch.sqrt(1.0 + grid[-1] ** 2)

        return run

    yield Peer("azula", "DDIM", solve(library.DDIMSampler), AZULA_GRIDS, 1, "time", False)
    yield Peer("azula", "Heun", solve(library.HeunSampler), AZULA_GRIDS, 2, "time", False)
    for name in ("zAB", "vAB", "zEAB", "xEAB", "REAB"):
        sampler = getattr(library, f"{name}Sampler")
        for order in (1, 2, 3, 4):
            default = "time" if order == 2 else None
            yield Peer("azula", f"{name}{order}", solve(sampler, order=order), AZULA_GRIDS, 1, default, False)


def _k_diffusion() -> Iterator[Peer]:
    from k_diffusion import sampling as library

    def solve(sampler: Callable[..., Tensor], **options: object) -> Solve:
        def run(denoise: Denoise, y: Tensor, grid: Tensor) -> Tensor:
            return sampler(lambda x, sigma: denoise(x, float(sigma[0])), y, grid, disable=True, **options)

        return run

    for order in (1, 2, 3, 4):
        run = solve(library.sample_lms, order=order)
        yield Peer("k-diffusion", f"LMS{order}", run, K_GRIDS, 1, "karras" if order == 4 else None)
    yield Peer("k-diffusion", "Heun", solve(library.sample_heun), K_GRIDS, 2, "karras")
    yield Peer("k-diffusion", "DPM-2", solve(library.sample_dpm_2), K_GRIDS, 2, "karras")
    yield Peer("k-diffusion", "DPM++ 2M", solve(library.sample_dpmpp_2m), K_GRIDS, 1, "karras")
    still = solve(library.sample_dpmpp_3m_sde, eta=0.0, noise_sampler=lambda *_: 0.0)
    yield Peer("k-diffusion", "DPM++ 3M", still, K_GRIDS)


def _diffusers() -> Iterator[Peer]:
    import diffusers as library

    def solve(scheduler: type, **options: object) -> Solve:
        def run(denoise: Denoise, y: Tensor, grid: Tensor) -> Tensor:
            steps = len(grid) - 1
            made = scheduler(prediction_type="sample", **options)
            made.set_timesteps(steps)
            # The library's table of 1000 levels gives way to the exact levels; timesteps are mere labels.
            made.sigmas, made.timesteps = grid.clone(), torch.arange(steps, 0, -1)
            x = y * torch.rsqrt(1.0 + grid[0] ** 2)
            for number, label in enumerate(made.timesteps):
                clean = denoise(x * torch.sqrt(1.0 + grid[number] ** 2), float(grid[number]))
                x = made.step(clean, label, x).prev_sample
            return x.to(y.dtype) * torch.sqrt(1.0 + grid[-1] ** 2)

        return run

    both = tuple(dict.fromkeys((*DIFFUSERS_GRIDS, *AUTHORS_GRIDS)))
    for kind in ("dpmsolver++", "dpmsolver"):
        for order in (1, 2, 3):
            for last in (True, False):
                options = {"algorithm_type": kind, "solver_order": order, "lower_order_final": last}
                default = "time" if kind == "dpmsolver++" and order == 2 and last else None
                name = f"{kind} {order}M{'' if last else ' to the end'}"
                run = solve(library.DPMSolverMultistepScheduler, **options, final_sigmas_type="sigma_min")
                yield Peer("diffusers", name, run, both, 1, default)
        for order in (2, 3):
            options = {"algorithm_type": kind, "solver_order": order, "final_sigmas_type": "sigma_min"}
            run = solve(library.DPMSolverSinglestepScheduler, **options)
            default = "time" if kind == "dpmsolver++" and order == 2 else None
            yield Peer("diffusers", f"{kind} {order}S", run, both, 1, default)
    for order in (1, 2, 3):
        for last in (True, False):
            name = f"UniPC{order}{'' if last else ' to the end'}"
            options = {"solver_order": order, "lower_order_final": last, "final_sigmas_type": "sigma_min"}
            run = solve(library.UniPCMultistepScheduler, **options)
            default = "time" if order == 2 and last else None
            yield Peer("diffusers", name, run, DIFFUSERS_GRIDS, 1, default)
        run = solve(library.DEISMultistepScheduler, solver_order=order)
        yield Peer("diffusers", f"DEIS{order}", run, DIFFUSERS_GRIDS, 1, "time" if order == 2 else None)
