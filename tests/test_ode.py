"""Runge-Kutta against solutions in closed form: orders, tolerances, both directions, any state."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from diffkit import ode
from diffkit.errors import RunError
from diffkit.ode import State


def clock(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def logistic(t: Tensor, y: State, rows: Tensor | None = None) -> State:
    """y' = cos(t) y: y = y_0 exp(sin t), each sample its own."""
    rate = torch.cos(t).to(y[0].dtype)
    return (y[0] * (rate if rate.ndim == 0 else rate[:, None]),)


def exact(y: Tensor, t: float, s: float) -> Tensor:
    return y * math.exp(math.sin(s) - math.sin(t))


START = torch.tensor([[0.5, -1.0], [2.0, 0.1]], dtype=torch.float64)


@pytest.mark.parametrize("method,order", [("euler", 1), ("heun", 2), ("rk4", 4)])
@pytest.mark.parametrize("span", [(0.2, 1.7), (1.7, 0.2)])
def test_fixed_steps_have_their_order(method: str, order: int, span: tuple[float, float]) -> None:
    t, s = span
    errors = []
    for steps in (40, 80, 160):
        times = torch.linspace(t, s, steps + 1, dtype=torch.float64)
        y: State = (START,)
        for here, there in itertools.pairwise(times):
            y = ode.fixed(logistic, y, here, there, method)
        errors.append(float((y[0] - exact(START, t, s)).abs().max()))
    assert ode.METHODS[method][0] == order
    assert math.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.1)


def test_a_stage_never_lies_beyond_the_end() -> None:
    asked: list[float] = []

    def f(t: Tensor, y: State) -> State:
        asked.append(float(t))
        return y

    s = 0.1 + 0.2  # not a number that h could be added up to
    for method in ode.METHODS:
        ode.fixed(f, (START,), clock(1.0), clock(s), method)
    assert min(asked) == s


@pytest.mark.parametrize("span", [(0.2, 3.0), (3.0, 0.2)])
def test_the_error_follows_the_tolerance(span: tuple[float, float]) -> None:
    t, s = span
    errors = []
    for tolerance in (1e-4, 1e-6, 1e-8, 1e-10):
        (y,) = ode.adaptive(logistic, (START,), clock(t), clock(s), rtol=tolerance, atol=tolerance)
        errors.append(float((y - exact(START, t, s)).abs().max()))
    assert all(
        error < 20.0 * tolerance for error, tolerance in zip(errors, (1e-4, 1e-6, 1e-8, 1e-10), strict=True)
    )
    assert errors[-1] < 1e-4 * errors[0]


def test_an_independent_solver_agrees_on_a_nonlinear_system() -> None:
    def scipy_side(t: float, y: np.ndarray) -> np.ndarray:
        return np.array([y[1], (1.0 - y[0] ** 2) * y[1] - y[0] + 0.1 * t])

    def ours(t: Tensor, y: State, rows: Tensor) -> State:
        a, b = y[0][:, 0], y[0][:, 1]
        return (torch.stack((b, (1.0 - a**2) * b - a + 0.1 * t), dim=1),)

    (y,) = ode.adaptive(ours, (START,), clock(0.0), clock(4.0), rtol=1e-10, atol=1e-12)
    for row in range(2):
        reference = solve_ivp(scipy_side, (0.0, 4.0), START[row].numpy(), rtol=1e-11, atol=1e-13).y[:, -1]
        np.testing.assert_allclose(y[row].numpy(), reference, rtol=1e-8, atol=1e-9)


def test_one_stiff_sample_leaves_the_others_as_they_are() -> None:
    rates = torch.tensor([1.0, 2.0, 3000.0], dtype=torch.float64)
    calls = torch.zeros(3, dtype=torch.int64)

    def f(t: Tensor, y: State, rows: Tensor) -> State:
        calls[rows] += 1
        return (-rates[rows][:, None] * (y[0] - torch.cos(t)[:, None]),)

    y = torch.ones(3, 2, dtype=torch.float64)
    (together,) = ode.adaptive(f, (y,), clock(0.0), clock(1.0), rtol=1e-6, atol=1e-6)
    shared = calls.clone()
    for row in (0, 1):
        alone = torch.tensor([row])

        def f_alone(t: Tensor, state: State, rows: Tensor, alone: Tensor = alone) -> State:
            return f(t, state, alone[rows])

        (single,) = ode.adaptive(f_alone, (y[:1],), clock(0.0), clock(1.0), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(single[0], together[row], rtol=1e-12, atol=1e-12)
    assert int(shared[2]) > 5 * int(shared[0])


def test_a_state_may_be_several_tensors() -> None:
    """A position and its logarithmic volume, as a likelihood needs them: d log v = cos(t) dt."""

    def f(t: Tensor, y: State, rows: Tensor) -> State:
        return y[0] * torch.cos(t)[:, None], torch.cos(t)

    x, volume = ode.adaptive(
        f, (START, torch.zeros(2, dtype=torch.float64)), clock(0.0), clock(2.0), rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(x, exact(START, 0.0, 2.0), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(
        volume, torch.full((2,), math.sin(2.0), dtype=torch.float64), rtol=1e-7, atol=1e-7
    )


def test_inputs_are_not_written_to_and_dtype_is_kept() -> None:
    for dtype in (torch.float32, torch.float64):
        y = START.to(dtype)
        kept = y.clone()
        (moved,) = ode.adaptive(logistic, (y,), clock(0.0), clock(1.0), rtol=1e-5, atol=1e-5)
        (stepped,) = ode.fixed(logistic, (y,), clock(0.0), clock(1.0), "rk4")
        assert moved.dtype == stepped.dtype == dtype
        assert torch.equal(y, kept)


@pytest.mark.filterwarnings("error")
def test_no_motion_at_all_is_no_trouble() -> None:
    (y,) = ode.adaptive(
        lambda t, y, rows: (0.0 * y[0],), (0.0 * START,), clock(1.0), clock(0.0), rtol=1e-5, atol=1e-5
    )
    assert torch.equal(y, 0.0 * START)


def test_nan_ends_in_an_error_that_says_what_to_do() -> None:
    with pytest.raises(RunError, match="NaN"):
        ode.adaptive(
            lambda t, y, rows: (y[0] * torch.nan,), (START,), clock(0.0), clock(1.0), rtol=1e-5, atol=1e-5
        )
