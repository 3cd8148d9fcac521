"""The grids of fixed formula: end points, monotony, and the spacing each of them names."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import diffkit
from diffkit.errors import ConfigError, IncompatibleError
from diffkit.interfaces.sde import SDE
from diffkit.noise import Noise

PROCESSES = ("vp", "sub-vp", "ve", "flow", {"name": "vp", "schedule": "cosine"})
GRIDS = ("uniform", "log-snr", "karras", "quadratic", "noise-share", {"name": "karras", "rho": 1.0})


@pytest.mark.parametrize("process", PROCESSES, ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@settings(derandomize=True, deadline=None, max_examples=15)
@given(steps=st.integers(1, 200), ends=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)))
def test_ends_are_exact_and_times_decrease(
    process: object, grid: object, steps: int, ends: tuple[float, float]
) -> None:
    sde, placed = diffkit.create("sde", process), diffkit.create("grid", grid)
    low, high = sorted(sde.t_min + end * (sde.t_max - sde.t_min) for end in ends)
    if high - low < 0.05:
        low, high = sde.t_min, sde.t_max
    times = placed.times(sde, steps, high, low)
    assert times.dtype == torch.float64
    assert times.shape == (steps + 1,)
    assert (float(times[0]), float(times[-1])) == (high, low)
    assert bool((times.diff() < 0).all())


def spacing(values: torch.Tensor) -> torch.Tensor:
    return values.diff() / (values[-1] - values[0])


def test_each_is_uniform_in_its_own_variable() -> None:
    sde = diffkit.create("sde", "sub-vp")
    for grid, variable in (
        ("uniform", lambda t: t),
        ("quadratic", torch.sqrt),
        ("log-snr", lambda t: torch.log(sde.alpha(t) / sde.sigma(t))),
        ("karras", lambda t: (sde.sigma(t) / sde.alpha(t)) ** (1 / 7)),
        ("noise-share", lambda t: torch.sqrt(sde.sigma(t) / (sde.alpha(t) + sde.sigma(t)))),
        ({"name": "noise-share", "rho": 1.0}, lambda t: sde.sigma(t) / (sde.alpha(t) + sde.sigma(t))),
        ({"name": "karras", "rho": 3.0}, lambda t: (sde.sigma(t) / sde.alpha(t)) ** (1 / 3)),
    ):
        times = diffkit.create("grid", grid).times(sde, 8, 0.9, 0.01)
        torch.testing.assert_close(
            spacing(variable(times)), torch.full((8,), 1 / 8, dtype=torch.float64), rtol=1e-7, atol=1e-9
        )


def test_karras_is_the_published_formula_on_its_own_process() -> None:
    """EDM's sigma_i from 80 to 0.002, 18 levels, as its eq. 5 gives them."""
    sde = diffkit.create(
        "sde", {"name": "ve", "schedule": {"name": "geometric", "sigma_min": 0.002, "sigma_max": 80.0}}
    )
    times = diffkit.create("grid", "karras").times(sde, 17, 1.0, sde.t_min)
    i = torch.arange(18, dtype=torch.float64)
    expected = (80.0 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80.0 ** (1 / 7))) ** 7
    torch.testing.assert_close(sde.sigma(times), expected, rtol=1e-9, atol=0.0)


def test_the_noise_share_is_the_time_of_the_flow() -> None:
    flow, quadratic = diffkit.create("sde", "flow"), diffkit.create("grid", "quadratic")
    times = diffkit.create("grid", "noise-share").times(flow, 9, 0.99, 0.01)
    torch.testing.assert_close(times, quadratic.times(flow, 9, 0.99, 0.01), rtol=1e-12, atol=0.0)


@attrs.frozen(kw_only=True)
class Unnamed(SDE):
    """A process without rates."""

    def drift(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return -x

    def diffusion(self, t: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(t)

    def prior(
        self,
        shape: Sequence[int],
        noise: Noise,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> torch.Tensor:
        return noise.normal(shape, dtype=dtype, device=device)


@pytest.mark.parametrize("grid", ["karras", "noise-share", "log-snr"])
def test_a_process_without_rates_is_refused_with_the_remedy(grid: str) -> None:
    placed = diffkit.create("grid", grid)
    with pytest.raises(IncompatibleError, match=r"[Uu]se grid uniform"):
        placed.times(Unnamed(), 3, 1.0, 0.1)
    with pytest.raises(IncompatibleError, match=r"[Uu]se grid uniform"):
        diffkit.sample(score=lambda x, t: -x, sde=Unnamed(), sampler="adams", grid=grid, shape=(1, 1))


@pytest.mark.parametrize("grid", ["karras", "noise-share"])
def test_rho_must_be_positive(grid: str) -> None:
    with pytest.raises(ConfigError, match="rho"):
        diffkit.create("grid", {"name": grid, "rho": 0.0})
