"""Figures of a model beside their floor (held-out real data) and their ceiling (pure noise)."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import torch
from filelock import FileLock

from diffkit import measuring, registry, storage
from diffkit.batch import Batch, Source
from diffkit.errors import CheckpointError
from diffkit.interfaces.dataset import Dataset
from diffkit.interfaces.features import FeatureExtractor, Features
from diffkit.interfaces.metric import Measurement, Metric, MetricContext
from diffkit.interfaces.model import Model
from diffkit.noise import Noise
from diffkit.sharding import is_main

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
        cache: where prepared extractors, and what metrics have made of the reference, are kept.
        say: told what is found there.
    """

    dataset: Dataset
    metrics: Mapping[str, Metric]
    features: Features
    count: int
    seed: int
    cache: Path
    say: Callable[[str], None] = lambda text: None

    def prepare(self) -> None:
        """Has the extractor ready, if a metric asks for one, so that what is amiss is said early."""
        _ = self._extractor

    def run(self, model: Model, samples: Iterable[Batch]) -> dict[str, Measurement]:
        """Every metric's figure for `samples`; `floor` and `noise` stand in the details of those that
        compare samples with real data.

        Raises:
            ConfigError, DataError: a metric that cannot be taken, as `measuring.accumulate`.
        """
        figures = self.score(model, samples)
        compared = {name: metric for name, metric in self.metrics.items() if _compares(metric)}
        unlabelled = {name: metric for name, metric in compared.items() if "labels" not in metric.needs}
        floor = self._figures(None, self._held_out(), compared)
        noise = self._figures(None, self._noise_images(), unlabelled)
        return {name: _beside(figure, floor.get(name), noise.get(name)) for name, figure in figures.items()}

    def score(self, model: Model, samples: Iterable[Batch]) -> dict[str, Measurement]:
        """As `run`, without floor and noise."""
        about_samples = any("model" not in metric.needs for metric in self.metrics.values())
        return self._figures(model, samples if about_samples else (), self.metrics)

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
        noise = Noise(seed=self.seed, index=torch.arange(0))
        return measuring.accumulate(
            metrics, batches, context=self._context(model), extractor=self._extractor, noise=noise
        )

    def _context(self, model: Model | None) -> MetricContext:
        return MetricContext(
            model=model,
            sde=None if model is None else model.sde,
            spec=self.dataset.spec(),
            reference=self._identity,
            features=None if self._extractor is None else self._extractor.identity,
        )

    def _figures(
        self, model: Model | None, batches: Iterable[Batch], metrics: Mapping[str, Metric]
    ) -> dict[str, Measurement]:
        if not metrics:
            return {}
        states = self._pass(model, batches, metrics)
        by_model = {name: metric for name, metric in metrics.items() if "model" in metric.needs}
        real = self._reference | self._pass(model, self._real_batches(by_model), by_model)
        return {name: self._finished(metrics[name], states[name], real[name]) for name in metrics}

    def _finished(self, metric: Metric, seen: Any, real: Any) -> Measurement:
        """The figure, and what must be equal for another one to be set beside it."""
        figure = measuring.finish(metric, metric.merge(seen, real), self._extractor)
        made_by = {
            "metric": registry.describe(metric),
            "higher_is_better": metric.higher_is_better,
            "dataset": self._identity,
        }
        return attrs.evolve(figure, details={**figure.details, **made_by})

    @cached_property
    def _reference(self) -> dict[str, Any]:
        """What the metrics that see no model make of real data: found in the cache, or kept there."""
        wanted = {name: metric for name, metric in self.metrics.items() if "model" not in metric.needs}
        found = {name: state for name in wanted if (state := self._found(name)) is not None}
        if found:
            self.say(f"reference statistics of {', '.join(found)}: found in {self.cache}")
        missing = {name: metric for name, metric in wanted.items() if name not in found}
        made = self._pass(None, self._real_batches(missing), missing)
        for name, metric in missing.items():
            packed = metric.pack(made[name]) if "reference" in metric.needs else None
            if packed and is_main():
                folder, key = self._place(metric)
                snapshot = storage.Snapshot(step=0, parts={"reference": packed}, scalars=key)
                self.cache.mkdir(parents=True, exist_ok=True)
                with FileLock(self.cache / f".{folder.name}.lock"):  # other runs may be at it too
                    storage.write_snapshot(folder, snapshot, owner=folder.name)
        return found | made

    def _found(self, name: str) -> Any:
        """A metric's state of the reference as an earlier run left it, or None."""
        metric = self.metrics[name]
        folder, _ = self._place(metric)
        if "reference" not in metric.needs or not storage.snapshot_steps(folder):
            return None
        try:
            packed = storage.read_snapshot(folder, 0, owner=folder.name).parts["reference"]
            return metric.unpack(self._context(None), packed)
        except (CheckpointError, KeyError):
            logging.getLogger("diffkit").warning("what is kept in %s is damaged, and is made again", folder)
            return None

    def _place(self, metric: Metric) -> tuple[Path, dict[str, Any]]:
        """Where a metric's state of the reference is kept, and all that it depends on."""
        origin = registry.origin(metric)
        key = {
            "metric": registry.describe(metric),
            "supplier": f"{origin.distribution} {origin.version}",
            "reference": self._identity,
            "features": None if self._extractor is None else self._extractor.identity,
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]
        return self.cache / f"reference-{origin.name}-{digest}", key

    def _real_batches(self, metrics: Mapping[str, Metric]) -> Iterator[Batch]:
        needs = {need for metric in metrics.values() for need in metric.needs}
        if "reference" in needs:
            yield from measuring.real_batches(self.dataset, "train", batch_size=_BATCH)
        if "held-out" in needs:
            yield from self._held_out("held-out")

    def _held_out(self, source: Source = "samples") -> Iterator[Batch]:
        return measuring.real_batches(
            self.dataset, "test", source=source, count=self.count, seed=self.seed, batch_size=_BATCH
        )

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
