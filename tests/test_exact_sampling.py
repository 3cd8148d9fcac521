"""From denoiser to sample, whole and exact: Gaussian data through `diffkit.sample`, for every process,
schedule and sampler that is installed.

A run of an affine sampler is an affine map of its start and its draws. The map is measured, held sample by
sample against what `diffkit.sample` gives, and then carries the prior's law to the law of the samples without
Monte Carlo. The truth starts from the prior too, not from the marginal it stands in for: a deviation from the
marginal at t is carried to s by the factor

    phi = (a_s / a_t) [(V_s / V_t) (a_t / a_s)^2]^((1 + eta^2) / 2),   V = a^2 v + sigma^2,

with eta = 0 along the probability flow and eta = 1 along the reverse-time SDE, and the last move is D.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import diffkit
from diffkit.compatibility import Selection, check, matrix, with_schedule
from diffkit.errors import ComponentError, IncompatibleError
from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.schedule import Schedule
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.noise import Noise
from diffkit.registry import components, create
from diffkit.structure import settings
from diffkit.testing.exact import GaussianProblem, PointMass
from diffkit.testing.impulses import affine_map

STEPS = 32
PROBLEM = GaussianProblem(mean=[0.4, -0.3], covariance=[[0.25, 0.1], [0.1, 0.16]])
EVERYDAY = ("linear", "cosine", "geometric")
VARIANTS: tuple[dict[str, Any], ...] = (
    {"name": "ddim", "eta": 0.5},
    {"name": "ddim", "eta": 1.0},
    {"name": "dpm-solver++", "order": 1},
    {"name": "dpm-solver++", "order": 3},
    {"name": "dpm-solver++", "variant": "sde"},
    {"name": "exponential-integrator", "degree": 0},
    {"name": "exponential-integrator", "degree": 3},
    {"name": "exponential-integrator", "eta": 0.5},
    {"name": "exponential-integrator", "eta": 1.0},
    {"name": "probability-flow", "method": "euler"},
    {"name": "probability-flow", "method": "rk4"},
    {"name": "probability-flow", "method": "rk45"},
)


def installed(kind: str) -> list[tuple[str, Any]]:
    """The default instance of every component of a kind that can be made."""
    found = []
    for info in components(kind):
        with contextlib.suppress(ComponentError):
            found.append((info.name, create(kind, info.identity)))
    return found


def processes() -> Iterator[tuple[str, str, SDE]]:
    """Every process with every schedule it takes; its own default first."""
    for name, sde in installed("sde"):
        if not isinstance(sde, GaussianSDE):
            continue
        if "schedule" not in settings(type(sde)):
            yield name, "", sde
            continue
        for schedule_name, schedule in installed("schedule"):
            filled = with_schedule(sde, schedule)
            if not refusals(filled):
                yield name, schedule_name, filled


def refusals(*chosen: Any) -> list[Any]:
    known = frozenset({"model.denoise", "model.score"})
    found = check(Selection.of(*chosen, model=known))
    return [finding for finding in found if finding.status == "refused"]


def cells() -> Iterator[Any]:
    """Every allowed cell; those of the less common schedules only when everything is to be proved."""
    samplers = installed("sampler")
    variants = [
        (",".join(str(value) for value in spec.values()), create("sampler", spec)) for spec in VARIANTS
    ]
    for name, schedule, sde in processes():
        everyday = schedule in ("", *EVERYDAY)
        own = not schedule or getattr(sde, "schedule", None) == getattr(create("sde", name), "schedule", None)
        for label, sampler in samplers + (variants if own else []):
            if not refusals(sde, sampler):
                marks = () if everyday else (pytest.mark.prove,)
                identity = "-".join(part for part in (name, schedule, label) if part)
                yield pytest.param(sde, sampler, id=identity, marks=marks)


@pytest.mark.parametrize("sde,sampler", list(cells()))
def test_samples_have_the_exact_moments(sde: GaussianSDE, sampler: Sampler) -> None:
    if sampler.affine:
        assert_exact(sde, sampler)
    elif not sampler.stochastic:
        assert_on_the_exact_path(sde, sampler)
    else:
        assert_within_monte_carlo(sde, sampler)


def assert_exact(sde: GaussianSDE, sampler: Sampler) -> None:
    """What `diffkit.sample` gives is the map; the map's law nears the exact one as fast as declared.

    A multistep method starts cold here, which caps the order at 2.
    """
    coarse, fine = (moment_error(sde, sampler, steps) for steps in (STEPS, 2 * STEPS))
    order = min(sampler.order, 2)
    assert fine < (0.02 if order == 2 else 0.15)
    assert fine < 5e-4 or fine < coarse * 2.0 ** -max(order - 0.4, 0.1), (coarse, fine)


def moment_error(sde: GaussianSDE, sampler: Sampler, steps: int) -> float:
    """The largest error of mean and covariance of samples drawn from the prior, without Monte Carlo."""
    result = diffkit.sample(
        PROBLEM.model(sde),
        sampler=sampler,
        steps=steps,
        grid="log-snr",
        shape=(3, 2),
        dtype=torch.float64,
        seed=2,
    )
    run = affine_map(sampler, sde, PROBLEM, result.times)
    noise = Noise(seed=2, index=torch.arange(3))
    predicted = run.offset + sde.prior((3, 2), noise.stream("prior"), dtype=torch.float64) @ run.start.T
    for (path, draw), factor in zip(run.order, run.draws, strict=True):
        predicted = predicted + noise.stream(*path).normal((3, 2), draw=draw, dtype=torch.float64) @ factor.T
    torch.testing.assert_close(result.x, predicted, rtol=1e-7, atol=1e-7)

    sigma = sde.sigma(torch.tensor(sde.t_max, dtype=torch.float64))
    unit = torch.eye(2, dtype=torch.float64)
    found = run.moments(torch.zeros(2, dtype=torch.float64), sigma**2 * unit)
    end = result.times[-2]
    assert end is not None
    # The noise of a stochastic sampler lets it forget its start: some of it, or all.
    laws = [exact_law(sde, end, share) for share in ((0.0, 1.0) if sampler.stochastic else (1.0,))]
    errors = []
    for got, options in zip(found, zip(*laws, strict=True), strict=True):
        low, high = torch.stack(options).amin(0), torch.stack(options).amax(0)
        errors.append(float(torch.maximum(low - got, got - high).max()))
    return max(errors)


def exact_law(sde: GaussianSDE, end: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of D(x_end), x starting from the prior; `share` of its error is kept."""
    start = torch.tensor(sde.t_max, dtype=torch.float64)
    v, Q = torch.linalg.eigh(PROBLEM.covariance)
    a_t, s_t, a_s, s_s = sde.alpha(start), sde.sigma(start), sde.alpha(end), sde.sigma(end)
    V_t, V_s = a_t**2 * v + s_t**2, a_s**2 * v + s_s**2
    phi = share * (V_s / V_t).sqrt()
    m = PROBLEM.mean @ Q
    deviation = phi * -a_t * m
    variance = V_s + phi**2 * (s_t**2 - V_t)
    gain = a_s * v / V_s
    return Q @ (m + gain * deviation), Q @ torch.diag(gain**2 * variance) @ Q.T


def assert_on_the_exact_path(sde: GaussianSDE, sampler: Sampler) -> None:
    """Adaptive steps: each sample is where the exact flow, and D at the end, takes it."""
    model = PROBLEM.model(sde)
    start = torch.tensor(sde.t_max, dtype=torch.float64)
    x = PROBLEM.draw_at(sde, start, Noise(seed=0, index=torch.arange(16)))
    result = diffkit.sample(model, sampler=sampler, x_init=x)
    end = result.times[-2]
    assert end is not None
    exact = PROBLEM.denoise(sde, PROBLEM.flow(sde, x, start, end), end)
    torch.testing.assert_close(result.x, exact, rtol=0.0, atol=1e-3)


def assert_within_monte_carlo(sde: GaussianSDE, sampler: Sampler) -> None:
    """Steps that depend on the state: 64 independent elements a sample, four standard errors.

    A Langevin correction of length e is itself biased: by e / (2 v) of the variance, 3 % for the default.
    """
    dim, count, mean, variance = 64, 128, 0.3, 0.25
    problem = GaussianProblem(mean=torch.full((dim,), mean), covariance=variance * torch.eye(dim))
    result = diffkit.sample(
        problem.model(sde),
        sampler=sampler,
        steps=2 * STEPS,
        grid="log-snr",
        shape=(count, dim),
        dtype=torch.float64,
    )
    number = dim * count
    start, end = torch.tensor(sde.t_max, dtype=torch.float64), result.times[-2]
    assert end is not None
    a, s = float(sde.alpha(start)), float(sde.sigma(start))
    missed = (variance / (a**2 * variance + s**2)) ** 0.5 * a * mean  # at the most, as along the flow
    assert abs(float(result.x.mean()) - mean) < 4.0 * (variance / number) ** 0.5 + missed + 0.01
    a, s = float(sde.alpha(end)), float(sde.sigma(end))
    denoised = variance * a**2 * variance / (a**2 * variance + s**2)  # of D(x_end)
    assert (
        abs(float(result.x.var()) / denoised - 1.0)
        < 4.0 * (2.0 / number) ** 0.5 + missed**2 / denoised + 0.08
    )


def test_a_point_mass_is_met_exactly_by_every_sampler() -> None:
    """The last move is one denoiser call, so the samples are the point, whatever went before."""
    point = torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64)
    for (_, _, sde), (_, sampler) in itertools.product(processes(), installed("sampler")):
        if not refusals(sde, sampler):
            model = PointMass(x_0=point).model(sde)
            result = diffkit.sample(model, sampler=sampler, steps=2, shape=(2, 3), dtype=torch.float64)
            assert torch.equal(result.x, point.expand(2, 3))


class Unasked:
    """A model that must not be asked."""

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        raise AssertionError("the model was asked before the combination was refused")


def refused_cells() -> list[Any]:
    table = [row for row in matrix("sde", "sampler") if row["status"] == "refused" and "[" not in str(row)]
    return [pytest.param(row, id=f"{row['sde']}-{row['sampler']}") for row in table]


@pytest.mark.parametrize("row", refused_cells())
def test_a_refused_cell_is_refused_with_reason_and_remedy(row: dict[str, str]) -> None:
    assert row["reason"]
    assert row["remedy"]
    with pytest.raises(IncompatibleError) as caught:
        diffkit.sample(Unasked(), sde=row["sde"], sampler=row["sampler"], shape=(1, 2))
    assert row["reason"] in str(caught.value)
    assert row["remedy"] in str(caught.value)


def test_every_built_in_can_be_made() -> None:
    for kind in ("schedule", "sde", "sampler"):
        own = [info.name for info in components(kind) if info.distribution == "diffkit"]
        assert set(own) <= {name for name, _ in installed(kind)}


def test_ve_with_the_exponential_integrator_is_among_the_refused() -> None:
    assert ("ve", "exponential-integrator") in {
        (row.values[0]["sde"], row.values[0]["sampler"]) for row in refused_cells()
    }


def test_every_cell_of_the_matrix_is_run_or_refused() -> None:
    run = {(cell.id.split("-")[0], type(cell.values[1])) for cell in cells()}
    for row in matrix("sde", "sampler"):
        if "[" in str(row) or "*" in row.values() or not isinstance(create("sde", row["sde"]), GaussianSDE):
            continue
        judged = (row["sde"].split("-")[0], type(create("sampler", row["sampler"]))) in run
        assert judged == (row["status"] != "refused"), row


def test_a_schedule_that_does_not_fit_is_refused() -> None:
    refused = [row for row in matrix("sde", "schedule") if row["status"] == "refused"]
    assert {("vp", "geometric"), ("sub-vp", "geometric")} <= {
        (row["sde"], row["schedule"]) for row in refused
    }
    for row in refused:
        assert row["reason"]
        schedule: Schedule = create("schedule", row["schedule"])
        with pytest.raises(IncompatibleError):
            diffkit.sample(Unasked(), sde=with_schedule(create("sde", row["sde"]), schedule), shape=(1, 2))
