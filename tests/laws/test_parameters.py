"""The laws hold for whatever parameters a person may sensibly choose, and not for the defaults alone."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffkit.errors import InputError
from diffkit.registry import create
from diffkit.testing import NotApplicable, laws


def between(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


def mapping(name: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"name": st.just(name), **fields})


RATES = {"beta_min": between(0.01, 1.0), "beta_max": between(1.5, 30.0)}
PRESERVING = [
    mapping("linear", **RATES),
    mapping("scaled-linear", **RATES),
    mapping("sigmoid", **RATES),
    mapping("constant", beta=between(0.5, 30.0)),
    mapping("cosine", s=between(0.0, 0.1)),
    mapping("offset-cosine", signal_max=between(0.8, 0.999), signal_min=between(0.005, 0.2)),
    mapping(
        "discrete", table=st.sampled_from(["linear", "cosine", "scaled-linear"]), steps=st.integers(20, 1500)
    ),
]
EXPLODING = [
    mapping("geometric", sigma_min=between(0.002, 0.1), sigma_max=between(5.0, 1000.0)),
    mapping("edm", sigma_min=between(0.001, 0.01), sigma_max=between(5.0, 200.0)),
]
SCHEDULES = st.one_of(*PRESERVING, *EXPLODING)
PROCESSES = st.one_of(
    mapping("vp", schedule=st.one_of(*PRESERVING)),
    mapping("sub-vp", schedule=st.one_of(*PRESERVING)),
    mapping("ve", schedule=st.one_of(*EXPLODING)),
)
GRIDS = st.one_of(mapping("karras", rho=between(0.5, 12.0)), mapping("noise-share", rho=between(0.5, 6.0)))
OPERATORS = st.one_of(
    mapping("blur", width=between(0.2, 4.0)),
    mapping("super-resolution", factor=st.integers(1, 8)),
    mapping("in-painting", mask=between(0.05, 0.95).map("random:{:.2f}".format)),
)


def hold(kind: str, spec: dict[str, Any]) -> None:
    component = create(kind, spec)
    for law in laws(kind):
        with contextlib.suppress(NotApplicable):
            law(component)


@settings(max_examples=50, derandomize=True, deadline=None)
@given(SCHEDULES)
def test_schedules(spec: dict[str, Any]) -> None:
    hold("schedule", spec)


@settings(max_examples=30, derandomize=True, deadline=None)
@given(PROCESSES)
def test_processes(spec: dict[str, Any]) -> None:
    hold("sde", spec)


@settings(max_examples=15, derandomize=True, deadline=None)
@given(GRIDS)
def test_grids(spec: dict[str, Any]) -> None:
    hold("grid", spec)


@settings(max_examples=20, derandomize=True, deadline=None)
@given(OPERATORS)
def test_operators(spec: dict[str, Any]) -> None:
    hold("operator", spec)


@pytest.mark.parametrize("spec", [{"name": "ddim"}, {"name": "exponential-integrator"}], ids=str)
@settings(max_examples=3, derandomize=True, deadline=None)
@given(eta=between(0.05, 1.0))
def test_samplers(spec: dict[str, Any], eta: float) -> None:
    hold("sampler", {**spec, "eta": eta})


def test_what_is_not_sensible_is_refused() -> None:
    with pytest.raises(InputError):
        create("schedule", {"name": "geometric", "sigma_min": 2.0, "sigma_max": 1.0})
