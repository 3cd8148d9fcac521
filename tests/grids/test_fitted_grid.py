"""Fitted grids: better on noises they have not seen, honest about cost, and of no use elsewhere."""

from __future__ import annotations

import pytest
import torch

import diffkit
from diffkit import registry
from diffkit.errors import ConfigError, IncompatibleError
from diffkit.interfaces.grid import Grid
from diffkit.interfaces.sde import GaussianSDE
from diffkit.testing.exact import MixtureProblem

PROBLEM = MixtureProblem(
    weights=[0.3, 0.45, 0.25], means=[[-0.8], [0.1], [0.9]], variances=[0.02, 0.06, 0.01]
)
STEPS = 8


def error(sde: GaussianSDE, grid: object, stop: float | None, seed: int) -> float:
    """Geometric mean of the distances to the exact quantile map, over 200 fresh noises."""
    generator = torch.Generator().manual_seed(seed)
    x = float(sde.sigma(torch.tensor(sde.t_max))) * torch.randn(
        200, 1, generator=generator, dtype=torch.float64
    )
    end = diffkit.sample(
        PROBLEM.model(sde),
        sde=sde,
        sampler="adams",
        steps=STEPS,
        x_init=x,
        grid=grid,
        stop=stop,
        batch_size=200,
    )
    exact = PROBLEM.flow(sde, x, torch.tensor(sde.t_max), None if stop is None else torch.tensor(stop))
    return float((end.x - exact).abs().clamp(min=1e-15).log().mean().exp())


@pytest.fixture(scope="module")
def sde() -> GaussianSDE:
    return diffkit.create("sde", "vp")


@pytest.fixture(scope="module")
def fitted(sde: GaussianSDE) -> Grid:
    return diffkit.fit_grid(
        PROBLEM.model(sde),
        sde=sde,
        sampler="adams",
        steps=STEPS,
        shape=(1,),
        count=48,
        trials=80,
        dtype=torch.float64,
    )


def test_it_beats_every_plain_grid_on_noises_it_has_not_seen(sde: GaussianSDE, fitted: Grid) -> None:
    plain = min(
        error(sde, name, None, 5) for name in ("uniform", "quadratic", "log-snr", "karras", "noise-share")
    )
    assert error(sde, fitted, None, 5) < 0.6 * plain


def test_it_says_what_it_gained(fitted: Grid) -> None:
    assert 0.0 < fitted.error < 0.6 * fitted.error_before


def test_its_cost_is_what_the_model_was_asked(sde: GaussianSDE) -> None:
    rows = 0

    def counting(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        nonlocal rows
        rows += len(x)
        return PROBLEM.denoise(sde, x, t)

    grid = diffkit.fit_grid(counting, sde=sde, sampler="ddim", steps=4, shape=(1,), count=3, trials=10)
    assert grid.calls == rows > 0


def test_its_noises_are_not_those_that_are_sampled(sde: GaussianSDE) -> None:
    starts = []

    def watching(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if float(t) == sde.t_max:
            starts.append(x)
        return PROBLEM.denoise(sde, x, t)

    given = {"sde": sde, "sampler": "ddim", "steps": 4, "seed": 3}
    diffkit.fit_grid(watching, shape=(1,), count=5, trials=2, **given)
    tried = torch.cat(starts).unique()
    starts.clear()
    diffkit.sample(watching, shape=(50, 1), **given)
    assert len(tried) == 5
    assert not torch.isin(torch.cat(starts), tried).any()


def test_it_comes_back_from_its_description(fitted: Grid) -> None:
    again = registry.create("grid", registry.describe(fitted))
    assert again == fitted


def test_the_same_seed_gives_the_same_grid_and_leaves_the_global_state(sde: GaussianSDE) -> None:
    given = {"sde": sde, "sampler": "ddim", "steps": 4, "shape": (1,), "count": 3, "trials": 10}
    before = torch.get_rng_state()
    first = diffkit.fit_grid(PROBLEM.model(sde), **given)
    assert diffkit.fit_grid(PROBLEM.model(sde), **given) == first
    assert diffkit.fit_grid(PROBLEM.model(sde), seed=1, **given) != first
    assert torch.equal(torch.get_rng_state(), before)


def test_it_ends_where_it_is_told(sde: GaussianSDE) -> None:
    grid = diffkit.fit_grid(
        PROBLEM.model(sde), sde=sde, sampler="ddim", steps=4, shape=(1,), count=3, trials=10, stop=0.2
    )
    assert (grid.table[0], grid.table[-1], len(grid.table)) == (sde.t_max, 0.2, 5)


@pytest.mark.parametrize(
    "change",
    [{"sampler": "ddim"}, {"steps": STEPS + 1}, {"sde": "flow"}, {"stop": 0.1}],
    ids=lambda change: next(iter(change)),
)
def test_it_refuses_what_it_was_not_fitted_for(
    sde: GaussianSDE, fitted: Grid, change: dict[str, object]
) -> None:
    given = {"sde": sde, "sampler": "adams", "steps": STEPS, "shape": (2, 1), "grid": fitted} | change
    if "stop" in change:
        given["steps"] = STEPS - 1
    with pytest.raises(IncompatibleError, match="fit_grid"):
        diffkit.sample(lambda x, t: 0.0 * x, **given)


def test_without_a_table_it_says_how_to_get_one(sde: GaussianSDE) -> None:
    with pytest.raises(IncompatibleError, match="fit_grid"):
        diffkit.sample(PROBLEM.model(sde), sde=sde, steps=5, shape=(1, 1), grid="fitted")


def test_a_table_that_does_not_decrease_is_refused() -> None:
    with pytest.raises(ConfigError, match="decrease"):
        diffkit.create("grid", {"name": "fitted", "table": (1.0, 0.5, 0.6)})


@pytest.mark.parametrize(
    "sampler", ["euler-maruyama", {"name": "probability-flow", "method": "rk45"}], ids=str
)
def test_only_deterministic_samplers_of_fixed_steps_are_fitted(sde: GaussianSDE, sampler: object) -> None:
    with pytest.raises(IncompatibleError, match="deterministic"):
        diffkit.fit_grid(PROBLEM.model(sde), sde=sde, sampler=sampler, steps=5, shape=(1,))


def test_one_step_has_nothing_to_fit(sde: GaussianSDE) -> None:
    with pytest.raises(ConfigError, match="2 steps"):
        diffkit.fit_grid(PROBLEM.model(sde), sde=sde, steps=1, shape=(1,))
