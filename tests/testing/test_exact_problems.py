"""The oracles themselves, against definitions, quadrature, autograd and an independent integrator."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from diffkit import ode
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.registry import create
from diffkit.testing.exact import (
    ExactProblem,
    GaussianProblem,
    KernelDensityProblem,
    LabelledModel,
    MixtureProblem,
    PointMass,
)
from diffkit.testing.impulses import affine_map
from diffkit.testing.order import irregular_times, order_interval

NOISE = Noise(seed=0, index=torch.arange(64))
LINE = MixtureProblem(weights=[1.0, 2.0, 1.0], means=[[-2.0], [0.1], [1.5]], variances=[0.05, 0.3, 0.01])
GAUSSIAN = GaussianProblem(
    mean=[0.4, -0.3, 0.1], covariance=[[0.3, 0.1, 0.0], [0.1, 0.2, -0.05], [0.0, -0.05, 0.1]]
)
MIXTURE = MixtureProblem(
    weights=[0.2, 0.5, 0.3],
    means=[[-1.0, 0.5, 0.2], [0.7, 0.2, 0.0], [0.1, -0.9, 0.4]],
    variances=[[0.1, 0.2, 0.05], [0.3, 0.1, 0.2], [0.02, 0.05, 0.1]],
)
KERNELS = KernelDensityProblem(points=MIXTURE.draw(NOISE), width=0.3)
PROBLEMS: dict[str, ExactProblem] = {"gaussian": GAUSSIAN, "mixture": MIXTURE, "kernels": KERNELS}
PROCESSES = ("vp", "sub-vp", "ve", "flow")


def middle(sde: GaussianSDE, share: float = 0.3) -> Tensor:
    return torch.tensor(sde.t_min + share * (sde.t_max - sde.t_min), dtype=torch.float64)


@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize("name", PROCESSES)
def test_the_score_is_the_gradient_of_the_log_density(kind: str, name: str) -> None:
    """Tweedie: D = (x + sigma^2 score) / alpha, both sides computed apart."""
    problem, sde = PROBLEMS[kind], create("sde", name)
    for share in (0.0, 0.3, 1.0):
        t = middle(sde, share)
        x = problem.draw_at(sde, t, NOISE).requires_grad_(True)
        (score,) = torch.autograd.grad(problem.log_density(sde, x, t).sum(), x)
        x = x.detach()
        torch.testing.assert_close(problem.score(sde, x, t), score, rtol=1e-6, atol=1e-6)
        clean = (x + sde.sigma(t) ** 2 * score) / sde.alpha(t)
        torch.testing.assert_close(problem.denoise(sde, x, t), clean, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", PROBLEMS)
def test_one_time_a_sample_is_one_time_for_all(kind: str) -> None:
    problem, sde = PROBLEMS[kind], create("sde", "sub-vp")
    t = middle(sde)
    x = problem.draw_at(sde, t, NOISE)
    times = torch.linspace(0.1, 0.9, 64, dtype=torch.float64)
    for row in (0, 13, 63):
        one = problem.denoise(sde, x[row : row + 1], times[row])
        torch.testing.assert_close(problem.denoise(sde, x, times)[row : row + 1], one)
        density = problem.log_density(sde, x[row : row + 1], times[row])
        torch.testing.assert_close(problem.log_density(sde, x, times)[row : row + 1], density)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_density_integrates_to_one_and_has_its_moments(name: str) -> None:
    sde = create("sde", name)
    t = middle(sde)
    reach = 12.0 * float(sde.alpha(t) + sde.sigma(t))
    x = np.linspace(-reach, reach, 200_001)
    p = LINE.log_density(sde, torch.from_numpy(x)[:, None], t).exp().numpy()
    mean, covariance = LINE.moments(sde, t)
    assert integrate.simpson(p, x=x) == pytest.approx(1.0, abs=1e-9)
    assert integrate.simpson(x * p, x=x) == pytest.approx(float(mean), abs=1e-8)
    assert integrate.simpson((x - float(mean)) ** 2 * p, x=x) == pytest.approx(float(covariance), rel=1e-7)


@pytest.mark.parametrize("kind", PROBLEMS)
def test_draws_follow_the_law(kind: str) -> None:
    problem = PROBLEMS[kind]
    x = problem.draw(Noise(seed=1, index=torch.arange(20_000)))
    mean, covariance = problem.moments(None, None)
    torch.testing.assert_close(x.mean(0), mean, rtol=0.0, atol=0.03)
    torch.testing.assert_close(torch.cov(x.T), covariance, rtol=0.0, atol=0.03)


def test_a_line_s_draws_follow_its_distribution() -> None:
    x = LINE.draw(Noise(seed=1, index=torch.arange(20_000)))[:, 0].numpy()

    def cdf(values: np.ndarray) -> np.ndarray:
        parts = zip(LINE.weights.tolist(), LINE.means[:, 0].tolist(), LINE.variances.tolist(), strict=True)
        return sum(w * stats.norm.cdf(values, m, math.sqrt(v)) for w, m, v in parts)  # type: ignore[return-value]

    assert stats.kstest(x, cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("problem", [LINE, GAUSSIAN], ids=["line", "gaussian"])
def test_the_flow_is_the_probability_flow(problem: MixtureProblem | GaussianProblem, name: str) -> None:
    """Against the ODE, integrated to 1e-10 by a method that knows nothing of quantiles."""
    sde = create("sde", name)
    t, s = middle(sde, 0.8), middle(sde, 0.1)
    x = problem.draw_at(sde, t, NOISE)

    def slope(time: Tensor, y: ode.State, rows: Tensor) -> ode.State:
        score = problem.score(sde, y[0], time)
        return (sde.drift(y[0], time) - 0.5 * (sde.diffusion(time) ** 2)[:, None] * score,)

    (moved,) = ode.adaptive(slope, (x,), t, s, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(problem.flow(sde, x, t, s), moved, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_quantile_map_keeps_its_digits_in_both_tails(name: str) -> None:
    sde = create("sde", name)
    t, s = middle(sde, 0.9), middle(sde, 0.2)
    mean, covariance = LINE.moments(sde, t)
    x = float(mean) + float(covariance) ** 0.5 * torch.linspace(-20.0, 20.0, 41, dtype=torch.float64)[:, None]
    there = LINE.flow(sde, x, t, s)
    assert there.isfinite().all()
    assert (there.diff(dim=0) > 0.0).all()
    torch.testing.assert_close(LINE.flow(sde, there, s, t), x, rtol=1e-9, atol=1e-9)


def test_a_narrow_gaussian_is_a_point_mass() -> None:
    sde = create("sde", "vp")
    t, s = middle(sde), middle(sde, 0.05)
    point = PointMass(x_0=[0.4, -0.3])
    narrow = GaussianProblem(mean=[0.4, -0.3], covariance=[[0.0, 0.0], [0.0, 0.0]])
    x = narrow.draw_at(sde, t, NOISE)
    torch.testing.assert_close(point.draw_at(sde, t, NOISE), x)
    torch.testing.assert_close(point.denoise(sde, x, t), narrow.denoise(sde, x, t))
    torch.testing.assert_close(point.log_density(sde, x, t), narrow.log_density(sde, x, t))
    torch.testing.assert_close(point.flow(sde, x, t, s), narrow.flow(sde, x, t, s))
    assert torch.equal(point.flow(sde, x, t, None), point.denoise(sde, x, t))


def test_a_kernel_density_is_a_mixture_of_its_points() -> None:
    sde = create("sde", "ve")
    mixture = MixtureProblem(
        weights=torch.ones(64), means=KERNELS.points, variances=torch.full((64,), 0.3**2)
    )
    for share in (0.01, 0.3, 0.9):
        t = middle(sde, share)
        x = KERNELS.draw_at(sde, t, NOISE)
        torch.testing.assert_close(
            KERNELS.denoise(sde, x, t), mixture.denoise(sde, x, t), rtol=1e-6, atol=1e-6
        )
        density = mixture.log_density(sde, x, t)
        torch.testing.assert_close(KERNELS.log_density(sde, x, t), density, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("problem", [GAUSSIAN, MIXTURE], ids=["gaussian", "mixture"])
def test_a_conditional_is_the_joint_over_the_marginal(problem: GaussianProblem | MixtureProblem) -> None:
    """Up to a constant: log p(x_1 | x_0, x_2) - log p(x_0, x_1, x_2) is the same for every x_1."""
    observed, values = torch.tensor([1, 0, 1]), torch.tensor([0.2, 0.0, -0.1], dtype=torch.float64)
    given = problem.given(observed, values)
    line = torch.linspace(-1.0, 1.0, 7, dtype=torch.float64)
    x = torch.stack((values[0].expand(7), line, values[2].expand(7)), dim=1)
    joint = problem.log_density(None, x, None)
    if isinstance(given, GaussianProblem):
        missing: ExactProblem = GaussianProblem(mean=given.mean[1:2], covariance=given.covariance[1:2, 1:2])
    else:
        missing = MixtureProblem(
            weights=given.weights, means=given.means[:, 1:2], variances=given.variances[:, 1:2]
        )
    constant = missing.log_density(None, line[:, None], None) - joint
    torch.testing.assert_close(constant, constant[:1].expand(7), rtol=1e-10, atol=1e-10)
    assert torch.equal(given.draw(NOISE)[:, [0, 2]], values[[0, 2]].expand(64, 2))


def test_examples_may_have_any_shape_and_keep_their_dtype() -> None:
    sde = create("sde", "vp")
    problem = GaussianProblem(mean=torch.arange(6.0), covariance=torch.eye(6))
    x = problem.draw(NOISE, (1, 2, 3), torch.float32)
    assert x.shape == (64, 1, 2, 3)
    clean = problem.model(sde)(x, middle(sde))
    assert clean.shape == x.shape
    assert clean.dtype == torch.float32
    flat = problem.denoise(sde, x.flatten(1), middle(sde))
    assert torch.equal(clean.flatten(1), flat)


def test_labels_choose_a_component_and_logits_tell_it() -> None:
    sde = create("sde", "vp")
    model, t = LabelledModel(problem=MIXTURE, sde=sde), middle(sde)
    x = MIXTURE.draw_at(sde, t, NOISE)
    label = torch.arange(64) % 4 - 1
    clean = model.denoise(x, t, label)
    for k in range(3):
        component = model.component(k).denoise(sde, x, t)
        torch.testing.assert_close(clean[label == k], component[label == k])
    torch.testing.assert_close(clean[label == -1], MIXTURE.denoise(sde, x, t)[label == -1])
    posterior = torch.softmax(model.logits(x, t), dim=1)
    mixed = sum(posterior[:, k : k + 1] * model.component(k).denoise(sde, x, t) for k in range(3))
    torch.testing.assert_close(mixed, MIXTURE.denoise(sde, x, t))
    torch.testing.assert_close(model.score(x, t), MIXTURE.score(sde, x, t))


def test_an_affine_map_is_that_of_the_steps() -> None:
    """Ancestral sampling of a Gaussian, its matrices multiplied out by hand."""
    sde = create("sde", "vp")
    problem = GaussianProblem(mean=[0.5], covariance=[[0.2]])
    times = irregular_times(sde, 4, *order_interval(sde))
    run = affine_map(create("sampler", "ancestral"), sde, problem, [*times.unbind(), None])
    mean, variance = torch.tensor(0.3, dtype=torch.float64), torch.tensor(1.7, dtype=torch.float64)
    found = run.moments(mean[None], variance[None, None])
    for t, s in itertools.pairwise(times):
        a_t, v_t, a_s, v_s = sde.alpha(t), sde.sigma(t) ** 2, sde.alpha(s), sde.sigma(s) ** 2
        factor, deviation = sde.transition(t, s)
        gain = a_t * 0.2 / (a_t**2 * 0.2 + v_t)
        slope = factor * v_s / v_t + a_s * deviation**2 / v_t * gain
        mean = slope * mean + a_s * deviation**2 / v_t * 0.5 * (1.0 - gain * a_t)
        variance = slope**2 * variance + v_s * deviation**2 / v_t
    gain = sde.alpha(times[-1]) * 0.2 / (sde.alpha(times[-1]) ** 2 * 0.2 + sde.sigma(times[-1]) ** 2)
    mean = gain * mean + 0.5 * (1.0 - gain * sde.alpha(times[-1]))
    torch.testing.assert_close(found[0][0], mean)
    torch.testing.assert_close(found[1][0, 0], gain**2 * variance)
    assert len(run.order) == len(run.draws) == 4
