"""What a sampler may ask of a problem, against closed forms, whatever the model offers."""

from __future__ import annotations

from typing import Any, final

import attrs
import pytest
import torch
from torch import Tensor

from diffkit.errors import ConfigError, IncompatibleError
from diffkit.interfaces.conditioner import Conditioner
from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Formula, Problem
from diffkit.registry import create
from diffkit.sampling import sample
from diffkit.testing.exact import GaussianProblem, MixtureProblem

MIXTURE = MixtureProblem(weights=[0.3, 0.7], means=[[-1.0, 0.5], [0.7, 0.2]], variances=[0.2, 0.1])
INDEX = torch.arange(5)
PROCESSES = ["vp", "sub-vp", "ve", "flow"]


def state(sde: GaussianSDE, share: float = 0.4) -> tuple[Tensor, Tensor]:
    t = torch.tensor(sde.t_min + share * (sde.t_max - sde.t_min), dtype=torch.float64)
    return MIXTURE.draw_at(sde, t, Noise(seed=0, index=INDEX)), t


def problem(model: Model, sde: SDE, x: Tensor, *conditioners: Conditioner) -> Problem:
    return Problem.build(model, sde, (), torch.arange(len(x)), x, conditioners)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("offer", ["denoise", "score"])
def test_everything_follows_from_either_offer(name: str, per_sample: bool, offer: str) -> None:
    sde = create("sde", name)
    x, t = state(sde)
    model = MIXTURE.model(sde)
    given = problem(Formula(getattr(model, offer), offer), sde, x)
    time = t.expand(5) if per_sample else t
    clean, alpha, sigma = model.denoise(x, t), sde.alpha(t), sde.sigma(t)
    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(given.denoise(x, time), clean, **close)
    torch.testing.assert_close(given.eps(x, time), (x - alpha * clean) / sigma, **close)
    point = x.clone().requires_grad_(True)
    (score,) = torch.autograd.grad(MIXTURE.log_density(sde, point, t).sum(), point)
    torch.testing.assert_close(given.score(x, time), score, rtol=1e-7, atol=1e-7)
    velocity = sde.drift(x, t) - 0.5 * sde.diffusion(t) ** 2 * score
    torch.testing.assert_close(given.velocity(x, time), velocity, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_velocity_is_the_slope_of_the_exact_flow(name: str) -> None:
    sde = create("sde", name)
    gaussian = GaussianProblem(mean=[0.3, -0.6], covariance=[[0.4, 0.1], [0.1, 0.2]])
    x, t = state(sde)
    given = problem(gaussian.model(sde), sde, x)
    h = 1e-5
    slope = (gaussian.flow(sde, x, t, t + h) - gaussian.flow(sde, x, t, t - h)) / (2 * h)
    torch.testing.assert_close(given.velocity(x, t), slope, rtol=1e-6, atol=1e-6)


def test_the_score_of_an_energy_is_minus_its_gradient() -> None:
    class Well(Model):
        offers = frozenset({"energy"})

        def energy(self, x: Tensor) -> Tensor:
            return 0.5 * (x**4).flatten(1).sum(1)

    x, t = state(create("sde", "vp"))
    with torch.no_grad():
        score = problem(Well(), create("sde", "vp"), x).score(x, t)
    torch.testing.assert_close(score, -2.0 * x**3)
    assert not score.requires_grad
    assert not x.requires_grad


@final
@attrs.frozen(kw_only=True)
class Twice(Conditioner):
    """Asks the model about every sample twice, in one batch."""

    def wrap(self, model: Model, problem: Problem) -> Model:
        def denoise(x: Tensor, t: Tensor) -> Tensor:
            both = model.denoise(torch.cat((x, x)), t if t.ndim == 0 else torch.cat((t, t)))
            return both.chunk(2)[0]

        return Formula(denoise)


@final
@attrs.frozen(kw_only=True)
class Shift(Conditioner):
    """Adds each sample's own global index to the prediction."""

    def wrap(self, model: Model, problem: Problem) -> Model:
        shift = problem.index.to(torch.float64)[:, None]
        return Formula(lambda x, t: model.denoise(x, t) + shift)


def test_calls_are_counted_inside_all_conditioners() -> None:
    sde = create("sde", "vp")
    x, t = state(sde)
    given = problem(MIXTURE.model(sde), sde, x, Twice())
    given.denoise(x, t)
    assert given.calls.tolist() == [2] * 5
    given.velocity(x, t)
    given.score(x, t)
    assert given.calls.tolist() == [6] * 5


def test_a_part_of_a_problem_has_its_own_samples_and_shares_the_count() -> None:
    sde = create("sde", "vp")
    x, t = state(sde)
    given = problem(MIXTURE.model(sde), sde, x, Twice(), Shift())
    whole = given.denoise(x, t)
    rows = torch.tensor([4, 1])
    part = given.take(rows)
    assert part.shape == (2, 2)
    assert part.index.tolist() == [4, 1]
    torch.testing.assert_close(part.denoise(x[rows], t), whole[rows])
    assert given.calls.tolist() == [2, 4, 2, 2, 4]
    inner = part.take(torch.tensor([0]))
    torch.testing.assert_close(inner.denoise(x[4:], t), whole[4:])
    assert given.calls.tolist() == [2, 4, 2, 2, 6]


def test_a_process_without_alpha_and_sigma_is_refused_with_a_remedy() -> None:
    @final
    @attrs.frozen(kw_only=True)
    class Walk(SDE):
        def drift(self, x: Tensor, t: Tensor) -> Tensor:
            return 0.0 * x

        def diffusion(self, t: Tensor) -> Tensor:
            return torch.ones_like(t)

        def prior(self, shape: Any, noise: Noise, dtype: Any = None, device: Any = None) -> Tensor:
            return noise.normal(shape, dtype=dtype, device=device)

    x, t = state(create("sde", "vp"))
    with pytest.raises(IncompatibleError, match="Choose sde vp"):
        problem(Formula(lambda x, t: x), Walk(), x).eps(x, t)


def test_a_formula_offers_what_it_is() -> None:
    x, t = state(create("sde", "vp"))
    assert Formula(lambda x, t: x).offers == {"denoise"}
    with pytest.raises(TypeError, match="not 'score'"):
        Formula(lambda x, t: x).score(x, t)
    module = torch.nn.Linear(2, 2)
    assert Formula(module).device == torch.device("cpu")
    assert Formula(lambda x, t: x).device is None


@pytest.mark.parametrize(
    "wrong",
    [lambda x, t: x[:1], lambda x, t: x.numpy(), lambda x, t: x.sum(1)],
    ids=["rows", "numpy", "rank"],
)
def test_a_model_that_answers_in_another_shape_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="the shape of x"):
        sample(wrong, sde="vp", steps=3, shape=(3, 2))


@pytest.mark.parametrize(
    "sampler", ["adams", "heun", "euler-maruyama", {"name": "probability-flow", "method": "rk45"}]
)
def test_a_model_that_promotes_its_input_does_not_change_the_dtype(sampler: Any) -> None:
    steps = None if isinstance(sampler, dict) else 4

    def promoting(x: Tensor, t: Tensor) -> Tensor:
        return 0.5 * x * torch.ones(len(x), 1, dtype=torch.float64)

    result = sample(promoting, sde="vp", sampler=sampler, steps=steps, shape=(3, 2))
    assert result.x.dtype == torch.float32
