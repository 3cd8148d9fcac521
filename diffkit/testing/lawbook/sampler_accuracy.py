"""How exact a sampler is, held against solutions known in closed form."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.sampling import sample
from diffkit.testing.exact import ExactProblem, GaussianProblem
from diffkit.testing.impulses import propagate_moments
from diffkit.testing.lawbook.base import NotApplicable, ensure
from diffkit.testing.lawbook.partners import exact_model, partners_for, processes_for
from diffkit.testing.order import (
    FLOOR,
    OrderMeasurement,
    irregular_times,
    measure_order,
    measure_weak_order,
    order_interval,
    standard_mixture,
)

__all__ = [
    "moments_from_the_start",
    "order",
    "point_mass",
    "samples_the_law",
    "there_and_back",
    "tolerance",
    "weak_order",
]


_FINER = (64, 128, 256, 512)


def order(sampler: Sampler) -> None:
    """A deterministic fixed-step sampler of order p: |x_h - x| = C h^p, p measured within 0.25 against the
    exact quantile map of a mixture, a multistep method's history taken from the exact path."""
    if sampler.stochastic:
        raise NotApplicable("it is stochastic; see weak-order")
    if sampler.adaptive:
        raise NotApplicable("it is adaptive; see tolerance")
    for name, sde in processes_for(sampler):
        found = measure_order(sampler, sde)
        if abs(found.order - sampler.order) > 0.25:  # perhaps the steps are still too long to tell
            found = measure_order(sampler, sde, steps=_FINER)
        ensure(abs(found.order - sampler.order) <= 0.25, _said(found, sampler.order, name))


def weak_order(sampler: Sampler) -> None:
    """An affine stochastic sampler of weak order p: mean and covariance of Gaussian data, propagated exactly
    and not by Monte Carlo, err by at most C h^p, p measured to be at least the declared one less 0.25."""
    if not sampler.stochastic:
        raise NotApplicable("it is deterministic; see order")
    if not sampler.affine:
        raise NotApplicable("its coefficients depend on the state, so that moments do not propagate exactly")
    for name, sde in processes_for(sampler):
        found = measure_weak_order(sampler, sde)
        if found.order < sampler.order - 0.25:
            found = measure_weak_order(sampler, sde, steps=_FINER)
        ensure(found.order >= sampler.order - 0.25, _said(found, sampler.order, name))


def moments_from_the_start(sampler: Sampler) -> None:
    """An affine sampler of order 1 or more, on samples of shape (2, 2, 2): in each third of the log-SNRs from
    t_max to where orders are measured, four times the steps at least halve the error of mean and covariance
    of Gaussian data. Noise shared by elements, or left out near t_max, is an error that stays."""
    if not sampler.affine:
        raise NotApplicable("its coefficients depend on the state, so that moments do not propagate exactly")
    if sampler.order < 1:
        raise NotApplicable("it declares no order, and so an error that may stay")
    place = torch.arange(8, dtype=torch.float64)
    problem = GaussianProblem(
        mean=torch.linspace(-0.7, 0.7, 8), covariance=0.1 * 0.5 ** (place[:, None] - place).abs()
    )
    for name, sde in processes_for(sampler):
        start = torch.tensor(sde.t_max, dtype=torch.float64)
        rounding = FLOOR * max(1.0, float(sde.sigma(start)) ** 2)
        levels = torch.linspace(float(sde.log_snr(start)), order_interval(sde)[0], 4, dtype=torch.float64)
        for low, high in itertools.pairwise(levels.tolist()):
            errors: list[float] = []
            for steps in (8, 32, 128, 512):  # more, where the steps are still too long to tell
                times = irregular_times(sde, steps, low, high)
                errors.append(_moment_error(sampler, sde, problem, times, (2, 2, 2)))
                if len(errors) > 1 and errors[-1] <= max(0.5 * errors[-2], rounding):
                    break
            else:
                found = ", ".join(f"{error:.2e}" for error in errors)
                ensure(False, f"on {name}, log-SNR {low:.3g} to {high:.3g}, 8, 32, ... steps err by {found}")


def point_mass(sampler: Sampler) -> None:
    """If the step is exact for a point mass, x_s = alpha_s x_0 + (sigma_s / sigma_t) (x_t - alpha_t x_0) or a
    law of mean alpha_s x_0 and deviation sigma_s, then so is a run of any steps, its history included."""
    if not sampler.affine:
        raise NotApplicable("its coefficients depend on the state")
    problem = GaussianProblem(mean=[0.6], covariance=[[0.0]])
    exact_somewhere = False
    for name, sde in processes_for(sampler):
        low, high = order_interval(sde)
        one = sde.time_of(torch.tensor([low, high], dtype=torch.float64))
        if _moment_error(sampler, sde, problem, one) > 1e-9:
            continue
        exact_somewhere = True
        error = _moment_error(sampler, sde, problem, irregular_times(sde, 7, low, high))
        ensure(error <= 1e-9, f"on {name}, one step is exact and seven err by {error:.3g}")
    if not exact_somewhere:
        raise NotApplicable("its step is not exact for a point mass")


def there_and_back(sampler: Sampler) -> None:
    """A deterministic sampler also steps from s to t > s: there and back gives x again, up to its error."""
    if sampler.stochastic:
        raise NotApplicable("it is stochastic")
    name, sde = processes_for(sampler)[0]
    low, high = order_interval(sde)
    steps = 2 if sampler.adaptive else 128
    down = irregular_times(sde, steps, low, high)
    noise = Noise(seed=1, index=torch.arange(16))
    model = standard_mixture()
    x = model.draw_at(sde, down[0], noise)
    end = _walk(sampler, sde, model, x, down, noise)
    error = float((_walk(sampler, sde, model, end, down.flip(0), noise) - x).abs().max())
    ensure(error < 0.1 * float(x.std()), f"on {name}, {steps} steps there and back miss x by {error:.3g}")


def tolerance(sampler: Sampler) -> None:
    """An adaptive sampler's error against the exact quantile map is small, and no sample disturbs another."""
    if not sampler.adaptive:
        raise NotApplicable("its steps are fixed")
    if sampler.stochastic:
        raise NotApplicable("it is stochastic, and has no exact path to be held against")
    problem = standard_mixture()
    for name, sde in processes_for(sampler):
        low, high = order_interval(sde)
        times = sde.time_of(torch.tensor([low, high], dtype=torch.float64))
        noise = Noise(seed=0, index=torch.arange(24))
        x = problem.draw_at(sde, times[0], noise)
        error = float(
            (_walk(sampler, sde, problem, x, times, noise) - problem.flow(sde, x, *times)).abs().max()
        )
        ensure(error < 1e-2, f"on {name} it misses the exact path by {error:.3g}")
        alone = _walk(sampler, sde, problem, x[5:6], times, noise.take(torch.tensor([5])))
        with_wild = torch.cat((x[5:6], 1e3 * torch.ones(1, 1, dtype=torch.float64)))
        both = _walk(sampler, sde, problem, with_wild, times, noise.take(torch.tensor([5, 6])))
        gap = float((alone - both[:1]).abs().max())
        ensure(gap < 1e-9, f"on {name} a far sample beside it changes a sample by {gap:.3g}")


def samples_the_law(sampler: Sampler) -> None:
    """A sampler whose steps depend on the state, or that stays at one law: from the prior on, at its default
    number of steps, samples (2, 4, 4) of a Gaussian of deviation 0.5 have its mean and deviation, within a
    fifth."""
    held = sampler.affine or (sampler.adaptive and not sampler.stochastic)
    for name, sde in partners_for(sampler):
        if held and isinstance(sde, GaussianSDE):
            raise NotApplicable("it is held to exact moments or paths: see order, weak-order, tolerance")
        if not (sampler.stochastic or isinstance(sde, GaussianSDE)):
            raise NotApplicable("without noise it comes to rest, where the law stays the same")
        problem = GaussianProblem(mean=torch.full((32,), 0.3), covariance=0.25 * torch.eye(32))
        result = sample(
            exact_model(problem, sde), sampler=sampler, shape=(64, 2, 4, 4), dtype=torch.float64, seed=4
        )
        mean, deviation = float(result.x.mean()), float(result.x.std())
        ensure(
            abs(mean - 0.3) < 0.1 and abs(deviation - 0.5) < 0.1,
            f"on {name}, mean and deviation are {mean:.4g} and {deviation:.4g}, not 0.3 and 0.5",
        )


def _said(found: OrderMeasurement, declared: int, process: str) -> str:
    errors = ", ".join(f"{n}: {e:.2e}" for n, e in zip(found.steps, found.errors, strict=True))
    return f"on {process} it declares {declared} and measures {found.order:.3f} (steps and errors {errors})"


def _moment_error(
    sampler: Sampler,
    sde: GaussianSDE,
    problem: ExactProblem,
    times: Tensor,
    shape: tuple[int, ...] | None = None,
) -> float:
    """How far mean and covariance at the end are from the exact ones, at the worst places."""
    mean, covariance = propagate_moments(sampler, sde, problem, times.unbind(), shape=shape)
    true_mean, true_covariance = problem.moments(sde, times[-1])
    return float((mean - true_mean).abs().max() + (covariance - true_covariance).abs().max())


def _walk(
    sampler: Sampler, sde: GaussianSDE, problem: ExactProblem, x: Tensor, times: Tensor, noise: Noise
) -> Tensor:
    given = Problem.build(problem.model(sde), sde, times.unbind(), noise.index, x)
    carry = None
    for number, (t, s) in enumerate(itertools.pairwise(times.unbind())):
        x, carry = sampler.step(given, x, t, s, carry, noise.stream("sampler", number))
    return x
