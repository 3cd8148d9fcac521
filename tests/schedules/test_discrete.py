"""The discrete schedule against exact products of its table."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch

from diffkit.errors import ConfigError
from diffkit.registry import create
from diffkit_standard.schedules.discrete import Discrete
from diffkit_standard.sdes.vp import VP

TABLES = {
    "ddpm": Discrete(),
    "300 steps": Discrete(steps=300),
    "scaled-linear": Discrete(table="scaled-linear", beta_start=0.00085, beta_end=0.012),
    "cosine": Discrete(table="cosine"),
    "cosine of 50": Discrete(table="cosine", steps=50),
    "given": Discrete(betas=(0.3, 0.001, 0.2, 0.9, 0.05)),
}
every = pytest.mark.parametrize("name", TABLES)


def nodes(schedule: Discrete) -> torch.Tensor:
    T = len(schedule.beta_table)
    return torch.arange(1, T + 1, dtype=torch.float64) / T


@every
def test_the_signal_at_the_nodes_is_the_product_of_the_table(name: str) -> None:
    schedule = TABLES[name]
    got = torch.exp(-schedule.integral(nodes(schedule))).tolist()
    with mp.workdps(50):
        product, errors = mp.mpf(1), []
        for beta, value in zip(schedule.beta_table.tolist(), got, strict=True):
            product *= 1 - mp.mpf(beta)
            errors.append(float(abs(value - product)))
    assert max(errors) < 1e-15
    assert float(schedule.integral(torch.zeros((), dtype=torch.float64))) == 0.0


def test_tables_are_the_published_ones() -> None:
    torch.testing.assert_close(
        TABLES["ddpm"].beta_table, torch.from_numpy(np.linspace(1e-4, 0.02, 1000)), rtol=1e-13, atol=0.0
    )
    roots = np.linspace(0.00085**0.5, 0.012**0.5, 1000)
    torch.testing.assert_close(
        TABLES["scaled-linear"].beta_table, torch.from_numpy(roots**2), rtol=1e-13, atol=0.0
    )


@pytest.mark.parametrize("name", ["cosine", "cosine of 50"])
def test_the_cosine_table_is_its_definition_and_clipped(name: str) -> None:
    schedule = TABLES[name]
    T = schedule.steps
    with mp.workdps(50):
        s = mp.mpf("0.008")
        f = [mp.cos((mp.mpf(k) / T + s) / (1 + s) * mp.pi / 2) ** 2 for k in range(T + 1)]
        exact = [float(min(1 - f[k] / f[k - 1], mp.mpf(0.999))) for k in range(1, T + 1)]
    torch.testing.assert_close(
        schedule.beta_table, torch.tensor(exact, dtype=torch.float64), rtol=1e-12, atol=0.0
    )
    assert float(schedule.beta_table[-1]) == 0.999


def test_a_short_table_does_not_end_in_pure_noise() -> None:
    assert float(
        VP(schedule=Discrete(steps=300)).alpha(torch.ones((), dtype=torch.float64))
    ) == pytest.approx(0.219, abs=5e-4)


@every
def test_between_nodes_the_integral_is_linear_and_the_rate_its_slope(name: str) -> None:
    schedule = TABLES[name]
    T = len(schedule.beta_table)
    left, right = nodes(schedule)[:-1], nodes(schedule)[1:]
    low, high = schedule.integral(left), schedule.integral(right)
    for share in (0.25, 0.5, 0.875):
        t = left + share * (right - left)
        torch.testing.assert_close(schedule.integral(t), low + share * (high - low), rtol=1e-12, atol=0.0)
        torch.testing.assert_close(schedule.rate(t), T * (high - low), rtol=1e-9, atol=1e-12)


@every
def test_the_rate_at_a_node_is_that_of_the_interval_that_begins_there(name: str) -> None:
    schedule = TABLES[name]
    T = len(schedule.beta_table)
    rates = -T * torch.log1p(-schedule.beta_table)
    torch.testing.assert_close(schedule.rate(nodes(schedule)[:-1]), rates[1:], rtol=1e-9, atol=1e-12)
    ends = schedule.rate(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, rates[[0, -1]], rtol=1e-9, atol=1e-12)


@every
def test_the_inverse_is_exact(name: str) -> None:
    schedule = TABLES[name]
    t = torch.cat(
        (torch.tensor([1e-6, 1e-4], dtype=torch.float64), nodes(schedule), nodes(schedule) * 0.9973)
    )
    torch.testing.assert_close(schedule.time(schedule.integral(t)), t, rtol=1e-11, atol=0.0)
    tiny = schedule.time(schedule.integral(t[:1]))
    torch.testing.assert_close(tiny, t[:1], rtol=1e-12, atol=0.0)
    strided = schedule.integral(t.reshape(1, -1).expand(2, -1)).t()
    assert schedule.time(strided).shape == strided.shape


def test_the_uniform_grid_visits_every_level_once() -> None:
    sde = VP(schedule=Discrete(steps=300))
    assert sde.t_min == 1.0 / 300
    times = create("grid", "uniform").times(sde, 299, sde.t_max, sde.t_min)
    torch.testing.assert_close(times, nodes(TABLES["300 steps"]).flip(0), rtol=1e-14, atol=0.0)


def test_a_given_table_may_be_a_list_and_speaks_for_itself() -> None:
    schedule = create("schedule", {"name": "discrete", "betas": [0.1, 0.2, 0.3, 0.4]})
    assert schedule.t_min == 0.25
    half = torch.exp(-schedule.integral(torch.tensor(0.5, dtype=torch.float64)))
    assert float(half) == pytest.approx(0.9 * 0.8)


@pytest.mark.parametrize(
    "fields, key",
    [
        ({"betas": [0.1, 1.0]}, r"betas\[1\]"),
        ({"betas": [0.0, 0.1]}, r"betas\[0\]"),
        ({"betas": [0.5]}, "betas"),
        ({"beta_start": 0.0}, "beta_start"),
        ({"beta_end": 1.0}, "beta_end"),
        ({"steps": 1}, "steps"),
        ({"table": "square"}, "table"),
    ],
)
def test_tables_that_are_none_are_refused(fields: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        create("schedule", {"name": "discrete", **fields})
