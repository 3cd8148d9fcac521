"""Classifier guidance with exact classifiers, where Bayes' rule says what must come out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

import diffkit
from diffkit import compatibility
from diffkit.errors import CheckpointError, ConfigError, IncompatibleError
from diffkit.interfaces.conditioner import Conditioner
from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.testing.exact import LabelledModel, MixtureProblem
from diffkit_standard.conditioners.class_guidance import ClassGuidance
from diffkit_standard.conditioners.classifier_guidance import ClassifierGuidance
from diffkit_standard.schedules.cosine import Cosine
from diffkit_standard.sdes.vp import VP

SDE = VP()
PARTS = [
    MixtureProblem(weights=[1.0], means=[[-1.2, 0.4]], variances=[0.1]),
    MixtureProblem(weights=[0.3, 0.7], means=[[0.9, -0.3], [1.4, 0.9]], variances=[0.2, 0.05]),
    MixtureProblem(weights=[1.0], means=[[0.1, 1.6]], variances=[0.15]),
]
SHARES = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
EVERYTHING = MixtureProblem(
    weights=torch.cat([share * part.weights for share, part in zip(SHARES, PARTS, strict=True)]),
    means=torch.cat([part.means for part in PARTS]),
    variances=torch.cat([part.variances for part in PARTS]),
)
NOISE = Noise(seed=4, index=torch.arange(6))
T = torch.tensor(0.35, dtype=torch.float64)


class Bayes(Model):
    """The exact p(y | x_t) of the three classes; counts its calls."""

    offers = frozenset({"logits"})

    def __init__(self, sde: GaussianSDE | None = SDE, classes: int | None = 3) -> None:
        self.sde, self.classes, self.passes = sde, classes, 0

    def logits(self, x: Tensor, t: Tensor) -> Tensor:
        assert self.sde is not None
        self.passes += len(x)
        joint = [part.log_density(self.sde, x, t) for part in PARTS]
        return torch.stack(joint, dim=1) + SHARES.log().to(x) + 3.0  # a constant that must not matter


def guidance(**fields: Any) -> ClassifierGuidance:
    return ClassifierGuidance(**{"classifier": Bayes(), "label": 1, **fields})


def guided(bend: Conditioner, x: Tensor, t: Tensor = T, sde: GaussianSDE = SDE) -> Tensor:
    return Problem.build(EVERYTHING.model(sde), sde, (t,), NOISE.index, x, (bend,)).denoise(x, t)


@pytest.mark.parametrize("name", ["vp", "sub-vp", "ve", "flow"])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_by_bayes_rule_the_scale_1_is_the_law_of_the_class(name: str, label: int) -> None:
    sde = diffkit.create("sde", name)
    bend = guidance(classifier=Bayes(sde), label=label)
    times = torch.linspace(sde.t_min + 0.05, sde.t_max - 0.05, 6, dtype=torch.float64)
    x = EVERYTHING.draw_at(sde, times, NOISE)
    expected = PARTS[label].denoise(sde, x, times)
    torch.testing.assert_close(guided(bend, x, times, sde), expected, rtol=1e-8, atol=1e-8)
    for t in times:
        expected = PARTS[label].denoise(sde, x, t)
        torch.testing.assert_close(guided(bend, x, t, sde), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("scale", [0.5, 2.0, 7.5])
def test_any_other_scale_is_that_many_times_the_way(scale: float) -> None:
    x = EVERYTHING.draw_at(SDE, T, NOISE)
    bare, of_class = EVERYTHING.denoise(SDE, x, T), PARTS[1].denoise(SDE, x, T)
    torch.testing.assert_close(guided(guidance(scale=scale), x), bare + scale * (of_class - bare))


def test_a_score_is_guided_like_a_denoiser() -> None:
    exact = EVERYTHING.model(SDE)
    options: dict[str, Any] = {"sde": SDE, "sampler": "ddim", "steps": 6, "shape": (4, 2), "seed": 1}
    options |= {"dtype": torch.float64, "conditioners": [guidance(scale=2.0)]}
    by_score = diffkit.sample(score=exact.score, **options).x
    torch.testing.assert_close(by_score, diffkit.sample(exact, **options).x, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    "sampler", [{"name": "dpm-solver++", "order": 2}, {"name": "dpm-solver++", "variant": "sde"}]
)
def test_samples_follow_the_law_of_their_class(sampler: Any) -> None:
    """Mean, covariance, and how often each bump of the class is met, within five standard errors."""
    count = 4000
    x = _sample([guidance()], sampler=sampler, steps=80, shape=(count, 2), batch_size=count).x
    mean, covariance = PARTS[1].moments(None, None)
    centred = x - x.mean(0)
    found = centred.T @ centred / count
    fourth = torch.einsum("ni,nj->nij", centred, centred).var(0)
    assert ((x.mean(0) - mean).abs() < 5.0 * (covariance.diagonal() / count).sqrt() + 0.01).all()
    assert ((found - covariance).abs() < 5.0 * (fourth / count).sqrt() + 0.01).all()
    bumps = [
        MixtureProblem(weights=[1.0], means=PARTS[1].means[k : k + 1], variances=[v])
        for k, v in enumerate((0.2, 0.05))
    ]
    joint = torch.stack([bump.log_density(None, x, None) for bump in bumps], 1) + PARTS[1].weights.log()
    share = torch.softmax(joint, dim=1)[:, 0]
    assert abs(float(share.mean()) - 0.3) < 5.0 * float(share.std()) / count**0.5


def test_each_class_comes_where_it_is_asked_for() -> None:
    result = _sample([guidance(label="each")], shape=(30, 2), steps=60, first=1)
    assert result.label.tolist() == [(number + 1) % 3 for number in range(30)]
    densities = torch.stack([part.log_density(None, result.x, None) for part in PARTS])
    assert densities.argmax(0).tolist() == result.label.tolist()


@pytest.mark.parametrize("scale", [0.0, ((0.0, 0.0), (1.0, 0.0)), ((0.0, 0.0), (0.99, 0.0), (1.0, 3.0))])
@pytest.mark.parametrize("sampler", ["ddim", "euler-maruyama", "adams", "predictor-corrector"])
def test_no_strength_is_no_conditioner_bit_by_bit(scale: Any, sampler: str) -> None:
    start = EVERYTHING.draw_at(SDE, torch.tensor(0.9, dtype=torch.float64), NOISE)
    options: dict[str, Any] = {"sampler": sampler, "steps": 8, "x_init": start, "start": 0.9, "shape": None}
    classifier = Bayes()
    bent = _sample([guidance(scale=scale, classifier=classifier)], **options)
    assert torch.equal(bent.x, _sample([], **options).x)
    assert classifier.passes == 0
    assert bent.label.tolist() == [1] * 6


def test_outside_its_interval_nothing_is_done() -> None:
    x, bend = EVERYTHING.draw_at(SDE, T, NOISE), guidance(scale=2.0, interval=(0.3, 0.6))
    low = torch.tensor(0.2, dtype=torch.float64)
    assert torch.equal(guided(bend, x, low), EVERYTHING.denoise(SDE, x, low))
    torch.testing.assert_close(guided(bend, x), guided(guidance(scale=2.0), x), rtol=0.0, atol=0.0)
    times = torch.tensor([0.1, 0.3, 0.45, 0.6, 0.7, 0.9], dtype=torch.float64)
    inside = torch.tensor([0, 1, 1, 1, 0, 0], dtype=torch.bool)[:, None]
    expected = torch.where(inside, guided(guidance(scale=2.0), x, times), EVERYTHING.denoise(SDE, x, times))
    torch.testing.assert_close(guided(bend, x, times), expected)


def test_a_scale_that_varies_is_linear_between_its_knots() -> None:
    x, bend = EVERYTHING.draw_at(SDE, T, NOISE), guidance(scale=((0.2, 1.0), (0.4, 3.0)))
    torch.testing.assert_close(guided(bend, x), guided(guidance(scale=2.5), x))


def test_it_composes_with_class_guidance_in_either_order() -> None:
    """D = D_u + s (D_c - D_u) + w (sigma^2/alpha) grad log p, the last being w (D_c - D_u) here."""
    mixture = MixtureProblem(weights=SHARES, means=[[-1.0, 0.0], [1.0, 0.5], [0.0, 1.5]], variances=[0.2] * 3)
    model = LabelledModel(problem=mixture, sde=SDE)
    x = mixture.draw_at(SDE, T, NOISE)
    by_class, by_classifier = (
        ClassGuidance(label=2, scale=3.0),
        guidance(classifier=model, label=0, scale=2.0),
    )
    bare = mixture.denoise(SDE, x, T)
    expected = bare + 3.0 * (model.component(2).denoise(SDE, x, T) - bare)
    expected = expected + 2.0 * (model.component(0).denoise(SDE, x, T) - bare)
    for bends in ((by_class, by_classifier), (by_classifier, by_class)):
        found = Problem.build(model, SDE, (T,), NOISE.index, x, bends).denoise(x, T)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("sampler", ["ddim", {"name": "probability-flow", "method": "rk45"}])
def test_a_sample_s_label_is_its_own_in_any_batch(sampler: Any) -> None:
    """Adaptive steps leave some rows behind; their labels must stay with them."""
    bend = guidance(label=(0, 1, 2, 1))
    whole = _sample([bend], sampler=sampler, shape=(6, 2))
    alone = _sample([bend], sampler=sampler, shape=(6, 2), batch_size=1)
    torch.testing.assert_close(whole.x, alone.x, rtol=1e-7, atol=1e-7)


def test_passes_of_the_model_are_counted_and_those_of_the_classifier_are_not() -> None:
    classifier = Bayes()
    assert _sample([guidance(classifier=classifier)], steps=8).nfe == 8
    assert classifier.passes == 8 * 4


def test_single_precision_stays_single() -> None:
    result = _sample([guidance()], dtype=torch.float32)
    assert result.x.dtype == torch.float32
    torch.testing.assert_close(result.x.double(), _sample([guidance()]).x, rtol=1e-3, atol=1e-3)


def test_the_guided_denoiser_can_be_differentiated() -> None:
    """Methods that follow a measurement through the denoiser see the guidance too."""
    x = EVERYTHING.draw_at(SDE, T, NOISE)
    problem = Problem.build(EVERYTHING.model(SDE), SDE, (T,), NOISE.index, x, (guidance(scale=2.0),))
    point = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(problem.denoise(point, T).sum(), point)
    step = 1e-5
    for element in range(2):
        shift = step * torch.nn.functional.one_hot(torch.tensor(element), 2)
        slope = (problem.denoise(x + shift, T) - problem.denoise(x - shift, T)).sum(1) / (2.0 * step)
        torch.testing.assert_close(gradient[:, element], slope, rtol=1e-5, atol=1e-6)


def test_it_works_in_inference_mode() -> None:
    with torch.inference_mode():
        inside = _sample([guidance()]).x
    torch.testing.assert_close(inside, _sample([guidance()]).x, rtol=0.0, atol=0.0)


def test_how_exact_it_is() -> None:
    assert guidance().exactness == "exact"
    assert guidance(scale=((0.0, 1.0), (1.0, 1.0))).exactness == "exact"
    for fields in ({"scale": 2.0}, {"interval": (0.1, 0.5)}, {"scale": 0.0}):
        assert guidance(**fields).exactness == "approximate"


SAMPLERS = [info.name for info in diffkit.components("sampler") if info.distribution == "diffkit"]


@pytest.mark.parametrize("process", ["vp", "sub-vp", "ve", "flow"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_it_runs_with_every_process_and_sampler_that_go_together(process: str, sampler: str) -> None:
    sde, method = diffkit.create("sde", process), diffkit.create("sampler", sampler)
    bend = guidance(classifier=Bayes(sde))
    options: dict[str, Any] = {"sampler": method, "steps": 20, "shape": (2, 2), "dtype": torch.float64}
    alone, together = (
        any(
            finding.status == "refused"
            for finding in compatibility.check(compatibility.Selection.of(*chosen))
        )
        for chosen in ((sde, method), (sde, method, bend))
    )
    assert alone == together
    if together:
        with pytest.raises(IncompatibleError):
            diffkit.sample(EVERYTHING.model(sde), conditioners=[bend], **options)
    else:
        result = diffkit.sample(EVERYTHING.model(sde), conditioners=[bend], **options).x
        assert result.isfinite().all()
        assert not torch.equal(result, diffkit.sample(EVERYTHING.model(sde), **options).x)


class Untouched(Model):
    """A model that must not be asked."""

    offers = frozenset({"denoise"})
    classes = 3
    sde = SDE
    capabilities = frozenset({"model.labels"})

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        raise AssertionError("sampling began")


class NoClassifier(Untouched):
    """Something without logits."""


@pytest.mark.parametrize(
    "fields, reason",
    [
        ({"classifier": Bayes(VP(schedule=Cosine()))}, "trained on VP.*Cosine.*and the samples come by VP"),
        ({"classifier": Bayes(diffkit.create("sde", "flow"))}, "trained on Flow"),
        ({"classifier": Bayes(classes=4)}, "number of classes, 4, that is not the model's, 3"),
        ({"classifier": Bayes(classes=None)}, "does not say how many classes"),
        ({"classifier": NoClassifier()}, "NoClassifier is no classifier"),
        ({"label": 3}, "label is 3, and there are classes 0 to 2"),
        ({"label": (0, 5)}, "there are classes 0 to 2"),
    ],
)
def test_what_does_not_fit_is_refused_before_sampling(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(IncompatibleError, match=reason):
        diffkit.sample(Untouched(), sampler="ddim", steps=3, shape=(2, 2), conditioners=[guidance(**fields)])


def test_an_unconditional_model_does_not_care_about_the_number_of_classes() -> None:
    class Unconditional(Untouched):
        classes = None

        def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
            return EVERYTHING.denoise(SDE, x, t)

    result = diffkit.sample(
        Unconditional(), sampler="ddim", steps=3, shape=(2, 2), conditioners=[guidance(label=2)]
    )
    assert result.label.tolist() == [2, 2]


def test_a_missing_classifier_names_the_path(tmp_path: Path) -> None:
    bend = {"name": "classifier-guidance", "classifier": str(tmp_path / "none"), "label": 0}
    with pytest.raises(CheckpointError, match=r"There is no .*none"):
        diffkit.sample(Untouched(), sampler="ddim", steps=3, shape=(2, 2), conditioners=[bend])


@pytest.mark.parametrize(
    "field, value",
    [
        ("scale", -1.0),
        ("scale", [[0.5, 1.0], [0.5, 2.0]]),
        ("interval", [0.6, 0.3]),
        ("label", -1),
        ("classifier", 3),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: Any) -> None:
    given = {"name": "classifier-guidance", "classifier": "somewhere", "label": 0, field: value}
    with pytest.raises(ConfigError, match=field):
        diffkit.create("conditioner", given)


def test_label_classifier_and_nothing_else_must_be_given() -> None:
    required = [field.name for field in attrs.fields(ClassifierGuidance) if field.default is attrs.NOTHING]
    assert required == ["classifier", "label"]


def _sample(conditioners: list[Conditioner], **options: Any) -> diffkit.sampling.SampleResult:
    given = {"sampler": "ddim", "steps": None if "sampler" in options else 8, "shape": (4, 2)} | options
    return diffkit.sample(
        EVERYTHING.model(SDE), **{"dtype": torch.float64, "conditioners": conditioners, **given}
    )


def test_a_classifier_of_data_in_other_units_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = diffkit.create("dataset", "digits")
    spec = digits.spec()
    description = {
        "capabilities": ["model.logits"],
        "classes": 10,
        "sde": "vp",
        "shape": [1, 8, 8],
        "spec": {"scale": list(spec.scale), "offset": list(spec.offset)},
    }
    monkeypatch.setattr("diffkit.checkpoint.read_description", lambda path: description)
    guidance = diffkit.create("conditioner", "classifier-guidance", classifier="somewhere", label=1)
    assert guidance.prepared(digits) == guidance
    other = diffkit.create("dataset", "normalized", dataset="digits", mean=[-0.4], std=[0.7])
    with pytest.raises(IncompatibleError, match="in other units"):
        guidance.prepared(other)
