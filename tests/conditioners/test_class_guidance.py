"""Class guidance on a mixture whose class-conditional and unconditional denoisers are known exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import diffkit
from diffkit import compatibility, registry
from diffkit.errors import ConfigError, IncompatibleError
from diffkit.interfaces.conditioner import Conditioner
from diffkit.interfaces.model import Model
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.registry import create
from diffkit.testing.exact import MixtureProblem
from diffkit_standard.conditioners.class_guidance import ClassGuidance
from diffkit_standard.sdes.vp import VP

SDE = VP()
CLASSES = [
    MixtureProblem(weights=[1.0], means=[[-1.2, 0.4]], variances=[0.1]),
    MixtureProblem(weights=[0.3, 0.7], means=[[0.9, -0.3], [1.4, 0.9]], variances=[0.2, 0.05]),
    MixtureProblem(weights=[1.0], means=[[0.1, 1.6]], variances=[0.15]),
]
SHARES = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
EVERYTHING = MixtureProblem(
    weights=torch.cat([share * part.weights for share, part in zip(SHARES, CLASSES, strict=True)]),
    means=torch.cat([part.means for part in CLASSES]),
    variances=torch.cat([part.variances for part in CLASSES]),
)
NOISE = Noise(seed=4, index=torch.arange(6))
T = torch.tensor(0.35, dtype=torch.float64)


class Exact(Model):
    """The denoisers of the classes, and of everything for the label -1; keeps the labels it is asked for."""

    classes = 3
    capabilities = frozenset({"model.labels", "model.unconditional"})
    sde = SDE

    def __init__(self, offer: str = "denoise") -> None:
        self.offers = frozenset({offer})
        self.asked: list[list[int]] = []

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self._row_by_row("denoise", x, t, label)

    def score(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self._row_by_row("score", x, t, label)

    def _row_by_row(self, what: str, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        label = torch.full((len(x),), -1) if label is None else label
        self.asked.append(label.tolist())
        rows = []
        for number, (row, which) in enumerate(zip(x.split(1), label.tolist(), strict=True)):
            law = EVERYTHING if which == -1 else CLASSES[which]
            rows.append(getattr(law, what)(SDE, row, t if t.ndim == 0 else t[number : number + 1]))
        return torch.cat(rows)


def guided(model: Model, guidance: ClassGuidance, x: Tensor, t: Tensor = T) -> tuple[Tensor, list[int]]:
    """D under guidance, and the calls it took."""
    problem = Problem.build(model, SDE, (t,), NOISE.index, x, (guidance,))
    return problem.denoise(x, t), problem.calls.tolist()


@pytest.mark.parametrize("scale", [0.5, 2.0, 7.5])
def test_the_prediction_is_led_from_the_unconditional_to_the_conditional(scale: float) -> None:
    x = EVERYTHING.draw_at(SDE, T, NOISE)
    found, calls = guided(Exact(), ClassGuidance(label=1, scale=scale), x)
    unconditional, conditional = EVERYTHING.denoise(SDE, x, T), CLASSES[1].denoise(SDE, x, T)
    torch.testing.assert_close(found, unconditional + scale * (conditional - unconditional))
    assert calls == [2] * 6


@pytest.mark.parametrize("scale, label, law", [(1.0, 2, CLASSES[2]), (0.0, -1, EVERYTHING)])
def test_scales_0_and_1_are_the_bare_model_bit_by_bit_at_one_call(
    scale: float, label: int, law: MixtureProblem
) -> None:
    x, model = EVERYTHING.draw_at(SDE, T, NOISE), Exact()
    found, calls = guided(model, ClassGuidance(label=2, scale=scale), x)
    assert calls == [1] * 6
    assert model.asked == [[label] * 6]
    torch.testing.assert_close(
        found, torch.cat([law.denoise(SDE, row, T) for row in x.split(1)]), rtol=0.0, atol=0.0
    )


def test_a_score_is_guided_like_a_denoiser() -> None:
    x, guidance = EVERYTHING.draw_at(SDE, T, NOISE), ClassGuidance(label=0, scale=3.0)
    by_score, _ = guided(Exact("score"), guidance, x)
    torch.testing.assert_close(by_score, guided(Exact(), guidance, x)[0], rtol=1e-9, atol=1e-9)


def test_labels_follow_the_global_index() -> None:
    bend = ClassGuidance(label=(2, 0))
    result = _sample([bend], shape=(5, 2), first=3)
    assert result.label.tolist() == [0, 2, 0, 2, 0]
    each = _sample([ClassGuidance(label="each")], shape=(5, 2), first=1)
    assert each.label.tolist() == [1, 2, 0, 1, 2]


@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize("sampler", ["ddim", {"name": "probability-flow", "method": "rk45"}])
def test_a_sample_s_label_is_its_own_in_any_batch(sampler: Any, scale: float) -> None:
    """Adaptive steps leave some rows behind; their labels must stay with them."""
    bend = ClassGuidance(label=(0, 1, 2, 1), scale=scale)
    whole = _sample([bend], sampler=sampler, shape=(6, 2))
    alone = _sample([bend], sampler=sampler, shape=(6, 2), batch_size=1)
    torch.testing.assert_close(whole.x, alone.x, rtol=1e-8, atol=1e-8)
    assert whole.nfe_per_sample.tolist() == alone.nfe_per_sample.tolist()


def test_conditional_samples_lie_in_their_class() -> None:
    result = _sample([ClassGuidance(label="each")], shape=(24, 2), steps=60)
    densities = torch.stack([law.log_density(None, result.x, None) for law in CLASSES])
    assert densities.argmax(0).tolist() == result.label.tolist()


def test_outside_its_interval_the_scale_is_1() -> None:
    bend = ClassGuidance(label=1, scale=4.0, interval=(0.3, 0.6))
    t = torch.tensor([0.1, 0.3, 0.45, 0.6, 0.61], dtype=torch.float64)
    assert bend.scale_at(t).tolist() == [1.0, 4.0, 4.0, 4.0, 1.0]
    x = EVERYTHING.draw_at(SDE, T, NOISE)
    low = torch.tensor(0.2, dtype=torch.float64)
    found, calls = guided(Exact(), bend, x, low)
    assert calls == [1] * 6
    torch.testing.assert_close(found, CLASSES[1].denoise(SDE, x, low))
    assert guided(Exact(), bend, x)[1] == [2] * 6


def test_a_scale_that_varies_is_linear_between_its_knots() -> None:
    bend = ClassGuidance(label=1, scale=((0.2, 1.0), (0.4, 3.0), (0.8, 0.0)))
    t = torch.tensor([0.0, 0.2, 0.3, 0.4, 0.5, 0.8, 1.0], dtype=torch.float64)
    expected = torch.tensor([1.0, 1.0, 2.0, 3.0, 2.25, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(bend.scale_at(t), expected)
    for place in range(len(t)):
        torch.testing.assert_close(bend.scale_at(t[place]), expected[place])
    x = EVERYTHING.draw_at(SDE, T, NOISE)
    unconditional, conditional = EVERYTHING.denoise(SDE, x, T), CLASSES[1].denoise(SDE, x, T)
    found, calls = guided(Exact(), bend, x)
    torch.testing.assert_close(found, unconditional + 2.5 * (conditional - unconditional))
    assert calls == [2] * 6
    assert guided(Exact(), bend, x, t[1])[1] == [1] * 6
    assert guided(Exact(), bend, x, t[5])[1] == [1] * 6


def test_a_varying_scale_in_an_interval_and_at_times_of_each_sample() -> None:
    bend = ClassGuidance(label=1, scale=((0.0, 2.0), (1.0, 4.0)), interval=(0.25, 1.0))
    times = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9, 1.0], dtype=torch.float64)
    x = EVERYTHING.draw_at(SDE, T, NOISE)
    found, _ = guided(Exact(), bend, x, times)
    scale = torch.tensor([1.0, 2.6, 3.0, 3.4, 3.8, 4.0], dtype=torch.float64)[:, None]
    unconditional, conditional = EVERYTHING.denoise(SDE, x, times), CLASSES[1].denoise(SDE, x, times)
    torch.testing.assert_close(found, unconditional + scale * (conditional - unconditional))


def test_a_constant_scale_given_by_knots_is_that_constant() -> None:
    flat = _sample([ClassGuidance(label=0, scale=((0.5, 2.0),))])
    torch.testing.assert_close(flat.x, _sample([ClassGuidance(label=0, scale=2.0)]).x, rtol=0.0, atol=0.0)


def test_a_configuration_may_write_the_knots_as_lists() -> None:
    bend = registry.create("conditioner", {"name": "class-guidance", "label": 1, "scale": [[0, 1], [1, 3.5]]})
    assert bend == ClassGuidance(label=1, scale=((0.0, 1.0), (1.0, 3.5)))
    assert registry.create("conditioner", {"name": "class-guidance", "label": 1, "scale": 2}).scale == 2.0


@pytest.mark.parametrize(
    "scale, interval, exactness, needs",
    [
        (1.0, None, "exact", ["model.labels"]),
        (((0.0, 1.0), (1.0, 1.0)), None, "exact", ["model.labels"]),
        (0.0, None, "exact", ["model.labels", "model.unconditional"]),
        (0.0, (0.0, 0.5), "approximate", ["model.labels", "model.unconditional"]),
        (3.0, None, "approximate", ["model.labels", "model.unconditional"]),
        (((0.0, 1.0), (1.0, 2.0)), None, "approximate", ["model.labels", "model.unconditional"]),
    ],
)
def test_what_it_needs_and_how_exact_it_is(
    scale: Any, interval: tuple[float, float] | None, exactness: str, needs: list[str]
) -> None:
    bend: Conditioner = ClassGuidance(label=0, scale=scale, interval=interval)
    assert bend.exactness == exactness
    assert [requirement.capability for requirement in bend.requires] == needs
    conditional_only = frozenset({"model.denoise", "model.labels"})
    findings = compatibility.check(compatibility.Selection.of(bend, model=conditional_only))
    assert any(finding.status == "refused" for finding in findings) == (len(needs) == 2)


@pytest.mark.parametrize("label", [3, (0, 5)])
def test_a_label_out_of_range_names_the_classes(label: Any) -> None:
    with pytest.raises(IncompatibleError, match="classes 0 to 2"):
        _sample([ClassGuidance(label=label)])


@pytest.mark.parametrize("label", [-1, (), (1, -2)])
def test_a_label_is_a_class(label: Any) -> None:
    with pytest.raises(ConfigError, match="a label is a class"):
        create("conditioner", "class-guidance", label=label)


@pytest.mark.parametrize(
    "field, value",
    [
        ("scale", -1.0),
        ("scale", [[0.0, 1.0], [0.5, -2.0]]),
        ("scale", [[0.5, 1.0], [0.5, 2.0]]),
        ("scale", [[0.0, 1.0], [1.5, 2.0]]),
        ("scale", []),
        ("interval", [0.6, 0.3]),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        registry.create("conditioner", {"name": "class-guidance", "label": 0, field: value})


def _sample(conditioners: list[Conditioner], **options: Any) -> diffkit.sampling.SampleResult:
    given = {"sampler": "ddim", "steps": None if "sampler" in options else 8, "shape": (4, 2)} | options
    return diffkit.sample(Exact(), dtype=torch.float64, conditioners=conditioners, **given)
