"""Every Gaussian process against its table in 50-digit arithmetic, and against its own equation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import mpmath as mp
import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from diffkit.compatibility import Selection, check, with_schedule
from diffkit.errors import IncompatibleError
from diffkit.interfaces.schedule import Schedule
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit_standard.schedules.constant import Constant
from diffkit_standard.schedules.cosine import Cosine
from diffkit_standard.schedules.discrete import Discrete
from diffkit_standard.schedules.edm import EDM
from diffkit_standard.schedules.geometric import Geometric
from diffkit_standard.schedules.linear import Linear
from diffkit_standard.schedules.offset_cosine import OffsetCosine
from diffkit_standard.schedules.scaled_linear import ScaledLinear
from diffkit_standard.schedules.sigmoid import Sigmoid
from diffkit_standard.sdes.flow import Flow
from diffkit_standard.sdes.sub_vp import SubVP
from diffkit_standard.sdes.ve import VE
from diffkit_standard.sdes.vp import VP

Function = Callable[[Any], Any]

PRESERVING = (Linear(), Cosine(), OffsetCosine(), ScaledLinear(), Sigmoid(), Constant(), Discrete())
PROCESSES: dict[str, GaussianSDE] = {
    **{f"vp {type(s).__name__}": VP(schedule=s) for s in PRESERVING},
    **{f"sub-vp {type(s).__name__}": SubVP(schedule=s) for s in PRESERVING},
    **{f"ve {type(s).__name__}": VE(schedule=s) for s in (*PRESERVING, Geometric(), EDM())},
    "flow": Flow(),
}
every = pytest.mark.parametrize("name", PROCESSES)
smooth = pytest.mark.parametrize("name", [name for name in PROCESSES if "Discrete" not in name])

EXACT_B: dict[type[Schedule], Function] = {
    Linear: lambda t: mp.mpf(0.1) * t + (20 - mp.mpf(0.1)) * t**2 / 2,
    Cosine: lambda t: (
        2
        * mp.log(
            mp.cos(mp.pi / 2 * mp.mpf(0.008) / (1 + mp.mpf(0.008)))
            / mp.cos(mp.pi / 2 * (t + mp.mpf(0.008)) / (1 + mp.mpf(0.008)))
        )
    ),
    Geometric: lambda t: mp.mpf(0.01) ** 2 * (50 / mp.mpf(0.01)) ** (2 * t),
    EDM: lambda t: (80 * t) ** 2,
}
EXACT_RATES: dict[str, Function] = {
    "vp": lambda b: (mp.exp(-b / 2), mp.sqrt(1 - mp.exp(-b))),
    "sub-vp": lambda b: (mp.exp(-b / 2), 1 - mp.exp(-b)),
    "ve": lambda b: (mp.mpf(1), mp.sqrt(b)),
}


def exact_rates(name: str, t: float) -> tuple[Any, Any, Any]:
    """alpha, sigma and log-SNR at t, from the table."""
    with mp.workdps(50):
        if name == "flow":
            alpha, sigma = 1 - mp.mpf(t), mp.mpf(t)
        else:
            schedule: Schedule = PROCESSES[name].schedule  # type: ignore[attr-defined]
            alpha, sigma = EXACT_RATES[name.split()[0]](EXACT_B[type(schedule)](mp.mpf(t)))
        return alpha, sigma, 2 * mp.log(alpha / sigma)


def inside(sde: GaussianSDE, count: int = 9) -> torch.Tensor:
    """Times strictly within the process's range."""
    share = torch.linspace(0.004, 0.996, count, dtype=torch.float64)
    return sde.t_min + (sde.t_max - sde.t_min) * share


def slope(function: Function, t: torch.Tensor) -> torch.Tensor:
    point = t.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(function(point).sum(), point)
    return gradient


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize(
    "name", [n for n in PROCESSES if n == "flow" or n.split()[1] in ("Linear", "Cosine", "Geometric", "EDM")]
)
def test_rates_are_right_to_the_precision_of_the_dtype(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    sde = PROCESSES[name]
    t = torch.tensor([1e-6, 1e-5, 1e-3, 0.1, 0.4, 0.9, 0.99], dtype=dtype)
    got = torch.stack((sde.alpha(t), sde.sigma(t), sde.log_snr(t)))
    assert got.dtype == dtype
    for place, point in enumerate(t.tolist()):
        for value, exact in zip(got[:, place].tolist(), exact_rates(name, point), strict=True):
            assert value == pytest.approx(float(exact), rel=tolerance, abs=1e-300)


@every
def test_log_snr_is_twice_the_log_of_the_ratio_and_decreases(name: str) -> None:
    sde = PROCESSES[name]
    t = inside(sde, 50)
    ratio = 2.0 * (sde.alpha(t).log() - sde.sigma(t).log())
    torch.testing.assert_close(sde.log_snr(t), ratio, rtol=1e-11, atol=1e-11)
    assert (sde.log_snr(t).diff() < 0).all()


@every
def test_time_of_inverts_log_snr(name: str) -> None:
    sde = PROCESSES[name]
    t = torch.cat((inside(sde, 30), torch.tensor([sde.t_min, sde.t_max], dtype=torch.float64)))
    torch.testing.assert_close(sde.time_of(sde.log_snr(t)), t, rtol=1e-10, atol=1e-13)


@smooth
def test_coefficients_follow_from_the_rates(name: str) -> None:
    """alpha' = f alpha, (sigma^2)' = 2 f sigma^2 + g^2, g^2 = -sigma^2 lambda'."""
    sde = PROCESSES[name]
    t = inside(sde)
    alpha, sigma, f, g = sde.alpha(t), sde.sigma(t), sde.drift_rate(t), sde.diffusion(t)
    close = {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(slope(lambda u: sde.alpha(u) + 0.0 * u, t), f * alpha, **close)
    torch.testing.assert_close(slope(lambda u: sde.sigma(u) ** 2, t), 2 * f * sigma**2 + g**2, **close)
    torch.testing.assert_close(-(sigma**2) * slope(sde.log_snr, t), g**2, **close)
    torch.testing.assert_close(sde.alpha_dot(t), slope(lambda u: sde.alpha(u) + 0.0 * u, t), **close)
    torch.testing.assert_close(sde.sigma_dot(t), slope(sde.sigma, t), **close)


@smooth
def test_solving_the_moment_equations_gives_the_rates(name: str) -> None:
    """m' = f m and v' = 2 f v + g^2, integrated by another library from the least noisy time."""
    sde = PROCESSES[name]
    start, stop = sde.t_min, sde.t_min + 0.9 * (sde.t_max - sde.t_min)

    def moments(time: float, y: np.ndarray) -> list[float]:
        t = torch.tensor(time, dtype=torch.float64)
        f, g = float(sde.drift_rate(t)), float(sde.diffusion(t))
        return [f * y[0], 2.0 * f * y[1] + g**2]

    ends = torch.tensor([start, stop], dtype=torch.float64)
    (alpha_0, alpha_1), (sigma_0, sigma_1) = sde.alpha(ends).tolist(), sde.sigma(ends).tolist()
    solved = solve_ivp(moments, (start, stop), [alpha_0, sigma_0**2], rtol=1e-9, atol=1e-14, method="DOP853")
    assert solved.y[0, -1] == pytest.approx(alpha_1, rel=1e-7)
    assert solved.y[1, -1] == pytest.approx(sigma_1**2, rel=1e-7)


@every
def test_transitions_compose_to_the_marginal(name: str) -> None:
    sde = PROCESSES[name]
    s, t = inside(sde, 12)[:-1], inside(sde, 12)[1:]
    factor, spread = sde.transition(t, s)
    torch.testing.assert_close(factor * sde.alpha(s), sde.alpha(t), rtol=1e-11, atol=0.0)
    variance = factor**2 * sde.sigma(s) ** 2 + spread**2
    torch.testing.assert_close(variance, sde.sigma(t) ** 2, rtol=1e-10, atol=0.0)


@every
def test_times_run_from_a_least_sigma_to_the_end_of_the_schedule(name: str) -> None:
    sde = PROCESSES[name]
    least = float(sde.sigma(torch.tensor(sde.t_min, dtype=torch.float64)))
    assert least >= 1e-3 * (1 - 1e-9)
    if name == "flow":
        assert (sde.t_min, sde.t_max) == (1e-3, 0.999)
        return
    schedule: Schedule = sde.schedule  # type: ignore[attr-defined]
    assert sde.t_max == schedule.t_max
    assert sde.t_min == schedule.t_min or least == pytest.approx(1e-3, rel=1e-9)


def test_drift_and_prior_have_the_shape_of_the_state() -> None:
    flow = Flow()
    x = torch.ones(3, 1, 4, dtype=torch.float64)
    assert flow.drift(x, torch.tensor(0.5, dtype=torch.float64)).eq(-2.0).all()
    per_sample = flow.drift(x, torch.tensor([0.0, 0.5, 0.75], dtype=torch.float64))
    assert per_sample[:, 0, 0].tolist() == pytest.approx([-1.0, -2.0, -4.0])
    noise = Noise(seed=0, index=torch.arange(4000))
    prior = flow.prior((4000, 5), noise, dtype=torch.float64)
    assert float(prior.std()) == pytest.approx(0.999, abs=0.02)
    half = torch.tensor(0.25, dtype=torch.float64)
    assert flow.perturb(x, half, 2 * x).eq(0.75 + 0.5).all()


def test_flow_is_finite_at_its_pole_in_the_form_of_the_velocity() -> None:
    end = torch.ones((), dtype=torch.float64)
    assert float(Flow().alpha_dot(end)) == -1.0
    assert float(Flow().sigma_dot(end)) == 1.0


def test_offset_cosine_under_vp_starts_with_noise() -> None:
    sde = VP(schedule=OffsetCosine())
    assert sde.t_min == 0.0
    assert float(sde.sigma(torch.zeros((), dtype=torch.float64))) == pytest.approx(0.3122, abs=1e-4)


def test_flow_takes_no_schedule() -> None:
    with pytest.raises(IncompatibleError, match="'flow' takes no schedule"):
        with_schedule(Flow(), Linear())


@pytest.mark.parametrize("sde", [VP(), SubVP()])
@pytest.mark.parametrize("schedule", [EDM(), Geometric()])
def test_schedules_without_end_are_for_ve_alone(sde: VP | SubVP, schedule: Schedule) -> None:
    findings = check(Selection.of(attrs.evolve(sde, schedule=schedule)))
    assert [finding.status for finding in findings][:1] == ["refused"]
    assert check(Selection.of(VE(schedule=schedule))) == []


def test_ve_with_a_tame_schedule_is_told_that_its_prior_misses() -> None:
    for schedule in (Linear(), Cosine(), Constant()):
        (finding,) = check(Selection.of(VE(schedule=schedule)))
        assert finding.status == "caveat"
        assert "prior" in finding.reason
