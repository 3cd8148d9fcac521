"""The likelihood along the probability flow against closed forms, in every unit it is given in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from diffkit import compatibility, registry
from diffkit.batch import Batch
from diffkit.errors import DataError, IncompatibleError
from diffkit.evaluation import Evaluation
from diffkit.interfaces.dataset import Dataset, DataSpec, Examples, SplitName
from diffkit.interfaces.metric import Measurement, MetricContext
from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.noise import Noise
from diffkit.testing import Law, parametrize_with_laws
from diffkit.testing.exact import (
    ExactProblem,
    GaussianProblem,
    KernelDensityProblem,
    LabelledModel,
    MixtureProblem,
)
from diffkit_standard.features.pixels import Pixels
from diffkit_standard.metrics.bits_per_dim import BitsPerDim

PROCESSES: dict[str, Any] = {
    "vp": "vp",
    "vp-cosine": {"name": "vp", "schedule": "cosine"},
    "sub-vp": "sub-vp",
    "ve": {"name": "ve", "schedule": {"name": "geometric", "sigma_min": 1e-3, "sigma_max": 1000.0}},
    "flow": "flow",
}


def noise(count: int, seed: int = 0) -> Noise:
    return Noise(seed=seed, index=torch.arange(count))


def gaussian(dim: int = 12, mean: float = 0.0) -> GaussianProblem:
    """A full covariance with eigenvalues from 0.02 to 1."""
    basis = torch.linalg.qr(noise(dim).normal((dim, dim), dtype=torch.float64)).Q
    values = torch.logspace(math.log10(0.02), 0.0, dim, dtype=torch.float64)
    return GaussianProblem(
        mean=mean * torch.linspace(-1.0, 1.0, dim), covariance=basis @ torch.diag(values) @ basis.T
    )


def mixture(dim: int = 6) -> MixtureProblem:
    """Centred: a pair of bumps on either side, and one in the middle."""
    side = torch.linspace(-0.6, 0.9, dim)
    return MixtureProblem(
        weights=[0.3, 0.3, 0.4], means=torch.stack([side, -side, 0 * side]), variances=[0.05, 0.05, 0.2]
    )


def digits_density() -> KernelDensityProblem:
    """Real digits about their mean, each a Gaussian of width 0.1."""
    images = torch.from_numpy(load_digits().images).flatten(1)[:300] / 8.0 - 1.0
    return KernelDensityProblem(points=images - images.mean(0), width=0.1)


PROBLEMS = {"gaussian": gaussian, "mixture": mixture, "digits": digits_density}


def error_in_bits(problem: ExactProblem, log_prob: Tensor, x: Tensor) -> Tensor:
    return (log_prob - problem.log_density(None, x, None)) / (x[0].numel() * math.log(2.0))


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", PROBLEMS)
def test_log_prob_is_that_of_the_closed_form(process: str, name: str) -> None:
    """Centred data, so that the prior is as good as the marginal: every example, to 1e-3 bits/dim."""
    problem, sde = PROBLEMS[name](), registry.create("sde", PROCESSES[process])
    x = problem.draw(noise(3 if name == "digits" else 12, seed=1))
    found = BitsPerDim().log_prob(lambda y, t: problem.denoise(sde, y, t), sde=sde, x=x)
    assert found.shape == (len(x),)
    assert error_in_bits(problem, found, x).abs().max() < 1e-3


@pytest.mark.prove
@pytest.mark.parametrize("process", PROCESSES)
def test_log_prob_of_all_digits(process: str) -> None:
    """1797 real digits as they are encoded, not centred, in float32: 1e-3 bits/dim in the mean."""
    images = torch.from_numpy(load_digits().images).flatten(1)
    problem = KernelDensityProblem(points=2.0 * (images + 0.5) / 17.0 - 1.0, width=0.1)
    sde = registry.create("sde", PROCESSES[process])
    x = problem.draw(noise(32, seed=2), dtype=torch.float32)
    found = BitsPerDim().log_prob(problem.model(sde), x=x)
    errors = error_in_bits(problem, found, x)
    assert errors.mean().abs() < 1e-3
    assert errors.abs().max() < 5e-3


def test_what_is_off_centre_differs_by_the_prior_alone() -> None:
    """log p misses the truth by what the prior's density does, at the end of the exact flow."""
    problem, sde = gaussian(mean=2.0), registry.create("sde", "vp")
    x = problem.draw(noise(12))
    start, end = (torch.tensor(t, dtype=torch.float64) for t in (1e-5, 1.0))
    x_T, sigma = problem.flow(sde, sde.alpha(start) * x, start, end), sde.sigma(end)
    prior = -0.5 * (x_T.square().sum(1) / sigma**2 + 12 * torch.log(2.0 * math.pi * sigma**2))
    mismatch = prior - problem.log_density(sde, x_T, end)
    errors = BitsPerDim().log_prob(problem.model(sde), x=x) - problem.log_density(None, x, None)
    assert mismatch.abs().max() > 10 * (errors - mismatch).abs().max()
    assert (errors - mismatch).abs().max() < 1e-3 * 12 * math.log(2.0)


class TestModels:
    """Whatever the model offers, in whatever shape and precision, the density is the same."""

    problem = mixture(8)
    sde = registry.create("sde", "sub-vp")

    def expected(self, count: int = 5) -> tuple[Tensor, Tensor]:
        x = self.problem.draw(noise(count, seed=3))
        return x, BitsPerDim().log_prob(self.problem.model(self.sde), x=x)

    def test_score_and_denoiser(self) -> None:
        class ScoreModel(Model):
            offers = frozenset({"score"})

            def score(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
                return TestModels.problem.score(TestModels.sde, x, t)

        x, expected = self.expected()
        for model, score in (
            (None, lambda y, t: self.problem.score(self.sde, y, t)),
            (ScoreModel(), None),
            (lambda y, t: self.problem.denoise(self.sde, y, t), None),
        ):
            found = BitsPerDim().log_prob(model, score=score, sde=self.sde, x=x)
            assert torch.allclose(found, expected, atol=1e-3)

    @pytest.mark.parametrize("shape", [(8,), (2, 4), (2, 2, 2), (1, 2, 2, 2)])
    def test_shapes(self, shape: tuple[int, ...]) -> None:
        x, expected = self.expected()
        found = BitsPerDim().log_prob(self.problem.model(self.sde), x=x.reshape(-1, *shape))
        assert torch.allclose(found, expected, atol=1e-9)

    def test_float32_is_asked_and_answered_in_float32(self) -> None:
        seen = set()

        def denoise(y: Tensor, t: Tensor) -> Tensor:
            seen.add(y.dtype)
            return self.problem.denoise(self.sde, y, t)

        x, expected = self.expected()
        found = BitsPerDim().log_prob(denoise, sde=self.sde, x=x.to(torch.float32))
        assert found.dtype == torch.float32
        assert seen == {torch.float32}
        assert torch.allclose(found.to(torch.float64), expected, atol=2e-3)

    def test_batches_do_not_matter(self) -> None:
        x, expected = self.expected(9)
        found = BitsPerDim(batch_size=4).log_prob(self.problem.model(self.sde), x=x)
        assert torch.allclose(found, expected, rtol=1e-9)
        few = BitsPerDim(batch_size=4).log_prob(self.problem.model(self.sde), x=x, probes=3, seed=5)
        many = BitsPerDim().log_prob(self.problem.model(self.sde), x=x, probes=3, seed=5)
        assert torch.allclose(few, many, rtol=1e-9)

    def test_labels(self) -> None:
        model = LabelledModel(problem=self.problem, sde=registry.create("sde", PROCESSES["flow"]))
        x, _ = self.expected()
        label = torch.tensor([0, 1, 2, 1, 0])
        found = BitsPerDim().log_prob(model, x=x, label=label)
        for n, k in enumerate(label.tolist()):
            part = error_in_bits(model.component(k), found[n : n + 1], x[n : n + 1])
            assert part.abs().max() < 5e-3  # off centre

    def test_no_graph_and_no_global_random_state(self) -> None:
        before = torch.random.get_rng_state()
        with torch.no_grad():
            x, _ = self.expected()
            found = BitsPerDim().log_prob(self.problem.model(self.sde), x=x.requires_grad_(), probes=1)
        assert not found.requires_grad
        assert torch.equal(torch.random.get_rng_state(), before)


class TestProbes:
    problem = gaussian()
    sde = registry.create("sde", "vp")

    def coverage(self, seeds: range) -> float:
        """How often 1.96 standard errors hold the exact mean over four examples."""
        model, x = self.problem.model(self.sde), self.problem.draw(noise(4))
        metric = BitsPerDim(tolerance=1e-4)
        truth = metric.log_prob(model, x=x).mean()
        held = 0
        for seed in seeds:
            found = metric.log_prob_estimates(model, x=x, probes=16, seed=seed)
            error = (found.var(1).mean() / found.numel()).sqrt()
            held += bool((found.mean() - truth).abs() < 1.96 * error)
        return held / len(seeds)

    def test_the_interval_covers_the_truth(self) -> None:
        # With a rate of 95 %, a count below 16 of 20 has a chance of 0.3 %.
        assert self.coverage(range(20)) >= 0.8

    @pytest.mark.prove
    def test_the_interval_covers_the_truth_at_its_stated_rate(self) -> None:
        # Of 100, with a standard deviation of 2.2 %.
        assert 0.89 <= self.coverage(range(100)) <= 1.0

    def test_the_part_of_the_probes_in_the_error_of_a_run(self) -> None:
        spec = DataSpec(shape=(12,))
        context = MetricContext(model=self.problem.model(self.sde), sde=self.sde, spec=spec)
        batch = Batch(x=self.problem.draw(noise(40)), index=torch.arange(40), source="held-out")

        def figure(probes: int) -> Measurement:
            metric = BitsPerDim(probes=probes, tolerance=1e-4)
            return metric.finish(metric.update(metric.start(context), batch, noise(40)))

        few, more, exact = figure(2), figure(11), figure(12)
        assert exact.details["divergence"] == "exact"
        assert exact.details["probe_error"] is None
        for found in (few, more):
            assert abs(found.value - exact.value) < 3.5 * found.details["probe_error"]
        ratio = few.details["probe_error"] / more.details["probe_error"]
        assert ratio == pytest.approx(math.sqrt(11 / 2), rel=0.25)

    def test_probes_are_signs_of_the_seed_and_of_the_example(self) -> None:
        model, x = self.problem.model(self.sde), self.problem.draw(noise(4))
        estimates = [BitsPerDim().log_prob_estimates(model, x=x, probes=4, seed=seed) for seed in (0, 0, 1)]
        assert torch.equal(estimates[0], estimates[1])
        assert estimates[0].shape == (4, 4)
        flat = torch.cat((estimates[0], estimates[2])).flatten()
        assert len(flat.unique()) == 32
        # A divergence that is a sum of squares of the elements alone has no error with signs.
        diagonal = GaussianProblem(mean=torch.zeros(5), covariance=torch.diag(torch.linspace(0.1, 1.0, 5)))
        y = diagonal.draw(noise(3))
        signs = BitsPerDim().log_prob(diagonal.model(self.sde), x=y, probes=1)
        assert torch.allclose(signs, BitsPerDim().log_prob(diagonal.model(self.sde), x=y), rtol=1e-6)


@attrs.frozen(kw_only=True, eq=False)
class Affine(Dataset):
    """Levels around the middle of the range, two channels, any affine units."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    levels: int | None = 32
    count: int = 300

    def spec(self) -> DataSpec:
        return DataSpec(shape=(2, 2, 2), levels=self.levels, scale=self.scale, offset=self.offset, classes=2)

    def load(self, split: SplitName) -> Examples:
        drawn = noise(self.count, seed=7).stream(split).normal((self.count, 2, 2, 2), dtype=torch.float64)
        raw = 15.0 + 2.0 * drawn
        if self.levels is not None:
            raw = raw.round().clamp(0, self.levels - 1).to(torch.uint8)
        return Examples(raw=raw, label=torch.arange(self.count) % 2)


def model_of(dataset: Affine, sde: GaussianSDE, variance: float = 4.0) -> Model:
    """N(14.6, variance) for every raw element, encoded."""
    like = torch.zeros(2, 2, 2, dtype=torch.float64)
    scale = torch.tensor(dataset.scale, dtype=torch.float64).reshape(-1, 1, 1) + like
    offset = torch.tensor(dataset.offset, dtype=torch.float64).reshape(-1, 1, 1) + like
    return GaussianProblem(
        mean=(scale * 14.6 + offset).flatten(), covariance=torch.diag((scale**2 * variance).flatten())
    ).model(sde)


def measured(
    dataset: Affine, metric: BitsPerDim, sde: GaussianSDE, tmp_path: Path, **options: Any
) -> Measurement:
    """The figure of a run, with samples that must not be looked at."""
    evaluation = Evaluation(
        dataset=dataset,
        metrics={"bits": metric},
        features=Pixels(),
        count=1000,
        seed=0,
        cache=tmp_path,
    )
    refused = (pytest.fail("no samples are needed") for _ in range(1))
    registry.current()  # loaded before data sets are named
    return evaluation.run(model_of(dataset, sde, **options), refused)["bits"]


STANDARD = {"scale": (2.0 / 32,), "offset": (1.0 / 32 - 1.0,)}


class TestFigures:
    sde = registry.create("sde", PROCESSES["flow"])

    @pytest.mark.parametrize("variance", [4.0, 0.2])
    def test_bits_of_levels_under_a_gaussian(self, variance: float, tmp_path: Path) -> None:
        """E_u (k + u - 1/2 - m)^2 = (k - m)^2 + 1/12; in a narrow law the offset of u counts."""
        dataset = Affine(**STANDARD)
        found = measured(dataset, BitsPerDim(count=300), self.sde, tmp_path, variance=variance)
        distance = dataset.load("test").raw.to(torch.float64) - 14.6
        nats = 0.5 * ((distance**2 + 1.0 / 12) / variance + math.log(2.0 * math.pi * variance))
        # The variance of (d + u)^2 over u is d^2/3 + 1/180.
        spread = 0.5 / variance * (distance**2 / 3 + 1.0 / 180).sum().sqrt() / distance.numel()
        assert found.count == 300
        assert abs(found.value - float(nats.mean()) / math.log(2.0)) < 4 * float(spread) + 1e-3
        assert found.details["unit"] == "bits/dim"

    @pytest.mark.parametrize(
        "units",
        [
            {"scale": (1.0,), "offset": (-15.0,)},
            {"scale": (0.02, 0.11), "offset": (-0.5, -1.5)},
            {"scale": (-2.0 / 32,), "offset": (1.0 - 1.0 / 32,)},
        ],
        ids=["raw", "channels", "mirrored"],
    )
    def test_units_do_not_matter(self, units: dict[str, Any], tmp_path: Path) -> None:
        """The same levels, noise and law in other units: the same bits."""
        metric = BitsPerDim(count=40, probes=8)
        expected = measured(Affine(**STANDARD), metric, self.sde, tmp_path)
        found = measured(Affine(**units), metric, self.sde, tmp_path)
        assert found.value == pytest.approx(expected.value, abs=0.02)  # an unlike prior divergence
        assert found.error == pytest.approx(expected.error, rel=0.02)

    def test_continuous_data_have_a_density_in_raw_units(self, tmp_path: Path) -> None:
        dataset = Affine(**STANDARD, levels=None)
        found = measured(dataset, BitsPerDim(count=1000), self.sde, tmp_path)
        distance = dataset.load("test").raw - 14.6
        nats = 0.5 * (distance**2 / 4.0 + math.log(2.0 * math.pi * 4.0))
        assert found.value == pytest.approx(float(nats.mean()) / math.log(2.0), abs=1e-3)
        each = nats.flatten(1).mean(1) / math.log(2.0)
        assert found.error == pytest.approx(float(each.std()) / math.sqrt(len(each)), rel=1e-3)
        assert found.details["unit"] == "bits/dim, of a density"
        assert found.details["dequantisation"] is None

    def test_a_few_are_a_fair_choice(self, tmp_path: Path) -> None:
        dataset = Affine(**STANDARD, levels=None)
        found = measured(dataset, BitsPerDim(count=30), self.sde, tmp_path)
        whole = measured(dataset, BitsPerDim(count=300), self.sde, tmp_path)
        first = measured(attrs.evolve(dataset, count=30), BitsPerDim(count=30), self.sde, tmp_path)
        assert (found.count, whole.count, first.count) == (30, 300, 30)
        assert found.value != first.value
        assert abs(found.value - whole.value) < 3 * found.error

    def test_details(self, tmp_path: Path) -> None:
        dataset, sde = Affine(**STANDARD), registry.create("sde", "vp")
        found = measured(dataset, BitsPerDim(count=20, probes=4), sde, tmp_path)
        details, width = found.details, 2.0 / 32
        assert details["sigma_end"] == pytest.approx(1e-3, rel=1e-9)
        assert details["sigma_in_level_widths"] == pytest.approx(1e-3 / width, rel=1e-9)
        assert details["divergence"] == "4 Rademacher probes"
        assert 0.0 <= details["probe_error"] < found.error
        assert details["reference"].startswith("held-out, beside ")
        B = 0.5 * (0.1 + 20.0)
        x = dataset.encode(dataset.load("test").raw)
        bound = 0.5 * math.exp(-B) / -math.expm1(-B) * float(x.square().mean()) / math.log(2.0)
        assert details["prior_divergence"] == pytest.approx(bound, rel=0.2)

    def test_with_labels(self, tmp_path: Path) -> None:
        problem = MixtureProblem(
            weights=[0.5, 0.5],
            means=torch.stack([torch.full((8,), -0.5), torch.full((8,), 0.5)]),
            variances=[0.1, 0.1],
        )
        spec = DataSpec(shape=(2, 2, 2), classes=2)
        context = MetricContext(model=LabelledModel(problem=problem, sde=self.sde), sde=self.sde, spec=spec)
        label = torch.arange(40) % 2
        x = problem.draw(noise(40), (2, 2, 2))
        for conditional, expected in (
            (
                True,
                -0.5
                * (((x.flatten(1) - (label[:, None] - 0.5)) ** 2 / 0.1).sum(1) + 8 * math.log(0.2 * math.pi)),
            ),
            (False, problem.log_density(None, x, None)),
        ):
            metric = BitsPerDim(conditional=conditional, probes=8)
            batch = Batch(x=x, index=torch.arange(40), label=label, source="held-out")
            found = metric.finish(metric.update(metric.start(context), batch, noise(40)))
            bits = -expected / (8 * math.log(2.0))
            assert found.value == pytest.approx(float(bits.mean()), abs=2e-3)


@attrs.frozen
class Drifting(SDE):
    """No alpha, no sigma."""

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return -x

    def diffusion(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def prior(self, shape: Any, noise: Noise, dtype: Any = None, device: Any = None) -> Tensor:
        return noise.normal(shape, dtype=dtype, device=device)


@attrs.frozen
class Elsewhere(GaussianSDE):
    """It starts from another law."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1.0 - t

    def sigma(self, t: Tensor) -> Tensor:
        return 1.0 * t

    def prior(self, shape: Any, noise: Noise, dtype: Any = None, device: Any = None) -> Tensor:
        return noise.uniform(shape, dtype=dtype, device=device)


class EnergyModel(Model):
    offers = frozenset({"energy"})

    def energy(self, x: Tensor) -> Tensor:
        return x.square().flatten(1).sum(1)


def findings(*components: Any, **known: Any) -> list[compatibility.Finding]:
    chosen = compatibility.Selection.of(BitsPerDim(), *components, **known)
    return compatibility.check(chosen)


class TestRefusals:
    x = torch.zeros(2, 4)

    def test_processes_and_models_without_a_likelihood(self) -> None:
        with pytest.raises(IncompatibleError, match="rests on marginals"):
            BitsPerDim().log_prob(lambda x, t: x, sde=Drifting(), x=self.x)
        with pytest.raises(IncompatibleError, match="a prior of its own"):
            BitsPerDim().log_prob(lambda x, t: x, sde=Elsewhere(), x=self.x)
        with pytest.raises(IncompatibleError, match="neither a denoiser nor a score"):
            BitsPerDim().log_prob(EnergyModel(), sde="vp", x=self.x)

    def test_guidance(self) -> None:
        """Refused where the conditioner bends the law; the plain conditional model has one."""
        guided = registry.create("conditioner", "class-guidance", label=1, scale=2.0)
        plain = registry.create("conditioner", "class-guidance", label=1, scale=1.0)
        (found,) = [f for f in findings(guided, registry.create("sde", "vp")) if f.status == "refused"]
        assert found.subject == "bits-per-dim"
        assert "class-guidance" in found.reason
        assert "sampling.conditioners" in found.remedy
        assert not findings(plain, registry.create("sde", "vp"))

    def test_labels(self) -> None:
        words = frozenset({"model.denoise"})
        (found,) = findings(model=words | {"model.labels"})
        assert "conditional: true" in found.remedy
        conditional = compatibility.Selection.of(
            BitsPerDim(conditional=True), model=words | {"model.unconditional"}
        )
        (found,) = compatibility.check(conditional)
        assert "without labels" in found.reason

    @pytest.mark.parametrize(
        "sde, levels, status",
        [
            ("vp", 256, None),
            ("ve", 17, None),
            ("ve", 256, "caveat"),
            ({"name": "vp", "schedule": "offset-cosine"}, 17, "refused"),
            ({"name": "vp", "schedule": "offset-cosine"}, None, None),
        ],
    )
    def test_noise_against_the_width_of_a_level(
        self, sde: Any, levels: int | None, status: str | None
    ) -> None:
        scale = 1.0 if levels is None else 2.0 / levels
        dataset = Affine(scale=(scale,), offset=(-1.0,), levels=levels)
        process = registry.create("sde", sde)
        wide = attrs.evolve(dataset, scale=(scale, 10.0 * scale))
        assert BitsPerDim()._in_level_widths(process, wide.spec()) == BitsPerDim()._in_level_widths(
            process, dataset.spec()
        )
        said = [found.status for found in findings(dataset, process) if found.subject == "bits-per-dim"]
        assert said == ([] if status is None else [status])
        context = MetricContext(model=model_of(dataset, process), sde=process, spec=dataset.spec())
        if status == "refused":
            with pytest.raises(IncompatibleError, match="times the width of a level"):
                BitsPerDim().start(context)
        else:
            BitsPerDim().start(context)

    def test_examples_that_are_none(self) -> None:
        for x in (torch.zeros(2, 4, dtype=torch.int64), torch.zeros(4), torch.zeros(0, 4)):
            with pytest.raises(DataError, match="floating point"):
                BitsPerDim().log_prob(lambda y, t: y, sde="vp", x=x)
        with pytest.raises(DataError, match="NaN"):
            BitsPerDim().log_prob(lambda y, t: y, sde="vp", x=torch.full((1, 4), math.nan))
        dataset = Affine(**STANDARD)
        sde = registry.create("sde", "vp")
        metric = BitsPerDim()
        state = metric.start(MetricContext(model=model_of(dataset, sde), sde=sde, spec=dataset.spec()))
        with pytest.raises(DataError, match="0 held-out example"):
            metric.finish(state)
        samples = Batch(x=torch.zeros(3, 2, 2, 2), index=torch.arange(3), source="samples")
        with pytest.raises(DataError, match="0 held-out example"):
            metric.finish(metric.update(state, samples, noise(3)))


@parametrize_with_laws(
    "metric",
    [{"name": "bits-per-dim", "count": 12}, {"name": "bits-per-dim", "count": 5, "conditional": True}],
)
def test_laws(law: Law, component: Any) -> None:
    law(component)
