"""The pass that feeds metrics: samples and real examples in batches, features once, every metric served."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from diffkit.batch import Batch, Source
from diffkit.errors import ConfigError, DataError
from diffkit.interfaces.dataset import Dataset, SplitName
from diffkit.interfaces.features import FeatureExtractor
from diffkit.interfaces.metric import Measurement, Metric, MetricContext
from diffkit.noise import Noise
from diffkit.progress import watched

__all__ = ["accumulate", "finish", "identity_of_split", "real_batches", "require_finite", "sample_batches"]


def accumulate(
    metrics: Mapping[str, Metric],
    batches: Iterable[Batch],
    *,
    context: MetricContext,
    extractor: FeatureExtractor | None = None,
    noise: Noise,
) -> dict[str, Any]:
    """Every metric's state after one pass over `batches` (samples and references in any order); states merge.

    Args:
        metrics: by the name under which each state is returned.
        context: what metrics may know beforehand; its `features` is filled from `extractor`.
        noise: its seed and path; each metric gets a stream of its own for each batch's examples.

    Raises:
        ConfigError: a metric needs features or logits and there is no extractor.
        DataError: as the metrics raise it.
    """
    wanted = {need for metric in metrics.values() for need in metric.needs}
    if extractor is None and wanted & {"features", "logits"}:
        names = [name for name, metric in metrics.items() if metric.needs & {"features", "logits"}]
        raise ConfigError(
            f"no features were given to measure {', '.join(names)} with",
            "a feature extractor",
            "Set `evaluation.features`, such as 'classifier'",
        )
    context = attrs.evolve(context, features=None if extractor is None else extractor.identity)
    states: dict[str, Any] = {name: metric.start(context) for name, metric in metrics.items()}
    for batch in batches:
        served = {
            name: metric for name, metric in metrics.items() if batch.source in {"samples", *metric.needs}
        }
        seen = _with_features(batch, {need for metric in served.values() for need in metric.needs}, extractor)
        for name, metric in served.items():
            stream = attrs.evolve(noise, index=batch.index).stream("metric", name, batch.source)
            states[name] = metric.update(states[name], seen, stream)
    return states


def real_batches(
    dataset: Dataset,
    split: SplitName,
    *,
    source: Source = "reference",
    count: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
) -> Iterator[Batch]:
    """A split in encoded units, batch by batch, numbered from 0.

    With `count` below the split's size that many examples are chosen by `seed`, without
    replacement; a larger one gives them all.
    """
    examples = dataset.load(split)
    rows = torch.arange(len(examples))
    if count is not None and count < len(examples):
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randperm(len(examples), generator=generator)[:count]
    parts = torch.split(torch.arange(len(rows)), batch_size)
    for index in watched(parts, "real examples", len(parts), "batches"):
        chosen = rows[index]
        label = None if examples.label is None else examples.label[chosen]
        yield Batch(x=dataset.encode(examples.raw[chosen]), index=index, label=label, source=source)


def sample_batches(
    dataset: Dataset, x: Tensor, *, label: Tensor | None = None, first: int = 0, batch_size: int = 256
) -> Iterator[Batch]:
    """Samples (N, ...) in encoded units, batch by batch, numbered from `first`.

    They are put on the data set's levels and clipped as real examples are, so that a metric does
    not see the difference.

    Raises:
        DataError: NaN or infinite values, which decoding would hide.
    """
    require_finite(x)
    for rows in torch.split(torch.arange(len(x), device=x.device), batch_size):
        on_levels = dataset.encode(dataset.decode(x[rows]))
        chosen = None if label is None else label[rows.to(label.device)]
        yield Batch(x=on_levels, index=rows + first, label=chosen, source="samples")


def require_finite(x: Tensor) -> None:
    """Refuses samples (N, ...) that a sampler or a model has lost.

    Raises:
        DataError: NaN or infinite values.
    """
    bad = int((~torch.isfinite(x)).flatten(1).any(1).sum())
    if bad:
        raise DataError(
            f"{bad} of {len(x)} samples hold NaN or infinite values",
            "finite samples",
            "Use more steps, less guidance or a smaller learning rate, and look at the loss",
        )


def identity_of_split(name: str, dataset: Dataset, split: SplitName, count: int | None = None) -> str:
    """What tells one reference from another: data set, split, fingerprint, and the number taken of it."""
    size = len(dataset.load(split))
    return f"{name}:{split}:{dataset.fingerprint()}:{size if count is None else min(count, size)}"


def _with_features(batch: Batch, needs: set[str], extractor: FeatureExtractor | None) -> Batch:
    if extractor is None:
        return batch
    if {"features", "logits"} <= needs:
        features, logits = extractor.features_and_logits(batch.x)
        return attrs.evolve(batch, features=features, logits=logits)
    if "features" in needs:
        return attrs.evolve(batch, features=extractor.features(batch.x))
    if "logits" in needs:
        return attrs.evolve(batch, logits=extractor.logits(batch.x))
    return batch


def finish(metric: Metric, state: Any, extractor: FeatureExtractor | None) -> Measurement:
    """A metric's figure, with what there is to say of the extractor in its details."""
    measurement = metric.finish(state)
    if extractor is None or not metric.needs & {"features", "logits"}:
        return measurement
    return attrs.evolve(measurement, details={**measurement.details, "extractor": dict(extractor.details)})
