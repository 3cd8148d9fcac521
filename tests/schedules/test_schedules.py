"""Every continuous schedule against its definition in 50-digit arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import mpmath as mp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffkit.errors import ConfigError
from diffkit.interfaces.schedule import Schedule
from diffkit.registry import create
from diffkit_standard.schedules.constant import Constant
from diffkit_standard.schedules.cosine import Cosine
from diffkit_standard.schedules.edm import EDM
from diffkit_standard.schedules.geometric import Geometric
from diffkit_standard.schedules.linear import Linear
from diffkit_standard.schedules.offset_cosine import OffsetCosine
from diffkit_standard.schedules.scaled_linear import ScaledLinear
from diffkit_standard.schedules.sigmoid import Sigmoid

Function = Callable[[Any], Any]


@attrs.frozen
class Case:
    """A schedule beside its definition: beta(t), or B(t), whichever the source gives."""

    schedule: Schedule
    rate: Function | None = None
    integral: Function | None = None

    def exact_integral(self, t: float) -> Any:
        with mp.workdps(50):
            if self.integral is not None:
                return self.integral(mp.mpf(t))
            assert self.rate is not None
            return mp.quad(self.rate, [0, mp.mpf(t)])

    def exact_rate(self, t: float) -> Any:
        with mp.workdps(50):
            if self.rate is not None:
                return self.rate(mp.mpf(t))
            assert self.integral is not None
            return mp.diff(self.integral, mp.mpf(t))


def cosine(s: float) -> Function:
    def angle(t: Any) -> Any:
        return mp.pi / 2 * (t + mp.mpf(s)) / (1 + mp.mpf(s))

    return lambda t: -mp.log(mp.cos(angle(t)) ** 2 / mp.cos(angle(mp.mpf(0))) ** 2)


def offset_cosine(high: float, low: float) -> Function:
    return lambda t: -2 * mp.log(mp.cos((1 - t) * mp.acos(mp.mpf(high)) + t * mp.acos(mp.mpf(low))))


def ramp(low: float, high: float) -> Function:
    return lambda t: mp.mpf(low) + t * (mp.mpf(high) - mp.mpf(low))


def scaled(low: float, high: float) -> Function:
    return lambda t: ((1 - t) * mp.sqrt(mp.mpf(low)) + t * mp.sqrt(mp.mpf(high))) ** 2


def sigmoid(low: float, high: float) -> Function:
    return lambda t: mp.mpf(low) + (mp.mpf(high) - mp.mpf(low)) / (1 + mp.exp(6 - 12 * t))


CASES = {
    "linear": Case(Linear(), rate=ramp(0.1, 20.0)),
    "linear falling": Case(Linear(beta_min=8.0, beta_max=2.0), rate=ramp(8.0, 2.0)),
    "cosine": Case(Cosine(), integral=cosine(0.008)),
    "cosine without offset": Case(Cosine(s=0.0), integral=cosine(0.0)),
    "offset-cosine": Case(OffsetCosine(), integral=offset_cosine(0.95, 0.02)),
    "offset-cosine nearly whole": Case(
        OffsetCosine(signal_max=0.999999, signal_min=1e-3), integral=offset_cosine(0.999999, 1e-3)
    ),
    "scaled-linear": Case(ScaledLinear(), rate=scaled(0.85, 12.0)),
    "scaled-linear flat": Case(ScaledLinear(beta_min=3.0, beta_max=3.0), rate=scaled(3.0, 3.0)),
    "scaled-linear falling": Case(ScaledLinear(beta_min=12.0, beta_max=0.5), rate=scaled(12.0, 0.5)),
    "sigmoid": Case(Sigmoid(), rate=sigmoid(0.1, 20.0)),
    "sigmoid from nearly nothing": Case(Sigmoid(beta_min=1e-5), rate=sigmoid(1e-5, 20.0)),
    "sigmoid falling": Case(Sigmoid(beta_min=9.0, beta_max=1.0), rate=sigmoid(9.0, 1.0)),
    "constant": Case(Constant(beta=7.0), rate=lambda t: mp.mpf(7)),
    "geometric": Case(Geometric(), integral=lambda t: (mp.mpf(0.01) * (50 / mp.mpf(0.01)) ** t) ** 2),
    "edm": Case(EDM(), integral=lambda t: (80 * t) ** 2),
}
TIMES = (1e-6, 1.7e-6, 2.9e-6, 3e-5, 1e-3, 0.02, 0.2, 0.5, 0.77, 0.95)
from_zero = pytest.mark.parametrize(
    "name", [name for name in CASES if not name.startswith(("geometric", "offset-cosine"))]
)
from_above_zero = pytest.mark.parametrize(
    "name", [name for name in CASES if name.startswith(("geometric", "offset-cosine"))]
)
every = pytest.mark.parametrize("name", CASES)


def times_of(schedule: Schedule) -> tuple[float, ...]:
    return (*TIMES, schedule.t_max)


def relative_error(got: torch.Tensor, exact: list[Any]) -> float:
    with mp.workdps(50):
        return max(
            float(abs(mp.mpf(g) - e) / abs(e)) for g, e in zip(got.double().tolist(), exact, strict=True)
        )


@every
def test_integral_and_rate_are_the_definition_to_twelve_digits(name: str) -> None:
    case = CASES[name]
    points = times_of(case.schedule)
    t = torch.tensor(points, dtype=torch.float64)
    assert relative_error(case.schedule.integral(t), [case.exact_integral(p) for p in points]) < 1e-12
    assert relative_error(case.schedule.rate(t), [case.exact_rate(p) for p in points]) < 1e-12


@every
def test_float32_loses_no_more_than_its_rounding(name: str) -> None:
    case = CASES[name]
    t = torch.tensor([p for p in times_of(case.schedule) if p < case.schedule.t_max], dtype=torch.float32)
    B = case.schedule.integral(t)
    assert B.dtype == torch.float32
    assert relative_error(B, [case.exact_integral(p) for p in t.tolist()]) < 1.2e-7


@every
def test_rate_is_the_derivative_of_the_integral(name: str) -> None:
    schedule = CASES[name].schedule
    t = torch.tensor(times_of(schedule)[:-1], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(schedule.integral(t).sum(), t)
    torch.testing.assert_close(schedule.rate(t.detach()), slope, rtol=1e-10, atol=0.0)


@from_zero
def test_the_inverse_is_exact_down_to_a_millionth(name: str) -> None:
    schedule = CASES[name].schedule
    points = (*TIMES, 0.999 * schedule.t_max)
    with mp.workdps(50):
        B = torch.tensor([float(CASES[name].exact_integral(p)) for p in points], dtype=torch.float64)
    assert relative_error(schedule.time(B), [mp.mpf(p) for p in points]) < 1e-12
    assert float(schedule.time(torch.zeros((), dtype=torch.float64))) == pytest.approx(0.0, abs=1e-15)


@from_above_zero
def test_the_inverse_gives_back_the_integral_where_noise_is_there_at_once(name: str) -> None:
    schedule = CASES[name].schedule
    t = torch.tensor(times_of(schedule), dtype=torch.float64)
    B = schedule.integral(t)
    torch.testing.assert_close(schedule.integral(schedule.time(B)), B, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(schedule.time(B), t, rtol=0.0, atol=1e-12)
    assert schedule.t_min == 0.0


@every
def test_any_shape_and_dtype_comes_back(name: str) -> None:
    schedule = CASES[name].schedule
    for shape in ((), (3,), (2, 3)):
        for dtype in (torch.float32, torch.float64):
            t = torch.full(shape, 0.3, dtype=dtype)
            for value in (schedule.rate(t), schedule.integral(t), schedule.time(schedule.integral(t))):
                assert value.shape == shape
                assert value.dtype == dtype
    assert schedule.integral(0.3).dtype == torch.get_default_dtype()  # type: ignore[arg-type]


def test_ends_are_the_published_ones() -> None:
    def at(schedule: Schedule, t: float) -> float:
        return float(schedule.integral(torch.tensor(t, dtype=torch.float64)))

    assert at(Linear(), 1.0) == pytest.approx(10.05)
    assert at(Cosine(), Cosine().t_max) == pytest.approx(9.555, abs=1e-3)
    assert math.exp(-0.5 * at(OffsetCosine(), 0.0)) == pytest.approx(0.95)
    assert math.exp(-0.5 * at(OffsetCosine(), 1.0)) == pytest.approx(0.02)
    assert at(OffsetCosine(), 0.0) == pytest.approx(0.1026, abs=1e-4)
    assert at(ScaledLinear(), 1.0) == pytest.approx((12.0**1.5 - 0.85**1.5) / (3 * (12.0**0.5 - 0.85**0.5)))
    assert at(EDM(), EDM().t_min) == pytest.approx(0.002**2)
    assert EDM().t_min == pytest.approx(0.002 / 80)
    assert {Constant().t_min, ScaledLinear().t_min, Sigmoid().t_min, Linear().t_min} == {1e-3}
    assert Cosine().t_max == 0.9946
    assert {s.t_max for s in (Constant(), ScaledLinear(), Sigmoid(), OffsetCosine(), EDM())} == {1.0}


def test_which_schedules_may_be_a_signal_rate() -> None:
    preserving = {name for name, case in CASES.items() if "schedule.preserving" in case.schedule.provides}
    assert preserving == set(CASES) - {"geometric", "edm"}


POSITIVE = st.floats(1e-3, 40.0)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(low=POSITIVE, high=POSITIVE, t=st.floats(1e-6, 1.0))
@pytest.mark.parametrize("made", [Linear, ScaledLinear, Sigmoid])
def test_any_two_rates_make_an_increasing_integral_with_an_inverse(
    made: type[Linear | ScaledLinear | Sigmoid], low: float, high: float, t: float
) -> None:
    schedule = made(beta_min=low, beta_max=high)
    time = torch.tensor([0.5 * t, t], dtype=torch.float64)
    B = schedule.integral(time)
    assert B[0] < B[1]
    # The inverse is as sharp as the rate lets it: an error e in B is one of e / beta in t.
    blur = 4e-16 * B / schedule.rate(time) + 1e-19
    assert (schedule.time(B) - time).abs().le(1e-13 * time + 50 * blur).all()


@pytest.mark.parametrize(
    "name, fields, key",
    [
        ("scaled-linear", {"beta_min": 0.0}, "beta_min"),
        ("sigmoid", {"beta_max": -1.0}, "beta_max"),
        ("constant", {"beta": 0.0}, "beta"),
        ("edm", {"sigma_min": 90.0}, "sigma_max"),
        ("offset-cosine", {"signal_max": 1.0}, "signal_max"),
        ("offset-cosine", {"signal_max": 0.1, "signal_min": 0.2}, "signal_min"),
    ],
)
def test_settings_without_a_meaning_are_refused(name: str, fields: dict[str, float], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"schedule\.{key}"):
        create("schedule", {"name": name, **fields})
