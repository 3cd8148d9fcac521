"""The Frechet distance between samples and real data, seen through features.

FID = |mu_r - mu_g|^2 + tr(S_r + S_g) - 2 sum sqrt(eig(S_r^{1/2} S_g S_r^{1/2}))

with unbiased covariances, in float64, from streaming moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import attrs
from torch import Tensor

from diffkit.batch import Batch
from diffkit.errors import DataError
from diffkit.interfaces.metric import Measurement, Metric, MetricContext
from diffkit.noise import Noise
from diffkit_standard.metrics._dealt import DealtMoments, distances_to, left_out, refuse_different
from diffkit_standard.metrics._groups import jackknife
from diffkit_standard.metrics._moments import Moments, covariance_factor, frechet

__all__ = ["FID"]


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
        refuse_different(a, b)
        return frechet(a.mean, covariance_factor(a, "FID"), b.mean, covariance_factor(b, "FID"))

    def start(self, context: MetricContext) -> DealtMoments:
        return DealtMoments(context=context)

    def update(self, state: DealtMoments, batch: Batch, noise: Noise) -> DealtMoments:
        return state.with_batch(batch, "FID")

    def merge(self, a: DealtMoments, b: DealtMoments) -> DealtMoments:
        return a.merge(b)

    def pack(self, state: DealtMoments) -> dict[str, Tensor]:
        return state.pack()

    def unpack(self, context: MetricContext, tensors: Mapping[str, Tensor]) -> DealtMoments:
        return self.start(context).unpack(tensors)

    def finish(self, state: DealtMoments) -> Measurement:
        groups, reference = state.examples("FID")
        distance, whole = distances_to(reference, "FID"), Moments.merged(groups)
        value = distance(whole)
        error = jackknife([distance(Moments.merged(rest)) for rest in left_out(groups)])
        how = f"delete-a-group jackknife, {len(groups)} groups of samples, reference fixed"
        details = {**state.details(), "error": how}
        return Measurement(value=value, error=error, count=whole.count, details=details)
