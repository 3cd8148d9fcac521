"""The laws of a process: marginals, transitions and coefficients belong to one another."""

from __future__ import annotations

import torch
from torch import Tensor

from diffkit.compatibility import PRIOR_TOLERANCE, Selection, check
from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.noise import Noise
from diffkit.tensors import expand
from diffkit.testing.exact import MixtureProblem
from diffkit.testing.lawbook.base import NotApplicable, book_of, ensure, ensure_close
from diffkit.testing.lawbook.others import hold_for_others
from diffkit.testing.lawbook.slopes import ensure_slope, times_between

__all__ = ["LAWS"]


def _gaussian(sde: SDE) -> GaussianSDE:
    if not isinstance(sde, GaussianSDE):
        raise NotApplicable("its marginals are not Gaussian: it has no alpha and sigma")
    return sde


def _times(sde: SDE) -> Tensor:
    return times_between(sde.t_min, sde.t_max)


def range_of_times(sde: SDE) -> None:
    """0 <= t_min < t_max <= 1, and sigma(t_min) > 0."""
    ensure(0.0 <= sde.t_min < sde.t_max <= 1.0, f"t_min is {sde.t_min} and t_max is {sde.t_max}")
    if isinstance(sde, GaussianSDE):
        least = float(sde.sigma(torch.tensor(sde.t_min, dtype=torch.float64)))
        ensure(least > 0.0, f"sigma(t_min) is {least}")


def positive_rates(sde: SDE) -> None:
    """alpha > 0 and sigma > 0, finite, sigma/alpha increasing; also where t is 1e-6."""
    process = _gaussian(sde)
    low = min(1e-6, process.t_min) if process.t_min > 0.0 else 0.0
    t = torch.cat((torch.tensor([low], dtype=torch.float64), _times(process)))
    alpha, sigma = process.alpha(t), process.sigma(t)
    for what, value in (("alpha", alpha), ("sigma", sigma)):
        right = value.isfinite() & (value > 0.0)
        ensure(right.all(), f"{what} is {value[~right][:1].tolist()} at t = {t[~right][:1].tolist()}")
    ratio = sigma / alpha
    falls = (ratio.diff() <= 0.0) & (t.diff() > 0.0)
    ensure(~falls.any(), f"sigma/alpha does not grow after t = {t[:-1][falls][:1].tolist()}")


def log_snr(sde: SDE) -> None:
    """lambda(t) = 2 log(alpha / sigma)."""
    process = _gaussian(sde)
    t = _times(process)
    expected = 2.0 * torch.log(process.alpha(t) / process.sigma(t))
    ensure_close(process.log_snr(t), expected, 1e-9 * (1.0 + expected.abs()), "lambda", t)


def time_inverts(sde: SDE) -> None:
    """time_of(lambda(t)) = t within 1e-8, and lambda comes back within 1e-8."""
    process = _gaussian(sde)
    t = _times(process)
    value = process.log_snr(t)
    back = process.time_of(value)
    ensure_close(back, t, 1e-8, "time_of(lambda(t))", t)
    inside = back.clamp(process.t_min, process.t_max)
    ensure_close(process.log_snr(inside), value, 1e-8 * (1.0 + value.abs()), "lambda(time_of(lambda))", t)


def moment_equations(sde: SDE) -> None:
    """alpha' = f alpha, and (sigma^2)' = 2 f sigma^2 + g^2."""
    process = _gaussian(sde)
    t = _times(process)
    f, g = process.drift_rate(t), process.diffusion(t)
    ensure_slope(process.alpha, f * process.alpha(t), t, process.t_max, "f alpha")
    loss, gain = 2.0 * f * process.sigma(t) ** 2, g**2
    ensure_slope(
        lambda u: process.sigma(u) ** 2,
        loss + gain,
        t,
        process.t_max,
        "2 f sigma^2 + g^2",
        scale=1e-3 * gain,
    )


def derivatives(sde: SDE) -> None:
    """alpha_dot = alpha', sigma_dot = sigma'."""
    process = _gaussian(sde)
    t = _times(process)
    ensure_slope(process.alpha, process.alpha_dot(t), t, process.t_max, "alpha_dot")
    sigma = process.sigma(t)  # sigma' itself diverges at t = 0 for VP; sigma^2 is smooth there
    rate = 2.0 * sigma * process.sigma_dot(t)
    ensure_slope(lambda u: process.sigma(u) ** 2, rate, t, process.t_max, "2 sigma sigma_dot")


def composition(sde: SDE) -> None:
    """p(x_t | x_r) = int p(x_t | x_s) p(x_s | x_r) dx_s for r < s < t, and p(x_t | x_s) carries the marginal
    at s into that at t: alpha_t = a alpha_s, sigma_t^2 = a^2 sigma_s^2 + sigma_{t|s}^2."""
    process = _gaussian(sde)
    shares = torch.tensor([0.0, 0.003, 0.1, 0.35, 0.8, 1.0], dtype=torch.float64)
    times = process.t_min + shares * (process.t_max - process.t_min)
    for i, r in enumerate(times):
        for j in range(i + 1, len(times)):
            t = times[j]
            factor, deviation = process.transition(t, r)
            at = f"from t = {float(r):.6g} to {float(t):.6g}"
            alpha, sigma = process.alpha(t), process.sigma(t)
            ensure_close(factor * process.alpha(r), alpha, 1e-10 * alpha, f"alpha carried {at}")
            total = (factor * process.sigma(r)) ** 2 + deviation**2
            ensure_close(total, sigma**2, 1e-9 * sigma**2, f"sigma^2 carried {at}")
            for s in times[i + 1 : j]:
                (later, added), (earlier, kept) = process.transition(t, s), process.transition(s, r)
                ensure_close(
                    later * earlier, factor, 1e-10 * factor, f"the factor by way of {float(s):.6g} {at}"
                )
                chained = (later * kept) ** 2 + added**2
                ensure_close(
                    chained, deviation**2, 1e-8 * deviation**2, f"the variance by way of {float(s):.6g} {at}"
                )


def perturbation(sde: SDE) -> None:
    """perturb(x_0, t, eps) = alpha_t x_0 + sigma_t eps, for one time or one a sample."""
    process = _gaussian(sde)
    noise = Noise(seed=0, index=torch.arange(3))
    x_0, eps = (noise.normal((3, 2, 2), draw=draw, dtype=torch.float64) for draw in (0, 1))
    middle = 0.5 * (process.t_min + process.t_max)
    for t in (torch.tensor(middle, dtype=torch.float64), _times(process)[[1, 40, -1]]):
        expected = expand(process.alpha(t), x_0) * x_0 + expand(process.sigma(t), x_0) * eps
        ensure_close(process.perturb(x_0, t, eps), expected, 1e-12 * (1.0 + expected.abs()), "perturb")


def fokker_planck(sde: SDE) -> None:
    """dp/dt = -d(f x p)/dx + g^2/2 d^2p/dx^2, on the exact density of a mixture."""
    process = _gaussian(sde)
    problem = MixtureProblem(weights=[0.4, 0.6], means=[[-1.0], [0.5]], variances=[0.2, 0.4])
    shares = torch.tensor([0.111, 0.3217, 0.5123, 0.7391, 0.9137], dtype=torch.float64)
    for t in process.t_min + shares * (process.t_max - process.t_min):
        _fokker_planck_at(process, problem, t)


def _fokker_planck_at(process: GaussianSDE, problem: MixtureProblem, t: Tensor) -> None:
    reach = float(process.alpha(t) + process.sigma(t))
    places = torch.linspace(-1.5 * reach, 1.5 * reach, 13, dtype=torch.float64)[:, None]
    x = places.clone().requires_grad_(True)
    density = problem.log_density(process, x, t).exp()
    (slope,) = torch.autograd.grad(density.sum(), x, create_graph=True)
    (curve,) = torch.autograd.grad(slope.sum(), x)
    f, g = process.drift_rate(t), process.diffusion(t)
    drift = (-f * (density + (x * slope)[:, 0])).detach()
    spread = 0.5 * g**2 * curve[:, 0]
    size = (f.abs() + g**2 / process.sigma(t) ** 2) * density.detach().max()
    ensure_slope(
        lambda u: problem.log_density(process, places, u).exp(),
        drift + spread,
        t.expand(len(x)),
        process.t_max,
        "the Fokker-Planck right-hand side",
        scale=size.expand(len(x)),
    )


def prior(sde: SDE) -> None:
    """The prior is a pure function of its noise, keeps shape and dtype, and for a Gaussian process has
    mean 0 and standard deviation sigma(t_max)."""
    noise = Noise(seed=3, index=torch.arange(512))
    x = sde.prior((512, 4, 8), noise, dtype=torch.float64)
    ensure(x.shape == (512, 4, 8) and x.dtype == torch.float64, f"it is {x.dtype} of {tuple(x.shape)}")
    ensure(x.isfinite().all(), "it is not finite")
    again = sde.prior((512, 4, 8), noise, dtype=torch.float64)
    ensure(torch.equal(x, again), "the same noise gave two different priors")
    one = sde.prior((1, 4, 8), noise.take(torch.tensor([7])), dtype=torch.float64)
    ensure(torch.equal(one[0], x[7]), "sample 7 alone differs from sample 7 of a batch")
    if isinstance(sde, GaussianSDE):
        sigma = float(sde.sigma(torch.tensor(sde.t_max, dtype=torch.float64)))
        count = x.numel()
        mean, deviation = float(x.mean()) / sigma, float(x.std()) / sigma
        ensure(abs(mean) < 5.0 / count**0.5, f"its mean is {mean:.4g} sigma(t_max)")
        ensure(
            abs(deviation - 1.0) < 5.0 / (2 * count) ** 0.5, f"its deviation is {deviation:.6g} sigma(t_max)"
        )


def prior_mismatch_stated(sde: SDE) -> None:
    """KL(p(x_T) || prior) = alpha_T^2 / (2 sigma_T^2) nats a dimension for data at +-1; where that is more
    than 0.01, compatibility says so, with the figure."""
    process = _gaussian(sde)
    end = torch.tensor(process.t_max, dtype=torch.float64)
    bound = float(process.alpha(end) ** 2 / (2.0 * process.sigma(end) ** 2))
    if bound <= PRIOR_TOLERANCE:
        return
    said = [finding.reason for finding in check(Selection.of(process))]
    ensure(
        any(f"{bound:.2g} nats" in reason for reason in said), f"{bound:.2g} nats are passed over in silence"
    )


def precision(sde: SDE) -> None:
    """alpha, sigma and lambda in float32 are those of float64 within 1e-6, for t down to 1e-6; f, g too."""
    process = _gaussian(sde)
    single = times_between(max(process.t_min, 1e-6), process.t_max).to(torch.float32)
    single = torch.cat((torch.tensor([1e-6, 1e-5, 1e-4]), single[single <= process.t_max]))
    double = single.to(torch.float64)
    names = ("alpha", "sigma", "log_snr", "drift_rate", "diffusion")
    functions = (process.alpha, process.sigma, process.log_snr, process.drift_rate, process.diffusion)
    for what, function in zip(names, functions, strict=True):
        exact = function(double)
        size = exact.abs().clamp(min=1.0) if what == "log_snr" else exact.abs()
        ensure_close(function(single), exact, 1e-6 * size, f"{what} in float32", single)


def shapes(sde: SDE) -> None:
    """Coefficients have the shape and dtype of t, 0-d or (B,); the drift, unless it is the model's, those of
    x, and is f(t) x where the process is Gaussian."""
    middle = 0.5 * (sde.t_min + sde.t_max)
    for dtype in (torch.float32, torch.float64):
        for inner in ((2,), (1, 4, 4)):
            x = Noise(seed=0, index=torch.arange(3)).normal((3, *inner), dtype=dtype)
            for t in (torch.tensor(middle, dtype=dtype), torch.full((3,), middle, dtype=dtype)):
                g = sde.diffusion(t)
                what = f"for {dtype} x of {tuple(x.shape)} and t of {tuple(t.shape)}"
                ensure(g.shape == t.shape and g.dtype == dtype, f"g is {g.dtype} of {tuple(g.shape)} {what}")
                if "sde.model-drift" in sde.provides:
                    continue
                drift = sde.drift(x, t)
                ensure(
                    drift.shape == x.shape and drift.dtype == dtype,
                    f"the drift is {drift.dtype} of {tuple(drift.shape)} {what}",
                )
                if isinstance(sde, GaussianSDE):
                    f = float(sde.drift_rate(t.flatten()[0].to(torch.float64)))
                    ensure_close(drift, f * x, 1e-5 * (1.0 + (f * x).abs().double()), "the drift")


def stationary(sde: SDE) -> None:
    """Where one law is to stay as it is: g > 0 and the drift are the same at all times, and the drift, unless
    it is the model's, is a gradient: its Jacobian is symmetric."""
    if "sde.stationary" not in sde.provides:
        raise NotApplicable("its law changes in time")
    t = _times(sde)
    g = sde.diffusion(t)
    ensure(g[0] > 0.0, f"g is {float(g[0]):.6g}")
    ensure_close(g, g[:1].expand_as(g), 0.0, "g", t)
    if "sde.model-drift" in sde.provides:
        return
    x = Noise(seed=0, index=torch.arange(5)).normal((5, 3), dtype=torch.float64)
    first, last = (sde.drift(x, t[place]) for place in (0, -1))
    ensure_close(last, first, 0.0, "the drift at the end, against the beginning")
    columns = []
    for column in 1e-4 * torch.eye(3, dtype=torch.float64):
        columns.append((sde.drift(x + column, t[0]) - sde.drift(x - column, t[0])) / 2e-4)
    jacobian = torch.stack(columns, dim=2)
    ensure_close(jacobian, jacobian.mT, 1e-5 * (1.0 + jacobian.abs()), "an element of the drift's Jacobian")


def own_law(sde: SDE) -> None:
    """Where one law is to stay as it is, and the process names it by model(): the drift is g^2/2 times the
    score of that law, and the score is -grad E. A drift uphill, or a temperature or friction that one of them
    lacks, would come to rest at another law."""
    if "sde.stationary" not in sde.provides:
        raise NotApplicable("its law changes in time")
    if "sde.model-drift" in sde.provides:
        raise NotApplicable("the drift is the model's, and so is the law")
    model: Model = getattr(sde, "model", Model)()
    if not model.offers & {"score", "energy"}:
        raise NotApplicable("it names no law: it has no model() that offers a score or an energy")
    x = Noise(seed=0, index=torch.arange(5)).normal((5, 3), dtype=torch.float64)
    t = torch.tensor(0.5 * (sde.t_min + sde.t_max), dtype=torch.float64)
    scores = {}
    if "score" in model.offers:
        scores["score"] = model.score(x, t)
    if "energy" in model.offers:
        point = x.clone().requires_grad_(True)
        scores["-grad E"] = -torch.autograd.grad(model.energy(point).sum(), point)[0]
    for what, score in scores.items():
        rest = 0.5 * sde.diffusion(t) ** 2 * score
        # Both are the same gradient: what they may differ by is rounding, in single precision at the worst.
        tolerance = 1e-6 * (1.0 + rest.abs())
        ensure_close(
            sde.drift(x, t), rest, tolerance, f"the drift, against g^2/2 times the {what} of model(),"
        )


def other_parameters(sde: SDE) -> None:
    """With each of its numbers or its schedule's changed in turn, as far as validators accept, marginals,
    transitions and coefficients still belong to one another: no formula is right for the defaults alone."""
    checks = log_snr, time_inverts, moment_equations, derivatives, composition, stationary, own_law
    hold_for_others("sde", sde, range_of_times, *checks)


LAWS = book_of(
    "sde",
    range_of_times,
    positive_rates,
    log_snr,
    time_inverts,
    moment_equations,
    derivatives,
    composition,
    perturbation,
    fokker_planck,
    prior,
    prior_mismatch_stated,
    precision,
    shapes,
    stationary,
    own_law,
    other_parameters,
)
