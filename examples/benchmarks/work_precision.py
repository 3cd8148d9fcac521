"""Error against denoiser calls on problems with exact solutions; other libraries beside, where installed.

    python examples/benchmarks/work_precision.py                       # all three problems, some minutes
    python examples/benchmarks/work_precision.py --problem mixture-1d --no-fit
    python examples/benchmarks/work_precision.py --end clean

Every solver starts from the same noise, has the same exact denoiser (float64) and the same count of calls,
and is held against the exact probability-flow map to where it ends. The error of a run is the geometric mean
over samples of each sample's RMS distance. With `--end level` (the default) all end at the process's t_min
after n intervals, so that methods are compared and not the ways to end; with `--end clean` all make n - 1
intervals and a last denoiser call, and the target is the limit at sigma = 0. The comparison of default
settings lets everyone end as its own default does, held against the exact map to that end.

Fitted grids are fitted on noises of their own, none of which is scored; what that costs is stated.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click
import torch
from peers import Peer, installed, ratios
from precision_report import Result, plot, table
from sklearn.datasets import load_digits
from torch import Tensor

import diffkit
from diffkit.interfaces.sde import GaussianSDE
from diffkit.sampling_run import DEFAULT_SAMPLER
from diffkit.testing.exact import ExactProblem, KernelDensityProblem, MixtureProblem

COUNTS = (5, 8, 10, 15, 20, 30, 50)

SAMPLERS: dict[str, Any] = {
    "ddim": "ddim",
    "exponential-integrator": "exponential-integrator",
    "dpm-solver++ 2": {"name": "dpm-solver++", "order": 2},
    "dpm-solver++ 3": {"name": "dpm-solver++", "order": 3},
    **{f"unipc {p}": {"name": "unipc", "predictor_order": p} for p in (1, 2, 3)},
    **{
        f"adams {variable} {order}{'' if corrector else ' uncorrected'}": {
            "name": "adams", "variable": variable, "order": order, "corrector": corrector
        }
        for variable in ("velocity", "noise")
        for order in (2, 3, 4, 5)
        for corrector in (True, False)
    },
}  # fmt: skip
GRIDS = ("uniform", "quadratic", "log-snr", "karras", "noise-share")
FITTED = ("adams velocity 2", "adams velocity 3", "adams velocity 4")
"""The samplers that grids are fitted for."""


@attrs.frozen(kw_only=True, eq=False)
class Case:
    """One problem, its start, and where exact paths end.

    Args:
        level, clean: the exact map at t_min and at sigma = 0.
        trial_noises: how many noises a grid is fitted on.
    """

    name: str
    problem: ExactProblem
    sde: GaussianSDE
    start: Tensor
    level: Tensor
    clean: Tensor
    trial_noises: int

    def ratio(self, t: Tensor) -> Tensor:
        """sigma/alpha at times."""
        return torch.exp(-0.5 * self.sde.log_snr(t))

    def alpha(self, t: float) -> Tensor:
        return self.sde.alpha(torch.tensor(t, dtype=torch.float64))

    def denoise(self, y: Tensor, ratio: float) -> Tensor:
        """D at y = x / alpha."""
        t = self.sde.time_of(torch.tensor(-2.0 * math.log(ratio), dtype=torch.float64))
        return self.problem.denoise(self.sde, self.sde.alpha(t) * y, t)


def problems() -> dict[str, tuple[ExactProblem, int]]:
    """The problems, each with how many noises its grids are fitted on."""
    line = MixtureProblem(
        weights=[0.3, 0.45, 0.25], means=[[-0.8], [0.1], [0.9]], variances=[0.0225, 0.0625, 0.01]
    )
    angles = torch.arange(8 * 16, dtype=torch.float64).reshape(8, 16)
    means = 0.9 * torch.sin(1.7 * angles + 0.3 * angles.square().remainder(7.0))
    spread = MixtureProblem(
        weights=[0.2, 0.05, 0.15, 0.1, 0.1, 0.15, 0.05, 0.2],
        means=means,
        variances=torch.linspace(0.1, 0.3, 8, dtype=torch.float64) ** 2,
    )
    images = torch.from_numpy(load_digits().data)
    digits = KernelDensityProblem(points=2.0 * (images + 0.5) / 17.0 - 1.0, width=0.1)
    return {"mixture-1d": (line, 64), "mixture-16d": (spread, 32), "digits": (digits, 16)}


def make_case(name: str, sde: GaussianSDE, samples: int) -> Case:
    problem, trial_noises = problems()[name]
    generator = torch.Generator().manual_seed(20)
    z = torch.randn(samples, problem.dim, generator=generator, dtype=torch.float64)
    end = torch.tensor(sde.t_max, dtype=torch.float64)
    bare = Case(
        name=name,
        problem=problem,
        sde=sde,
        start=sde.sigma(end) * z,
        level=z,
        clean=z,
        trial_noises=trial_noises,
    )
    level, clean = exact_ends(bare)
    return attrs.evolve(bare, level=level, clean=clean)


def exact_ends(case: Case) -> tuple[Tensor, Tensor]:
    """The flow's map to t_min and to clean data: the quantile map in one dimension, else 1200 steps of RK4.

    dy/du = D - y in u = -log(sigma/alpha), y = x / alpha. The map to clean data goes on to sigma = 1e-6.
    """
    sde = case.sde
    first, last = (torch.tensor(t, dtype=torch.float64) for t in (sde.t_max, sde.t_min))
    if isinstance(case.problem, MixtureProblem) and case.problem.dim == 1:
        return case.problem.flow(sde, case.start, first, last), case.problem.flow(
            sde, case.start, first, None
        )

    def slope(u: float, y: Tensor) -> Tensor:
        return case.denoise(y, math.exp(-u)) - y

    begin, middle = (-math.log(float(case.ratio(t))) for t in (first, last))
    y = runge_kutta(slope, case.start / sde.alpha(first), begin, middle, 1000)
    level = y * sde.alpha(last)
    y = runge_kutta(slope, y, middle, math.log(1e6), 200)
    return level, case.denoise(y, 1e-6)


def runge_kutta(
    slope: Callable[[float, Tensor], Tensor], y: Tensor, a: float, b: float, steps: int
) -> Tensor:
    """Classical, `steps` equal steps."""
    h = (b - a) / steps
    for i in range(steps):
        u = a + i * h
        k1 = slope(u, y)
        k2 = slope(u + h / 2, y + h / 2 * k1)
        k3 = slope(u + h / 2, y + h / 2 * k2)
        k4 = slope(u + h, y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y


def error(x: Tensor, exact: Tensor) -> float:
    """The geometric mean over samples of the RMS distance; infinite where a run went astray."""
    mean = float((x - exact).square().mean(1).clamp(min=1e-30).log().mean() / 2)
    return math.exp(mean) if mean < 700.0 else math.inf


def ours(case: Case, sampler: Any, grid: Any, steps: int, end: str) -> float:
    stop, exact = (case.sde.t_min, case.level) if end == "level" else (None, case.clean)
    result = diffkit.sample(
        case.problem.model(case.sde),
        sde=case.sde,
        sampler=sampler,
        grid=grid,
        steps=steps,
        x_init=case.start,
        stop=stop,
        batch_size=len(case.start),
    )
    assert result.nfe == steps
    return error(result.x, exact)


def theirs(case: Case, peer: Peer, grid: str, calls: int, end: str) -> float:
    intervals = (calls if end == "level" else calls - 1) // peer.calls
    if intervals < 1:
        return math.inf
    sde = case.sde
    places = ratios(grid, intervals, sde.t_max, sde.t_min, case.ratio)
    y = peer.solve(case.denoise, case.start / case.alpha(sde.t_max), places)
    if end == "level":
        return error(y * case.alpha(sde.t_min), case.level)
    return error(case.denoise(y, float(places[-1])), case.clean)


def fit(case: Case, sampler: Any, steps: int, end: str, trials: int) -> Any:
    return diffkit.fit_grid(
        case.problem.model(case.sde),
        sde=case.sde,
        sampler=sampler,
        steps=steps,
        shape=(case.problem.dim,),
        seed=1,
        count=case.trial_noises,
        stop=case.sde.t_min if end == "level" else None,
        trials=trials,
        dtype=torch.float64,
    )


def measure(case: Case, counts: tuple[int, ...], end: str, trials: int, others: list[Peer]) -> list[Result]:
    results = []

    def add(owner: str, solver: str, grid: str, group: str, calls: int, value: float) -> None:
        results.append(
            Result(
                problem=case.name,
                owner=owner,
                solver=solver,
                grid=grid,
                group=group,
                calls=calls,
                error=value,
            )
        )

    for n in counts:
        for name, sampler in SAMPLERS.items():
            for grid in GRIDS:
                add("diffkit", name, grid, "plain", n, ours(case, sampler, grid, n, end))
        for name in FITTED if trials else ():
            grid = fit(case, SAMPLERS[name], n, end, trials)
            cost = grid.calls / case.trial_noises
            click.echo(
                f"  fitted {name}, {n} calls: {cost:.0f} calls for each of {case.trial_noises} noises",
                err=True,
            )
            add("diffkit", name, "fitted", "fitted", n, ours(case, SAMPLERS[name], grid, n, end))
        add("diffkit", "default", "default", "default", n, ours(case, DEFAULT_SAMPLER, None, n, "clean"))
        for peer in others:
            for grid in peer.grids:
                add(peer.library, peer.name, grid, "plain", n, theirs(case, peer, grid, n, end))
            if peer.default:
                own_end = "clean" if peer.ends_clean else "level"
                add(
                    peer.library,
                    peer.name,
                    peer.default,
                    "default",
                    n,
                    theirs(case, peer, peer.default, n, own_end),
                )
        click.echo(f"  {case.name}: {n} calls done", err=True)
    return results


@click.command(help=__doc__.partition("\n")[0])
@click.option(
    "--problem", "names", multiple=True, type=click.Choice(list(problems())), help="Default: all three."
)
@click.option("--calls", "counts", multiple=True, type=click.IntRange(2), default=COUNTS, show_default=True)
@click.option("--samples", default=64, show_default=True, help="Noises that are scored.")
@click.option("--sde", default="vp", show_default=True)
@click.option("--end", type=click.Choice(["level", "clean"]), default="level", show_default=True)
@click.option("--trials", default=200, show_default=True, help="Trial runs a fitted grid may take.")
@click.option("--no-fit", is_flag=True, help="Leave fitted grids out.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("work_precision"),
    show_default=True,
    help="OUT.json, OUT.png, OUT.txt",
)
def main(
    names: tuple[str, ...],
    counts: tuple[int, ...],
    samples: int,
    sde: str,
    end: str,
    trials: int,
    no_fit: bool,
    out: Path,
) -> None:
    others = installed()
    libraries = ", ".join(dict.fromkeys(peer.library for peer in others)) or "none is installed"
    click.echo(f"other libraries: {libraries}", err=True)
    process: GaussianSDE = diffkit.create("sde", sde)
    results: list[Result] = []
    for name in names or tuple(problems()):
        case = make_case(name, process, samples)
        results += measure(case, counts, end, 0 if no_fit else trials, others)
    lines = table(results, counts)
    click.echo("\n".join(lines))
    out.with_suffix(".txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    record = {"sde": sde, "end": end, "samples": samples, "results": [attrs.asdict(r) for r in results]}
    out.with_suffix(".json").write_text(json.dumps(record), encoding="utf-8")
    plot(results, counts, out.with_suffix(".png"))


if __name__ == "__main__":
    sys.exit(main())
