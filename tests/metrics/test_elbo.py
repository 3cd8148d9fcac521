"""The variational bound: every term against its closed form, the sum against the chain's true likelihood."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import torch
from scipy.stats import norm
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from diffkit import compatibility, registry
from diffkit.batch import Batch
from diffkit.errors import IncompatibleError
from diffkit.interfaces.dataset import DataSpec
from diffkit.interfaces.metric import Measurement, MetricContext
from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Formula
from diffkit.testing import Law, parametrize_with_laws
from diffkit.testing.exact import GaussianProblem, PointMass
from diffkit_standard.metrics.elbo import ELBO, _decoder_loss
from diffkit_standard.objectives.noise import NoisePrediction
from diffkit_standard.schedules.discrete import Discrete
from diffkit_standard.sdes.sub_vp import SubVP
from diffkit_standard.sdes.vp import VP


def chain(steps: int, beta_end: float = 0.3) -> VP:
    return VP(schedule=Discrete(steps=steps, beta_start=1e-3, beta_end=beta_end))


def levels(count: int, spec: DataSpec, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Raw levels and their encoding, float64."""
    uniform = noise(count, seed).uniform((count, *spec.shape), dtype=torch.float64)
    assert spec.levels is not None
    raw = (uniform * spec.levels).floor()
    return raw, encode(raw, spec)


def encode(raw: Tensor, spec: DataSpec) -> Tensor:
    scale, offset = (
        torch.tensor(v, dtype=torch.float64).reshape(-1, *(1,) * (raw.ndim - 2))
        for v in (spec.scale, spec.offset)
    )
    return scale * raw + offset


def noise(count: int, seed: int = 0) -> Noise:
    return Noise(seed=seed, index=torch.arange(count))


def measured(
    metric: ELBO, model: Model, sde: GaussianSDE, x: Tensor, spec: DataSpec, label: Tensor | None = None
) -> Measurement:
    state = metric.start(MetricContext(model=model, sde=sde, spec=spec, reference="synthetic"))
    batch = Batch(x=x, index=torch.arange(len(x)), label=label, source="held-out")
    return metric.finish(metric.update(state, batch, noise(len(x), seed=3)))


SPEC = DataSpec(shape=(2, 3, 1), levels=9)
POINT = PointMass(x_0=torch.linspace(-0.7, 0.5, 6))  # D does not depend on the noise


def bits(nats: Tensor | float, spec: DataSpec = SPEC) -> float:
    return float(nats) / (math.prod(spec.shape) * math.log(2.0))


@pytest.mark.parametrize("variance", ["posterior", "large"])
def test_every_term_is_the_divergence_of_the_two_gaussians_of_the_paper(variance: str) -> None:
    """By Ho et al. 2020, eq. 6, 7 and 11, straight from the table of betas."""
    steps, sde = 7, chain(7)
    _, x = levels(30, SPEC)
    found = measured(ELBO(variance=variance), POINT.model(sde), sde, x, SPEC)
    beta = torch.linspace(1e-3, 0.3, steps, dtype=torch.float64)
    a, a_bar = 1.0 - beta, torch.cumprod(1.0 - beta, 0)
    x_t = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    clean = POINT.x_0.reshape(SPEC.shape)
    expected = []
    for k in range(2, steps + 1):
        now, before = a_bar[k - 1], a_bar[k - 2]
        tilde = beta[k - 1] * (1.0 - before) / (1.0 - now)

        def mean(x_0: Tensor) -> Tensor:
            from_x_t = a[k - 1].sqrt() * (1.0 - before) / (1.0 - now) * x_t  # noqa: B023
            return before.sqrt() * beta[k - 1] / (1.0 - now) * x_0 + from_x_t  # noqa: B023

        own = tilde if variance == "posterior" else beta[k - 1]
        q, p = Normal(mean(x), tilde.sqrt()), Normal(mean(clean), own.sqrt())
        expected.append(bits(kl_divergence(q, p).flatten(1).sum(1).mean()))
    assert found.details["terms"]["t"] == [k / steps for k in range(2, steps + 1)]
    assert found.details["terms"]["bits"] == pytest.approx(expected, rel=1e-9)
    last = kl_divergence(
        Normal(a_bar[-1].sqrt() * x, (1.0 - a_bar[-1]).sqrt()),
        Normal(torch.zeros_like(x), (1.0 - a_bar[-1]).sqrt()),
    )
    assert found.details["L_T"] == pytest.approx(bits(last.flatten(1).sum(1).mean()), rel=1e-9)
    total = sum(expected) + found.details["L_0"] + found.details["L_T"]
    assert found.value == pytest.approx(total, rel=1e-9)
    assert found.count == 30
    assert found.details["steps"] == steps


def test_a_process_that_does_not_preserve_variance() -> None:
    """sub-VP: the divergence from the definition of the posterior, by Bayes' rule for two Gaussians."""
    sde = SubVP(schedule=Discrete(steps=4, beta_start=0.1, beta_end=0.4))
    _, x = levels(5, SPEC)
    found = measured(ELBO(), POINT.model(sde), sde, x, SPEC)
    clean, expected = POINT.x_0.reshape(SPEC.shape), []
    for k in (2, 3, 4):
        t, s = (torch.tensor(j / 4, dtype=torch.float64) for j in (k, k - 1))
        ratio = sde.alpha(t) / sde.alpha(s)
        step = sde.sigma(t) ** 2 - ratio**2 * sde.sigma(s) ** 2
        precision = 1.0 / sde.sigma(s) ** 2 + ratio**2 / step
        distance = sde.alpha(s) / sde.sigma(s) ** 2 / precision * (x - clean)
        expected.append(bits((0.5 * precision * distance.square()).flatten(1).sum(1).mean()))
    assert found.details["terms"]["bits"] == pytest.approx(expected, rel=1e-9)


def test_the_terms_of_exact_gaussian_data() -> None:
    """E |x_0 - D|^2 = sum (s^2/V)^2 (x_0 - m)^2 + (a v s/V)^2 with V = a^2 v + s^2, element by element."""
    steps, spec = 5, DataSpec(shape=(4,), levels=9)
    sde, v, m = chain(steps), torch.tensor([0.02, 0.1, 0.3, 1.0]), 0.2
    problem = GaussianProblem(mean=torch.full((4,), m), covariance=torch.diag(v))
    _, x = levels(20_000, spec)
    found = measured(ELBO(count=20_000, batch_size=20_000), problem.model(sde), sde, x, spec)
    for k, term in zip(range(2, steps + 1), found.details["terms"]["bits"], strict=True):
        t, s = (torch.tensor(j / steps, dtype=torch.float64) for j in (k, k - 1))
        a, r = sde.alpha(t), sde.sigma(t)
        V = a**2 * v + r**2
        error = ((r**2 / V * (x - m)) ** 2 + (a * v * r / V) ** 2).sum(1).mean()
        gain = 0.5 * ((sde.alpha(s) / sde.sigma(s)) ** 2 - (a / r) ** 2)
        assert term == pytest.approx(bits(gain * error, spec), rel=0.02)


class TestDecoder:
    spec = DataSpec(shape=(2, 2), levels=5, scale=(0.4, -0.7), offset=(-0.8, 1.4))

    def test_against_scipy(self) -> None:
        raw, x = levels(50, self.spec)
        mean = x + 0.3 * noise(50).normal(x.shape, dtype=torch.float64)
        std = torch.tensor(0.2, dtype=torch.float64)
        found = _decoder_loss(self.spec, x, mean, std)
        scale = torch.tensor(self.spec.scale, dtype=torch.float64)[:, None]
        ends = torch.stack((x - 0.5 * scale, x + 0.5 * scale)).sort(0).values
        lowest, highest = (raw == k for k in (0, 4))
        flipped = (scale < 0).expand_as(x)
        down = torch.where(flipped, highest, lowest)
        up = torch.where(flipped, lowest, highest)
        low = torch.where(down, -torch.inf, ends[0])
        high = torch.where(up, torch.inf, ends[1])
        share = norm.cdf(high.numpy(), mean.numpy(), 0.2) - norm.cdf(low.numpy(), mean.numpy(), 0.2)
        expected = -torch.from_numpy(share).log().flatten(1).sum(1)
        assert torch.allclose(found, expected, rtol=1e-9)

    @pytest.mark.parametrize("std", [1e-3, 0.2, 30.0])
    def test_all_levels_together_have_probability_one(self, std: float) -> None:
        raw = torch.cartesian_prod(*[torch.arange(5.0, dtype=torch.float64)] * 4).reshape(-1, 2, 2)
        mean = torch.tensor([[-0.37, 0.11], [0.2, 3.0]], dtype=torch.float64).expand_as(raw)
        loss = _decoder_loss(self.spec, encode(raw, self.spec), mean, torch.tensor(std, dtype=torch.float64))
        assert float((-loss).exp().sum()) == pytest.approx(1.0, rel=1e-9)

    def test_far_from_the_mean_it_stays_finite_and_grows_as_the_square(self) -> None:
        spec = DataSpec(shape=(1,), levels=256)
        x = encode(torch.tensor([[3.0], [252.0]], dtype=torch.float64), spec)
        loss = _decoder_loss(spec, x, -x, torch.tensor(1e-3, dtype=torch.float64))
        nearest = 2 * 124.5 / 128 - 1.0 / 256
        assert loss == pytest.approx([0.5 * (nearest / 1e-3) ** 2] * 2, rel=1e-3)

    def test_the_variance_is_that_of_the_second_level(self) -> None:
        sde, spec = chain(6), DataSpec(shape=(3,), levels=9)
        point = PointMass(x_0=torch.tensor([-0.6, 0.0, 0.3]))
        _, x = levels(12, spec)
        found = measured(ELBO(), point.model(sde), sde, x, spec)
        beta = torch.linspace(1e-3, 0.3, 6, dtype=torch.float64)
        tilde = beta[1] * beta[0] / (1.0 - (1.0 - beta[0]) * (1.0 - beta[1]))
        expected = _decoder_loss(spec, x, point.x_0.expand_as(x), tilde.sqrt()).mean()
        assert found.details["L_0"] == pytest.approx(bits(expected, spec), rel=1e-9)


class TestAgainstTheTrueLikelihood:
    """In one dimension with Gaussian data the chain of exact steps is Gaussian, and P of a level is known."""

    spec = DataSpec(shape=(1,), levels=4)
    problem = GaussianProblem(mean=torch.tensor([0.1]), covariance=torch.tensor([[0.3]]))

    def truth(self, sde: VP, steps: int, own: str) -> Tensor:
        """-log2 P of each level, under x_T ~ prior and x_s ~ N(mu(x_t, D(x_t)), v), levels at the end."""
        mean, variance = torch.zeros((), dtype=torch.float64), sde.sigma(torch.tensor(1.0).double()) ** 2
        v, m = 0.3, 0.1
        for k in range(steps, 0, -1):
            t, s = (torch.tensor(j / steps, dtype=torch.float64) for j in (k, k - 1))
            a, r = sde.alpha(t), sde.sigma(t)
            gain = a * v / (a**2 * v + r**2)
            if k == 1:
                slope, shift = gain, m * (1.0 - gain * a)
                two, one = torch.tensor(2.0 / steps).double(), t
                added = self.posterior(sde, two, one)
            else:
                step = r**2 - (a / sde.alpha(s)) ** 2 * sde.sigma(s) ** 2
                to_clean = sde.alpha(s) * step / r**2
                slope = (a / sde.alpha(s)) * sde.sigma(s) ** 2 / r**2 + to_clean * gain
                shift = to_clean * m * (1.0 - gain * a)
                added = self.posterior(sde, t, s) if own == "posterior" else step
            mean, variance = slope * mean + shift, slope**2 * variance + added
        edges = torch.tensor([-math.inf, -0.5, 0.0, 0.5, math.inf], dtype=torch.float64)
        shares = norm.cdf(edges.numpy(), float(mean), float(variance.sqrt()))
        return -torch.from_numpy(shares[1:] - shares[:-1]).log2()

    def posterior(self, sde: VP, t: Tensor, s: Tensor) -> Tensor:
        step = sde.sigma(t) ** 2 - (sde.alpha(t) / sde.alpha(s)) ** 2 * sde.sigma(s) ** 2
        return step * sde.sigma(s) ** 2 / sde.sigma(t) ** 2

    def chain(self, steps: int) -> VP:
        """Log-SNR in even steps from 6 to -8."""
        signal = torch.sigmoid(torch.linspace(6.0, -8.0, steps, dtype=torch.float64))
        before = torch.cat((torch.ones(1, dtype=torch.float64), signal[:-1]))
        return VP(schedule=Discrete(betas=tuple((1.0 - signal / before).tolist())))

    def bound(self, steps: int, own: str, count: int = 3000) -> tuple[Tensor, Tensor]:
        """The bound for each level, and its standard error."""
        sde, found = self.chain(steps), []
        metric = ELBO(count=count, batch_size=count, variance=own)
        for level in range(4):
            x = encode(torch.full((count, 1), float(level), dtype=torch.float64), self.spec)
            found.append(measured(metric, self.problem.model(sde), sde, x, self.spec))
        value, error = (torch.tensor([getattr(f, name) for f in found]) for name in ("value", "error"))
        return value, error

    @pytest.mark.parametrize("own", ["posterior", "large"])
    @pytest.mark.parametrize("steps", [8, 64])
    def test_it_is_a_bound(self, own: str, steps: int) -> None:
        value, error = self.bound(steps, own)
        assert (value > self.truth(self.chain(steps), steps, own) - 4.0 * error).all()

    def test_fine_steps_leave_the_first_level_alone(self) -> None:
        """The more steps, the nearer to KL(q(x_1|x_0) || p(x_1)): in wide levels L_0 vanishes."""
        sde = self.chain(64)
        x = encode(torch.arange(4.0).double(), self.spec)
        first = torch.tensor(1.0 / 64, dtype=torch.float64)
        a, r = sde.alpha(first), sde.sigma(first)
        limit = kl_divergence(Normal(a * x, r), Normal(a * 0.1, (a**2 * 0.3 + r**2).sqrt())) / math.log(2.0)
        coarse, fine = ((self.bound(steps, "large")[0] - limit).abs() for steps in (8, 64))
        assert fine.max() < 0.06
        assert fine.mean() < 0.25 * coarse.mean()


class TestLevels:
    """A few random levels for each example: the same expectation of every term, and of the sum."""

    def test_unbiased(self) -> None:
        sde, count = chain(12), 4000
        x = encode(torch.full((count, 2, 3, 1), 2.0, dtype=torch.float64), SPEC)  # all alike: no other spread
        whole = measured(ELBO(count=10), POINT.model(sde), sde, x, SPEC)
        for number in (1, 3, 4):
            some = measured(ELBO(count=count, levels=number), POINT.model(sde), sde, x, SPEC)
            terms, expected = some.details["terms"], whole.details["terms"]
            assert terms["t"] == pytest.approx(expected["t"])
            assert terms["bits"] == pytest.approx(expected["bits"], rel=1e-9)
            assert some.error > 1e-6
            assert abs(some.value - whole.value) < 4.0 * some.error
            assert some.details["levels"] == number

    def test_as_many_as_there_are_is_all(self) -> None:
        sde = chain(5)
        _, x = levels(6, SPEC)
        whole = measured(ELBO(), POINT.model(sde), sde, x, SPEC)
        for number in (4, 100):
            some = measured(ELBO(levels=number), POINT.model(sde), sde, x, SPEC)
            assert some.value == pytest.approx(whole.value, rel=1e-12)

    def test_parts_are_even(self) -> None:
        """Each of 3 draws from a third of the levels: every example sees low, middle and high noise."""
        drawn = ELBO(levels=3)._levels(noise(500), 13)
        assert drawn.shape == (3, 500)
        for number, part in enumerate(drawn):
            assert sorted(part.unique().tolist()) == list(range(2 + 4 * number, 6 + 4 * number))


def test_the_training_weights_are_those_of_the_bound() -> None:
    """Objective noise, weighting bound, levels T: its loss at t = k/T over T is the term k, a dimension."""
    steps, sde = 6, chain(6)
    objective = NoisePrediction(weighting="bound", levels=steps)
    t = torch.arange(2, steps + 1, dtype=torch.float64) / steps
    error = torch.tensor([0.3, -0.1, 0.2, 0.5, 0.0, -0.4], dtype=torch.float64).reshape(SPEC.shape)
    _, x = levels(4, SPEC)

    def denoise(x_t: Tensor, time: Tensor) -> Tensor:
        """Guesses the noise wrong by `error`, whatever it is."""
        rates = (rate.reshape(-1, 1, 1, 1) for rate in (sde.alpha(time), sde.sigma(time)))
        alpha, sigma = rates
        return x - sigma / alpha * error

    found = measured(ELBO(), Formula(denoise), sde, x, SPEC)
    expected = objective.weight(sde, t) * error.square().mean() / steps / math.log(2.0)
    assert found.details["terms"]["bits"] == pytest.approx(expected.tolist(), rel=1e-9)


def test_float32_and_parts() -> None:
    sde = chain(6)
    _, x = levels(40, SPEC)
    problem = GaussianProblem(mean=torch.zeros(6), covariance=0.3 * torch.eye(6))
    whole = measured(ELBO(), problem.model(sde), sde, x, SPEC)
    parts = measured(ELBO(batch_size=7), problem.model(sde), sde, x, SPEC)
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    single = measured(ELBO(), problem.model(sde), sde, x.to(torch.float32), SPEC)
    assert single.value == pytest.approx(whole.value, rel=1e-4)


def test_labels() -> None:
    """The model is told the examples' labels, and none by default."""
    told: list[Any] = []

    class Listening(Model):
        offers = frozenset({"denoise"})
        capabilities = frozenset({"model.labels", "model.unconditional"})
        classes = 3

        def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
            told.append(None if label is None else label.tolist())
            return x

    sde = chain(3)
    _, x = levels(4, SPEC)
    label = torch.tensor([2, 0, 1, 2])
    measured(ELBO(conditional=True), Listening(), sde, x, SPEC, label)
    assert told == [[2, 0, 1, 2]] * 3
    told.clear()
    measured(ELBO(), Listening(), sde, x, SPEC, label)
    assert told == [None] * 3


def refused(*components: Any) -> list[compatibility.Finding]:
    found = compatibility.check(compatibility.Selection.of(*components))
    return [finding for finding in found if finding.status == "refused"]


class TestRefusals:
    def test_other_schedules(self) -> None:
        for name in ("vp", "flow"):
            sde = registry.create("sde", name)
            (found,) = refused(ELBO(), sde)
            assert "no table" in found.reason
            assert "bits-per-dim" in found.remedy
            with pytest.raises(IncompatibleError, match="schedule: discrete"):
                ELBO().start(MetricContext(model=POINT.model(sde), sde=sde, spec=SPEC))

    def test_continuous_data(self) -> None:
        sde, continuous = chain(3), attrs.evolve(SPEC, levels=None)
        points = registry.create("dataset", "points")
        (found,) = refused(ELBO(), sde, points)
        assert "continuous" in found.reason
        with pytest.raises(IncompatibleError, match="continuous"):
            ELBO().start(MetricContext(model=POINT.model(sde), sde=sde, spec=continuous))

    def test_guidance(self) -> None:
        guided = registry.create("conditioner", "class-guidance", label=1, scale=2.0)
        (found,) = refused(ELBO(), chain(3), guided)
        assert "class-guidance" in found.reason


@parametrize_with_laws("metric", ["elbo", {"name": "elbo", "levels": 2, "variance": "large"}])
def test_laws(law: Law, component: Any) -> None:
    law(component)
