"""The grids of fixed formula: end points, monotony, and the spacing each of them names."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import diffkit
from diffkit.errors import ConfigError, IncompatibleError

PROCESSES = ("vp", "sub-vp", "ve", "flow", {"name": "vp", "schedule": "cosine"})
GRIDS = ("uniform", "log-snr", "karras", "quadratic", {"name": "karras", "rho": 1.0})


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


def test_karras_refuses_a_process_without_a_noise_to_signal_ratio() -> None:
    class Odd(type(diffkit.create("sde", "vp")).__mro__[3]):  # SDE itself, not a Gaussian one
        def drift(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return x

        def diffusion(self, t: torch.Tensor) -> torch.Tensor:
            return t

        def prior(self, shape: object, noise: object, dtype: object = None, device: object = None) -> object:
            return None

    with pytest.raises(IncompatibleError, match="use grid uniform"):
        diffkit.create("grid", "karras").times(Odd(), 3, 1.0, 0.1)


def test_rho_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="rho"):
        diffkit.create("grid", {"name": "karras", "rho": 0.0})
