"""Figures of a model beside their floor (held-out real data) and their ceiling (pure noise)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import torch

from diffkit import measuring, registry
from diffkit.batch import Batch
from diffkit.interfaces.dataset import Dataset
from diffkit.interfaces.features import FeatureExtractor, Features
from diffkit.interfaces.metric import Measurement, Metric, MetricContext
from diffkit.interfaces.model import Model
from diffkit.noise import Noise

__all__ = ["Evaluation", "named"]

_BATCH = 256


@attrs.frozen(kw_only=True, slots=False)
class Evaluation:
    """What is measured, against what.

    Args:
        dataset: gives the reference (its training split) and the floor (its test split).
        metrics: by name.
        features: the view in which examples are compared; prepared only if a metric asks.
        count: how many held-out examples and noise images stand beside the samples; fewer held-out
            ones where the test split is smaller.
        seed: of the noise images and of the choice of held-out examples.
        cache: where prepared extractors are kept.
    """

    dataset: Dataset
    metrics: Mapping[str, Metric]
    features: Features
    count: int
    seed: int
    cache: Path

    def run(self, model: Model, samples: Iterable[Batch]) -> dict[str, Measurement]:
        """Every metric's figure for `samples`; `floor` and `noise` stand in the details of those that
        compare samples with real data.

        Raises:
            ConfigError, DataError: a metric that cannot be taken, as `measuring.measure`.
        """
        reference = self._pass(model, self._reference(), self.metrics)
        figures = self._figures(reference, model, samples, self.metrics)
        compared = {name: metric for name, metric in self.metrics.items() if _compares(metric)}
        if not compared:
            return figures
        floor = self._figures(reference, None, self._held_out(), compared)
        noise = self._figures(reference, None, self._noise_images(), compared)
        return {name: _beside(figure, floor.get(name), noise.get(name)) for name, figure in figures.items()}

    @cached_property
    def _extractor(self) -> FeatureExtractor | None:
        needs = {need for metric in self.metrics.values() for need in metric.needs}
        return self.features.prepare(self.dataset, self.cache) if needs & {"features", "logits"} else None

    @cached_property
    def _identity(self) -> str:
        name = str(registry.current().name(self.dataset))
        return measuring.identity_of_split(name, self.dataset, "train")

    def _pass(
        self, model: Model | None, batches: Iterable[Batch], metrics: Mapping[str, Metric]
    ) -> dict[str, Any]:
        context = MetricContext(
            model=model,
            sde=None if model is None else model.sde,
            spec=self.dataset.spec(),
            reference=self._identity,
        )
        noise = Noise(seed=self.seed, index=torch.arange(0))
        return measuring.accumulate(metrics, batches, context=context, extractor=self._extractor, noise=noise)

    def _figures(
        self,
        reference: Mapping[str, Any],
        model: Model | None,
        batches: Iterable[Batch],
        metrics: Mapping[str, Metric],
    ) -> dict[str, Measurement]:
        states = self._pass(model, batches, metrics)
        return {
            name: measuring.finish(metric, metric.merge(reference[name], states[name]), self._extractor)
            for name, metric in metrics.items()
        }

    def _reference(self) -> Iterator[Batch]:
        if any("reference" in metric.needs for metric in self.metrics.values()):
            yield from measuring.real_batches(self.dataset, "train", batch_size=_BATCH)

    def _held_out(self) -> Iterator[Batch]:
        real = measuring.real_batches(
            self.dataset, "test", count=self.count, seed=self.seed, batch_size=_BATCH
        )
        return (attrs.evolve(batch, source="samples") for batch in real)

    def _noise_images(self) -> Iterator[Batch]:
        shape = self.dataset.spec().shape
        for first in range(0, self.count, _BATCH):
            index = torch.arange(first, min(first + _BATCH, self.count))
            noise = Noise(seed=self.seed, index=index).stream("pure noise")
            yield from measuring.sample_batches(
                self.dataset, noise.normal((len(index), *shape)), first=first, batch_size=_BATCH
            )


def named(metrics: Iterable[Metric]) -> dict[str, Metric]:
    """Metrics by their names; a second one of a kind gets a number."""
    result: dict[str, Metric] = {}
    for metric in metrics:
        name = str(registry.current().name(metric))
        again = sum(other.partition(" ")[0] == name for other in result)
        result[f"{name} {again + 1}" if again else name] = metric
    return result


def _compares(metric: Metric) -> bool:
    return bool(metric.needs & {"features", "logits"}) and "model" not in metric.needs


def _beside(figure: Measurement, floor: Measurement | None, noise: Measurement | None) -> Measurement:
    beside = {
        name: {"value": other.value, "error": other.error, "count": other.count}
        for name, other in (("floor", floor), ("noise", noise))
        if other is not None
    }
    return attrs.evolve(figure, details={**figure.details, **beside})
