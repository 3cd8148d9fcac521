"""The Frechet distance between samples and real data, seen through features.

FID = |mu_r - mu_g|^2 + tr(S_r + S_g) - 2 sum sqrt(eig(S_r^{1/2} S_g S_r^{1/2}))

with unbiased covariances, in float64, from streaming moments.
"""

from __future__ import annotations

import math
from typing import ClassVar, final

import attrs
import torch
from torch import Tensor

from diffkit.batch import Batch
from diffkit.errors import DataError
from diffkit.interfaces.metric import Measurement, Metric, MetricContext
from diffkit.noise import Noise
from diffkit_standard.metrics._groups import group_of
from diffkit_standard.metrics._moments import Moments, covariance_factor, frechet

__all__ = ["FID"]

_GROUPS = 10


@attrs.frozen(kw_only=True, eq=False)
class _State:
    context: MetricContext
    samples: tuple[Moments | None, ...] = (None,) * _GROUPS
    reference: Moments | None = None


@final
@attrs.frozen(kw_only=True)
class FID(Metric):
    """The Frechet distance of Gaussians fitted to the features of samples and of the reference.

    The figure is biased upwards by a finite number of samples, so compare only equal counts. Its
    standard error is a delete-a-group jackknife over ten groups of samples
    with the reference held fixed: sqrt(9/10 sum (FID_{-j} - mean)^2).

    Raises:
        DataError: fewer than two samples or reference examples, features that are not finite or
            differ in number.
    """

    source: ClassVar[str] = "Heusel et al. 2017, arXiv 1706.08500, eq. 6"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"features", "reference"})

    def distance(self, features_a: Tensor, features_b: Tensor) -> float:
        """The distance between two sets of features (N, F) and (M, F)."""
        if features_a.ndim != 2 or features_b.ndim != 2:
            raise DataError(
                f"features of shape {tuple(features_a.shape)} and {tuple(features_b.shape)}",
                "two tensors (examples, features)",
                "Flatten what belongs to one example",
            )
        if min(len(features_a), len(features_b)) < 2:
            raise DataError(
                f"features of {len(features_a)} and {len(features_b)} examples",
                "at least 2 each",
                "Give more",
            )
        return self.moment_distance(Moments.of(features_a), Moments.of(features_b))

    def moment_distance(self, a: Moments, b: Moments) -> float:
        """The distance between two sets of features of which only the moments are kept."""
        _refuse_different(a, b)
        return frechet(a.mean, covariance_factor(a, "FID"), b.mean, covariance_factor(b, "FID"))

    def start(self, context: MetricContext) -> _State:
        return _State(context=context)

    def update(self, state: _State, batch: Batch, noise: Noise) -> _State:
        if batch.features is None:
            raise TypeError("FID is measured on features; the batch has none")
        if batch.source == "reference":
            return attrs.evolve(state, reference=_add(state.reference, Moments.of(batch.features)))
        if batch.source != "samples":
            return state
        group = group_of(batch.index.cpu(), _GROUPS)
        parts = [
            _add(part, Moments.of(batch.features[group == number])) if (group == number).any() else part
            for number, part in enumerate(state.samples)
        ]
        return attrs.evolve(state, samples=tuple(parts))

    def merge(self, a: _State, b: _State) -> _State:
        samples = tuple(_add(x, y) for x, y in zip(a.samples, b.samples, strict=True))
        return attrs.evolve(a, samples=samples, reference=_add(a.reference, b.reference))

    def finish(self, state: _State) -> Measurement:
        groups = [part for part in state.samples if part is not None]
        if not groups or state.reference is None:
            raise DataError(
                f"FID: {'no reference' if groups else 'no'} examples were given",
                "samples and reference examples, at least 2 of each",
                "Raise `evaluation.count`",
            )
        whole, reference = Moments.merged(groups), state.reference
        _refuse_different(whole, reference)
        factor = covariance_factor(reference, "FID (reference)")

        def distance(moments: Moments) -> float:
            return frechet(moments.mean, covariance_factor(moments, "FID (samples)"), reference.mean, factor)

        value = distance(whole)
        rests = (
            [Moments.merged(groups[:j] + groups[j + 1 :]) for j in range(len(groups))] if groups[1:] else []
        )
        error = _jackknife([distance(rest) for rest in rests]) if all(r.count > 1 for r in rests) else None
        details = {
            "features": state.context.features,
            "reference": state.context.reference,
            "reference_count": reference.count,
            "error": f"delete-a-group jackknife, {len(groups)} groups of samples, reference fixed",
        }
        return Measurement(value=value, error=error, count=whole.count, details=details)


def _add(a: Moments | None, b: Moments | None) -> Moments | None:
    if a is None or b is None:
        return a or b
    _refuse_different(a, b)
    return a.merge(b)


def _refuse_different(a: Moments, b: Moments) -> None:
    if a.mean.shape != b.mean.shape:
        raise DataError(
            f"{len(a.mean)} and {len(b.mean)} features an example",
            "as many in both sets",
            "Use one extractor for samples and reference",
        )


def _jackknife(values: list[float]) -> float | None:
    if len(values) < 2:
        return None
    spread = torch.tensor(values, dtype=torch.float64).var(unbiased=False).item()
    return math.sqrt((len(values) - 1) * spread)
