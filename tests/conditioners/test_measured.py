"""Imputation and restoration against posteriors that are known exactly."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import diffkit
from diffkit.errors import IncompatibleError, RunError
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.registry import create
from diffkit.testing.exact import GaussianProblem, MixtureProblem
from diffkit_standard.conditioners._evidence import Evidence, Measurement, conjugate_gradients
from diffkit_standard.conditioners._particles import Swarm, ended

SHAPE = (1, 4, 4)
D = math.prod(SHAPE)
GENERATOR = torch.Generator().manual_seed(5)
ROOT = 0.3 * torch.randn(D, D, generator=GENERATOR, dtype=torch.float64)
PROBLEM = GaussianProblem(
    mean=torch.linspace(-0.6, 0.8, D), covariance=ROOT @ ROOT.T + 0.05 * torch.eye(D, dtype=torch.float64)
)
TRUTH = PROBLEM.draw(Noise(seed=3, index=torch.arange(1)), SHAPE)
MASK = torch.tensor([[1, 0, 0, 1], [0, 0, 1, 0], [1, 1, 0, 0], [0, 1, 0, 0]])
INDEX = torch.arange(5)
SDES = ("vp", "sub-vp", "ve", "flow")
METHODS: list[dict[str, Any]] = [
    {"method": "replacement"},
    {"method": "repaint", "jump": 2, "resamplings": 2},
    {"method": "reconstruction", "guidance": "dps"},
    {"method": "reconstruction", "guidance": "pigdm"},
    {"method": "reconstruction", "guidance": "mmps"},
    {"method": "particle", "particle_count": 3},
]


def name_of(method: dict[str, Any]) -> str:
    return str(method.get("guidance", method["method"]))


def matrix_of(operator: Any) -> Tensor:
    """A as a matrix, column by column."""
    columns = operator.apply(torch.eye(D, dtype=torch.float64).reshape(D, *SHAPE))
    return torch.Tensor(columns.flatten(1)).T


def guided(conditioner: Any, sde: GaussianSDE, problem: GaussianProblem, x: Tensor, t: Tensor) -> Tensor:
    """The denoiser as the conditioner changes it, at x."""
    bare = Problem.build(problem.model(sde), sde, (t,), torch.arange(len(x)), x)
    return conditioner.wrap(bare.model, bare).denoise(x, t)


def state(problem: GaussianProblem, sde: GaussianSDE, t: float) -> tuple[Tensor, Tensor]:
    time = torch.tensor(t * sde.t_max, dtype=torch.float64)
    return time, problem.draw_at(sde, time, Noise(seed=1, index=INDEX), SHAPE)


@pytest.mark.parametrize("noise", [0.3, 0.02])
@pytest.mark.parametrize(
    "operator",
    [
        "identity",
        {"name": "super-resolution", "factor": 2},
        {"name": "blur", "width": 0.6},
        {"name": "in-painting", "mask": MASK},
    ],
)
@pytest.mark.parametrize("sde", SDES)
def test_mmps_is_the_posterior_denoiser_of_any_gaussian(sde: str, operator: Any, noise: float) -> None:
    process, measures = create("sde", sde), create("operator", operator)
    A = matrix_of(measures)
    y = measures.apply(TRUTH) + noise * Noise(seed=9, index=torch.arange(1)).normal_like(
        measures.apply(TRUTH)
    )
    conditioner = create(
        "conditioner", "restoration", operator=measures, observed=y, noise=noise, iterations=3 * D
    )
    exact = PROBLEM.measured(A, y.flatten(), noise)
    for share in (0.1, 0.5, 1.0):
        t, x = state(PROBLEM, process, share)
        wanted = exact.denoise(process, x, t)
        got = guided(conditioner, process, PROBLEM, x, t)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sde", SDES)
def test_mmps_without_noise_is_the_denoiser_given_the_observed_elements(sde: str) -> None:
    process = create("sde", sde)
    conditioner = create("conditioner", "imputation", mask=MASK, observed=TRUTH, iterations=3 * D)
    exact = PROBLEM.given(MASK, TRUTH)
    for share in (0.1, 0.5, 1.0):
        t, x = state(PROBLEM, process, share)
        got = guided(conditioner, process, PROBLEM, x, t)
        torch.testing.assert_close(got, exact.denoise(process, x, t), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sde", SDES)
def test_pigdm_is_the_posterior_denoiser_of_standard_normal_data(sde: str) -> None:
    process, measures = create("sde", sde), create("operator", {"name": "blur", "width": 0.6})
    standard = GaussianProblem(mean=PROBLEM.mean, covariance=torch.eye(D))
    y = measures.apply(TRUTH)
    conditioner = create(
        "conditioner",
        "restoration",
        operator=measures,
        observed=y,
        noise=0.2,
        guidance="pigdm",
        iterations=60,
    )
    exact = standard.measured(matrix_of(measures), y.flatten(), 0.2)
    for share in (0.1, 0.5, 1.0):
        t, x = state(standard, process, share)
        got = guided(conditioner, process, standard, x, t)
        torch.testing.assert_close(got, exact.denoise(process, x, t), rtol=1e-6, atol=1e-6)


def test_samples_under_mmps_have_the_posterior_s_moments() -> None:
    process, N = create("sde", "vp"), 3000
    conditioner = create("conditioner", "imputation", mask=MASK, observed=TRUTH, iterations=D)
    x = diffkit.sample(
        PROBLEM.model(process),
        sampler={"name": "adams"},
        steps=60,
        shape=(N, *SHAPE),
        conditioners=[conditioner],
        dtype=torch.float64,
        batch_size=N,
    ).x.flatten(1)
    exact, free = PROBLEM.given(MASK, TRUTH), ~MASK.bool().flatten()
    deviation = exact.covariance.diagonal()[free].sqrt()
    # Five standard errors of a mean and of a variance.
    assert ((x.mean(0) - exact.mean)[free].abs() < 5.0 * deviation / math.sqrt(N)).all()
    ratio = x.var(0)[free] / deviation**2
    assert ((ratio - 1.0).abs() < 5.0 * math.sqrt(2.0 / N)).all()


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_observed_elements_come_back_exactly_sample_by_sample(method: dict[str, Any]) -> None:
    process = create("sde", "vp")
    several = PROBLEM.draw(Noise(seed=8, index=torch.arange(3)), SHAPE)
    masks = torch.stack([MASK, 1 - MASK, MASK.T])[:, None]
    conditioner = create("conditioner", "imputation", mask=masks, observed=several, **method)
    x = diffkit.sample(
        PROBLEM.model(process),
        sampler={"name": "ddim", "eta": 1.0},
        steps=6,
        shape=(7, *SHAPE),
        conditioners=[conditioner],
        dtype=torch.float64,
    ).x
    for number, sample in enumerate(x):
        seen = masks[number % 3].bool()
        assert torch.equal(sample[seen], several[number % 3][seen])
        assert not torch.equal(sample[~seen], several[number % 3][~seen])


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_nothing_known_is_nothing_changed_bit_by_bit(method: dict[str, Any]) -> None:
    process = create("sde", "vp")

    def sampled(*conditioners: Any) -> Tensor:
        return diffkit.sample(
            PROBLEM.model(process),
            sampler={"name": "ddim", "eta": 1.0},
            steps=6,
            shape=(3, *SHAPE),
            conditioners=conditioners,
        ).x

    plain = sampled()
    hidden = create("conditioner", "imputation", mask=0 * MASK, observed=TRUTH, **method)
    off = create("conditioner", "imputation", mask=MASK, observed=TRUTH, strength=0.0, **method)
    assert torch.equal(sampled(hidden), plain)
    assert torch.equal(sampled(off), plain)
    if method["method"] not in ("replacement", "repaint"):
        drowned = create("conditioner", "restoration", observed=TRUTH, noise=math.inf, **method)
        assert torch.equal(sampled(drowned), plain)


@pytest.mark.parametrize("guidance", ["mmps", "pigdm"])
def test_reconstruction_fades_as_the_noise_grows(guidance: str) -> None:
    process = create("sde", "vp")
    t, x = state(PROBLEM, process, 0.5)
    plain = PROBLEM.denoise(process, x, t)
    shifts = []
    for noise in (3.0, 100.0, 1000.0):
        conditioner = create(
            "conditioner", "restoration", observed=TRUTH, noise=noise, guidance=guidance, iterations=20
        )
        shifts.append(float((guided(conditioner, process, PROBLEM, x, t) - plain).norm()))
    # What a measurement says falls with the square of its noise.
    assert shifts[1] / shifts[2] == pytest.approx(100.0, rel=1e-3)
    assert shifts[0] > 30.0 * shifts[1]


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_everything_known_is_the_example_itself(method: dict[str, Any]) -> None:
    process = create("sde", "ve")
    conditioner = create(
        "conditioner", "imputation", mask=torch.ones(SHAPE, dtype=torch.bool), observed=TRUTH, **method
    )
    x = diffkit.sample(
        PROBLEM.model(process),
        sampler={"name": "ddim", "eta": 1.0},
        steps=5,
        shape=(2, *SHAPE),
        conditioners=[conditioner],
        dtype=torch.float64,
    ).x
    assert torch.equal(x, TRUTH.expand_as(x))


@pytest.mark.parametrize("sde", SDES)
def test_replacement_puts_the_observed_part_at_its_own_noise_level(sde: str) -> None:
    process, count = create("sde", sde), 4000
    conditioner = create("conditioner", "imputation", method="replacement", mask=MASK, observed=TRUTH)
    index, s = torch.arange(count), torch.tensor(0.6 * process.t_max, dtype=torch.float64)
    before = torch.full((count, *SHAPE), 7.0, dtype=torch.float64)
    problem = Problem.build(PROBLEM.model(process), process, (s,), index, before)
    after, _ = conditioner.after_step(problem, None, before, None, s, None, Noise(seed=2, index=index))
    seen = MASK.bool()
    assert torch.equal(after[:, 0, ~seen], before[:, 0, ~seen])
    known, sigma = after[:, 0, seen], float(process.sigma(s))
    mean = process.alpha(s) * TRUTH[0, 0, seen]
    assert ((known.mean(0) - mean).abs() < 5.0 * sigma / math.sqrt(count)).all()
    assert ((known.var(0) / sigma**2 - 1.0).abs() < 5.0 * math.sqrt(2.0 / count)).all()


def test_replacement_of_a_general_measurement_ends_on_samples_that_measure_as_it_does() -> None:
    measures = create("operator", {"name": "super-resolution", "factor": 2})
    y = measures.apply(TRUTH)
    conditioner = create("conditioner", "restoration", method="replacement", operator=measures, observed=y)
    x = diffkit.sample(
        PROBLEM.model(create("sde", "vp")),
        sampler="ancestral",
        steps=10,
        shape=(3, *SHAPE),
        conditioners=[conditioner],
        dtype=torch.float64,
    ).x
    torch.testing.assert_close(measures.apply(x), y.expand(3, -1, -1, -1))


def test_repaint_goes_back_and_down_again() -> None:
    conditioner = create(
        "conditioner", "imputation", method="repaint", jump=3, resamplings=2, mask=MASK, observed=TRUTH
    )
    noisy = list(torch.linspace(1.0, 0.1, 7, dtype=torch.float64))
    moves = conditioner.plan((*noisy, None))
    assert [target for _, target in moves] == [1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 7]
    once = create(
        "conditioner", "imputation", method="repaint", jump=3, resamplings=1, mask=MASK, observed=TRUTH
    )
    assert list(once.plan((*noisy, None))) == [(place, place + 1) for place in range(7)]


def test_more_particles_leave_less_bias_in_proportion() -> None:
    """Two bumps with weights 1 : 1 before and about 4 : 1 after the observation; the bias is c / K."""
    problem = MixtureProblem(weights=[0.5, 0.5], means=[[-0.8, -0.8], [0.8, 0.8]], variances=[0.06, 0.06])
    seen, value = torch.tensor([1, 0]), torch.tensor([0.05, 0.0], dtype=torch.float64)
    truth = float(problem.given(seen, value).weights[1])
    assert 0.7 < truth < 0.9
    biases, N = [], 2000
    for count in (4, 16):
        conditioner = create(
            "conditioner", "imputation", method="particle", particle_count=count, mask=seen, observed=value
        )
        x = diffkit.sample(
            problem.model(create("sde", "vp")),
            sampler={"name": "ddim", "eta": 1.0},
            steps=200,
            shape=(N, 2),
            conditioners=[conditioner],
            batch_size=N,
        ).x
        biases.append(abs(float((x[:, 1] > 0.0).double().mean()) - truth))
    error = math.sqrt(truth * (1.0 - truth) / N)
    assert biases[0] > 8.0 * error
    assert biases[1] < biases[0] / 4.0 + 2.5 * error


def test_particles_are_weighted_by_the_densities_of_where_they_went() -> None:
    """Two particles, never resampled: their weights after a step against the densities themselves."""
    process, sampler = create("sde", "vp"), create("sampler", "ancestral")
    noise = Noise(seed=1, index=torch.zeros(1, dtype=torch.int64)).split(2)
    t, s = (torch.tensor(time, dtype=torch.float64) for time in (0.6, 0.5))
    x_t = PROBLEM.draw_at(process, t, Noise(seed=1, index=torch.arange(2)), SHAPE)
    problem = Problem.build(PROBLEM.model(process), process, (t, s), noise.index, x_t, sampler=sampler)
    conditioner = create(
        "conditioner", "restoration", method="particle", particle_count=2, observed=TRUTH, noise=0.3
    )
    _, memory = conditioner.after_step(problem, None, x_t, None, t, None, noise)
    x_s, _ = sampler.step(problem, x_t, t, s, None, noise.stream("sampler"))
    moved, memory = conditioner.after_step(problem, x_t, x_s, t, s, memory, noise)

    def log_likelihood(x: Tensor, time: Tensor) -> Tensor:
        alpha, sigma = process.alpha(time), process.sigma(time)
        scale = (0.3**2 + sigma**2 / (alpha**2 + sigma**2)).sqrt()
        law = torch.distributions.Normal(PROBLEM.denoise(process, x, time), scale)
        return law.log_prob(TRUTH).flatten(1).sum(1)

    with torch.enable_grad():
        point = x_t.clone().requires_grad_(True)
        (push,) = torch.autograd.grad(log_likelihood(point, t).sum(), point)
    mean, deviation = sampler.transition(problem, x_t, t, s, None)
    torch.testing.assert_close(moved, x_s + deviation**2 * push)
    target = torch.distributions.Normal(mean, deviation).log_prob(moved).flatten(1).sum(1)
    proposal = torch.distributions.Normal(mean + deviation**2 * push, deviation).log_prob(moved)
    expected = log_likelihood(moved, s) + target - proposal.flatten(1).sum(1)
    got = memory.swarm.log_weight
    torch.testing.assert_close(got[1] - got[0], expected[1] - expected[0])


def test_conjugate_gradients_solve_each_sample_s_own_system() -> None:
    roots = torch.randn(4, 6, 6, generator=GENERATOR, dtype=torch.float64)
    matrices = roots @ roots.mT + 0.1 * torch.eye(6, dtype=torch.float64)
    matrices[1] = torch.eye(6)
    b = torch.randn(4, 6, generator=GENERATOR, dtype=torch.float64)
    b[2] = 0.0
    u = conjugate_gradients(lambda v: (matrices @ v[:, :, None])[:, :, 0], b, 40)
    torch.testing.assert_close(u, torch.linalg.solve(matrices, b), rtol=1e-6, atol=1e-7)
    assert torch.equal(u[2], torch.zeros(6, dtype=torch.float64))


def test_conjugate_gradients_rest_where_there_is_no_positive_curvature() -> None:
    matrix = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    u = conjugate_gradients(
        lambda v: v @ matrix, torch.tensor([[0.0, 1.0], [2.0, 0.0]], dtype=torch.float64), 5
    )
    assert torch.equal(u, torch.tensor([[0.0, 0.0], [2.0, 0.0]], dtype=torch.float64))


def test_conjugate_gradients_do_not_run_away_where_the_system_is_not_symmetric() -> None:
    """Jacobians that a network might have; without a guard the residual grows a thousandfold here."""
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        root = torch.randn(12, 12, generator=generator, dtype=torch.float64)
        matrix = root @ root.T + 4.0 * torch.randn(12, 12, generator=generator, dtype=torch.float64)
        b = torch.randn(1, 12, generator=generator, dtype=torch.float64)
        for count in (1, 3, 10, 30):
            u = conjugate_gradients(partial(torch.matmul, other=matrix.T), b, count)
            assert float((b - u @ matrix.T).norm()) <= 10.0 * float(b.norm()) * (1.0 + 1e-9)


@pytest.mark.parametrize("guidance", ["mmps", "pigdm"])
def test_reconstruction_is_linear_in_its_strength(guidance: str) -> None:
    process = create("sde", "vp")
    t, x = state(PROBLEM, process, 0.5)
    plain = PROBLEM.denoise(process, x, t)
    one, third = (
        guided(
            create(
                "conditioner", "imputation", mask=MASK, observed=TRUTH, guidance=guidance, strength=strength
            ),
            process,
            PROBLEM,
            x,
            t,
        )
        for strength in (1.0, 1.0 / 3.0)
    )
    torch.testing.assert_close(third - plain, (one - plain) / 3.0)


@pytest.mark.parametrize("strength", [1.0, 0.25])
def test_dps_steps_down_the_distance_from_what_was_measured(strength: float) -> None:
    process, noise = create("sde", "vp"), Noise(seed=0, index=INDEX)
    t, x_t = state(PROBLEM, process, 0.5)
    s = torch.tensor(0.4, dtype=torch.float64)
    problem = Problem.build(PROBLEM.model(process), process, (t, s), INDEX, x_t)
    conditioner = create(
        "conditioner", "imputation", mask=MASK, observed=TRUTH, guidance="dps", strength=strength
    )
    moved, _ = conditioner.after_step(problem, x_t, 0.9 * x_t, t, s, None, noise)
    with torch.enable_grad():
        point = x_t.clone().requires_grad_(True)
        off = ((PROBLEM.denoise(process, point, t) - TRUTH) * MASK).square().flatten(1).sum(1).sqrt()
        (slope,) = torch.autograd.grad(off.sum(), point)
    torch.testing.assert_close(moved, 0.9 * x_t - strength * slope)


def test_what_particles_remember_goes_with_them_when_they_are_resampled() -> None:
    process, sampler, count = create("sde", "vp"), create("sampler", "ancestral"), 6
    noise = Noise(seed=1, index=torch.arange(2)).split(count)
    t, s = (torch.tensor(time, dtype=torch.float64) for time in (0.5, 0.45))
    x_t = PROBLEM.draw_at(process, t, Noise(seed=4, index=torch.arange(2 * count)), SHAPE)
    x_t[::count] = process.alpha(t) * TRUTH[0]  # one of each sample's particles is far better than the others
    problem = Problem.build(PROBLEM.model(process), process, (t, s), noise.index, x_t, sampler=sampler)
    conditioner = create(
        "conditioner", "restoration", method="particle", particle_count=count, observed=TRUTH, noise=0.05
    )
    _, memory = conditioner.after_step(problem, None, x_t, None, t, None, noise)
    x_s, _ = sampler.step(problem, x_t, t, s, None, noise.stream("sampler"))
    moved, memory = conditioner.after_step(problem, x_t, x_s, t, s, memory, noise)
    assert all(len(part.unique(dim=0)) < count for part in moved.split(count))
    assert not memory.swarm.log_weight.any()
    _, anew = conditioner.after_step(problem, None, moved, None, s, None, noise)
    for name in ("clean", "log_p", "gradient"):
        kept, fresh = (getattr(each.swarm.evidence, name) for each in (memory, anew))
        torch.testing.assert_close(kept, fresh)


def test_the_first_particle_is_a_fair_draw_at_the_end() -> None:
    """Two clean particles a sample: the one that fits better is kept as often as its likelihood says."""
    count, noise = 4000, 0.5
    x = torch.tensor([0.0, 0.6], dtype=torch.float64).repeat(count)[:, None]
    index = torch.arange(count)
    measured = Measurement(
        operator=create("operator", "identity"), y=torch.full_like(x, 0.5), noise=noise, shape=(1,)
    )
    swarm = Swarm(
        evidence=Evidence(clean=x, log_p=torch.zeros(2 * count), gradient=x),
        log_weight=torch.zeros(2 * count),
    )
    kept = ended(measured, swarm, 2, x, Noise(seed=1, index=index).split(2))[::2]
    odds = math.exp((0.5**2 - 0.1**2) / (2.0 * noise**2))
    share = odds / (1.0 + odds)
    assert float((kept > 0.3).double().mean()) == pytest.approx(share, abs=5.0 * math.sqrt(0.25 / count))


@pytest.mark.parametrize("other", [{"method": "repaint"}, {"method": "particle"}, {"method": "replacement"}])
def test_particles_go_with_nothing_else_that_moves_the_state(other: dict[str, Any]) -> None:
    given = {"name": "imputation", "mask": MASK, "observed": TRUTH}
    both = [{**given, "method": "particle"}, {**given, **other}]
    with pytest.raises(IncompatibleError, match="another conditioner moves them"):
        diffkit.sample(
            PROBLEM.model(create("sde", "vp")), sampler="ancestral", shape=(1, *SHAPE), conditioners=both
        )


def test_samples_that_are_lost_are_named() -> None:
    process = create("sde", "vp")
    t, x_t = state(PROBLEM, process, 0.5)
    problem = Problem.build(PROBLEM.model(process), process, (t, None), 10 + INDEX, x_t)
    x_t[1, 0, 0, 0], x_t[3] = torch.nan, torch.inf
    conditioner = create("conditioner", "imputation", mask=MASK, observed=TRUTH)
    with pytest.raises(RunError, match=r"The samples 11, 13 are not finite"):
        conditioner.after_step(problem, None, x_t, t, None, None, Noise(seed=0, index=INDEX))
