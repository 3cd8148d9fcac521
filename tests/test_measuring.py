"""One pass for all metrics: who sees what, how often features are computed, what batches hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from diffkit import measuring
from diffkit.batch import Batch
from diffkit.errors import ConfigError, DataError
from diffkit.interfaces.features import FeatureExtractor
from diffkit.interfaces.metric import Measurement, Metric, MetricContext
from diffkit.noise import Noise
from diffkit_standard.datasets.digits import Digits
from diffkit_standard.metrics.fid import FID
from diffkit_standard.metrics.inception_score import InceptionScore

NOISE = Noise(seed=3, index=torch.arange(0))


@attrs.define
class Counting(FeatureExtractor):
    """Pixels as features, ten of them as logits; counts how many examples it was shown."""

    seen: list[int] = attrs.field(factory=list)

    @property
    def identity(self) -> str:
        return "pixels:0"

    @property
    def details(self) -> dict[str, Any]:
        return {"held_out_accuracy": 0.5}

    def features(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return x.flatten(1)

    def logits(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return x.flatten(1)[:, :10]

    def features_and_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        return features, features[:, :10]


@attrs.frozen(kw_only=True)
class Diary(Metric):
    """Writes down every batch it is given, and draws of its noise."""

    wants: tuple[str, ...] = ()

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(self.wants)

    def start(self, context: MetricContext) -> Any:
        return (context, ())

    def update(self, state: Any, batch: Batch, noise: Noise) -> Any:
        drawn = noise.normal((len(batch.index), 1))
        return (state[0], (*state[1], (batch, drawn)))

    def merge(self, a: Any, b: Any) -> Any:
        return (a[0], a[1] + b[1])

    def finish(self, state: Any) -> Measurement:
        return Measurement(value=0.0, error=None, count=0, details={"diary": state})


def measured(metrics: Mapping[str, Metric], batches: Iterable[Batch], **given: Any) -> dict[str, Measurement]:
    """Every metric's figure from one pass over the batches."""
    states = measuring.accumulate(metrics, batches, **given)
    extractor = given.get("extractor")
    return {name: measuring.finish(metric, states[name], extractor) for name, metric in metrics.items()}


def everything(**options: Any) -> list[Batch]:
    digits = Digits()
    x = torch.linspace(-1.5, 1.5, 60 * 64).reshape(60, 1, 8, 8)
    return [
        *measuring.sample_batches(digits, x, batch_size=25),
        *measuring.real_batches(digits, "test", count=70, batch_size=32, **options),
        *measuring.real_batches(digits, "train", count=10, source="held-out"),
    ]


def test_one_pass_serves_all_and_computes_features_once() -> None:
    extractor = Counting()
    metrics = {"fid": FID(), "fid 2": FID(), "score": InceptionScore(splits=3)}
    result = measured(
        metrics, everything(), context=MetricContext(reference="r"), extractor=extractor, noise=NOISE
    )
    assert sum(extractor.seen) == 60 + 70
    assert set(result) == set(metrics)
    assert result["fid"] == result["fid 2"]
    samples, real = (
        torch.cat([b.x.flatten(1) for b in everything() if b.source == source])
        for source in ("samples", "reference")
    )
    assert result["fid"].value == pytest.approx(FID().distance(samples, real), rel=1e-9)
    assert result["fid"].details["features"] == "pixels:0"
    assert result["fid"].details["extractor"] == {"held_out_accuracy": 0.5}
    assert result["score"].count == 60


def test_each_metric_sees_the_sources_it_needs_and_no_more_is_computed() -> None:
    extractor = Counting()
    metrics = {"plain": Diary(), "real": Diary(wants=("held-out",)), "score": InceptionScore()}
    result = measured(metrics, everything(), context=MetricContext(), extractor=extractor, noise=NOISE)
    assert sum(extractor.seen) == 60
    sources = {
        name: {batch.source for batch, _ in result[name].details["diary"][1]} for name in ("plain", "real")
    }
    assert sources == {"plain": {"samples"}, "real": {"samples", "held-out"}}
    assert "extractor" not in result["plain"].details


def test_noise_belongs_to_the_metric_the_source_and_the_example() -> None:
    metrics = {"a": Diary(wants=("held-out",)), "b": Diary()}

    def drawn(batch_size: int) -> dict[str, Tensor]:
        x = torch.zeros(9, 1, 8, 8)
        batches = [
            *measuring.sample_batches(Digits(), x, batch_size=batch_size),
            *measuring.real_batches(Digits(), "test", count=9, source="held-out", batch_size=batch_size),
        ]
        result = measured(metrics, batches, context=MetricContext(), noise=NOISE)
        parts = {}
        for name in metrics:
            for batch, noise in result[name].details["diary"][1]:
                parts.setdefault(f"{name} {batch.source}", []).append(noise)
        return {name: torch.cat(part) for name, part in parts.items()}

    whole, cut = drawn(9), drawn(2)
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert len({tuple(values.flatten().tolist()) for values in whole.values()}) == 3


def test_states_of_several_passes_merge() -> None:
    metrics, context, extractor = {"fid": FID()}, MetricContext(), Counting()
    parts = [
        measuring.accumulate(metrics, part, context=context, extractor=extractor, noise=NOISE)["fid"]
        for part in (everything()[:2], everything()[2:])
    ]
    merged = measuring.finish(FID(), FID().merge(*parts), extractor)
    whole = measured(metrics, everything(), context=context, extractor=extractor, noise=NOISE)
    assert merged.value == pytest.approx(whole["fid"].value, rel=1e-9)


def test_features_that_are_missing_are_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"fid.*evaluation\.features"):
        measured({"fid": FID(), "d": Diary()}, [], context=MetricContext(), noise=NOISE)


def test_samples_are_put_on_the_levels_of_the_data() -> None:
    x = torch.linspace(-2.0, 2.0, 10 * 64).reshape(10, 1, 8, 8)
    batches = list(measuring.sample_batches(Digits(), x, label=torch.arange(10), first=100, batch_size=4))
    seen = torch.cat([batch.x for batch in batches])
    levels = torch.tensor([2 * (k + 0.5) / 17 - 1 for k in range(17)])
    assert (seen[..., None] - levels).abs().amin(-1).max() < 1e-6
    inside = x.abs() < 1.0
    assert (seen - x).abs()[inside].max() <= 1.0 / 17 + 1e-6
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(100, 110))
    assert torch.cat([batch.label for batch in batches if batch.label is not None]).tolist() == list(
        range(10)
    )
    for value in (math.nan, math.inf):
        x[3, 0, 1, 1] = value
        with pytest.raises(DataError, match="1 of 10 samples"):
            list(measuring.sample_batches(Digits(), x))


def test_real_examples_are_chosen_by_the_seed_without_replacement() -> None:
    def chosen(**options: Any) -> tuple[Tensor, Tensor]:
        batches = list(measuring.real_batches(Digits(), "test", batch_size=64, **options))
        index = torch.cat([batch.index for batch in batches])
        assert torch.equal(index, torch.arange(len(index)))
        labels = torch.cat([batch.label for batch in batches if batch.label is not None])
        return torch.cat([batch.x for batch in batches]), labels

    whole, labels = chosen()
    assert torch.equal(whole, Digits().encode(Digits().load("test").raw))
    assert torch.equal(chosen(count=10_000)[0], whole)
    some, some_labels = chosen(count=100, seed=1)
    assert torch.equal(chosen(count=100, seed=1)[0], some)
    assert not torch.equal(chosen(count=100, seed=2)[0], some)
    places = (some[:, None] == whole[None]).flatten(2).all(2)
    assert (places.sum(1) == 1).all()
    rows = places.int().argmax(1)
    assert len(rows.unique()) == 100
    assert torch.equal(labels[rows], some_labels)
    assert some_labels.bincount(minlength=10).min() > 0


def test_the_identity_of_a_reference_tells_what_it_is_and_how_much() -> None:
    identity = measuring.identity_of_split("digits", Digits(), "test")
    assert identity == f"digits:test:{Digits().fingerprint()}:500"
    assert measuring.identity_of_split("digits", Digits(), "test", 20).endswith(":20")
    assert measuring.identity_of_split("digits", Digits(), "test", 2000).endswith(":500")
