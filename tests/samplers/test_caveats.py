"""What is valid but unwise is said, and only where it is true."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import diffkit
from diffkit import compatibility
from diffkit.errors import IncompatibleError
from diffkit.noise import Noise
from diffkit.selection import Selection
from diffkit.testing.order import standard_mixture


def said(sampler: Any, schedule: str, steps: int | None) -> list[str]:
    sde = diffkit.create("sde", "vp", schedule=schedule)
    selection = Selection.of(sde, diffkit.create("sampler", sampler), steps=steps)
    return [f.reason for f in compatibility.check(selection) if f.status == "caveat"]


def test_euler_maruyama_in_few_steps() -> None:
    (reason,) = said("euler-maruyama", "linear", 20)
    assert "20" in reason
    assert said("euler-maruyama", "linear", 100) == []
    assert said("euler-maruyama", "linear", None) == []


def test_high_degrees_on_a_schedule_with_a_pole() -> None:
    high = {"name": "exponential-integrator", "degree": 3}
    (reason,) = said(high, "cosine", 10)
    assert "pole" in reason
    assert said(high, "linear", 10) == []
    assert said(high, "cosine", 200) == []
    assert said({"name": "exponential-integrator", "degree": 1}, "cosine", 10) == []
    assert said("dpm-solver++", "cosine", 10) == []


@pytest.mark.parametrize("schedule, gains", [("cosine", False), ("linear", True)])
def test_which_is_so(schedule: str, gains: bool) -> None:
    """Degree 3 against degree 2 at 50 steps, each against the exact quantile map."""
    sde, mixture = diffkit.create("sde", "vp", schedule=schedule), standard_mixture()
    x = sde.prior((48, 1), Noise(seed=3, index=torch.arange(48)), dtype=torch.float64)
    ends = torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64)
    exact = mixture.flow(sde, x, ends[0], ends[1])
    errors = []
    for degree in (2, 3):
        sampler = {"name": "exponential-integrator", "degree": degree}
        run = diffkit.sample(mixture.model(sde), sde=sde, sampler=sampler, steps=50, x_init=x, stop=sde.t_min)
        errors.append(float((run.x - exact).abs().log().mean().exp()))
    assert (errors[0] > 2.0 * errors[1]) is gains


def test_a_grid_fitted_for_another_sampler_is_refused_with_a_remedy() -> None:
    sde = diffkit.create("sde", "vp")
    made = {"name": "fitted", "table": [1.0, 0.5, 0.001], "sde": sde, "sampler": "ddim"}
    grid = diffkit.create("grid", made)
    fits = Selection.of(sde, diffkit.create("sampler", "ddim"), grid)
    assert [f for f in compatibility.check(fits) if f.status == "refused"] == []
    other = Selection.of(sde, diffkit.create("sampler", "adams"), grid)
    (finding,) = [f for f in compatibility.check(other) if f.status == "refused"]
    assert "fit_grid" in finding.remedy
    with pytest.raises(IncompatibleError, match="was made for the sampler"):
        compatibility.require(other)
