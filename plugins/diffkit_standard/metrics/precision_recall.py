"""Precision and recall: how many samples look real, and how much of the real data is covered.

Around every example of a side lies a ball that reaches its k-th nearest neighbour of the same side.

    precision = the share of samples in some ball of the reference
    recall    = the share of the reference in some ball of the samples
    f-score   = 2 precision recall / (precision + recall)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, final

import attrs
import torch
from attrs.validators import ge
from torch import Tensor

from diffkit.batch import Batch
from diffkit.component import parameter
from diffkit.interfaces.metric import Measurement, Metric, MetricContext
from diffkit.noise import Noise
from diffkit_standard.metrics._kept import squared_distances
from diffkit_standard.metrics._paired import PairedFeatures
from diffkit_standard.metrics._proportions import wilson_error

__all__ = ["PrecisionRecall"]

_PAIRS = 2**21  # compared at once: 16 MB


@final
@attrs.frozen(kw_only=True)
class PrecisionRecall(Metric):
    """Precision and recall by k nearest neighbours in features; the details hold both, and the f-score.

    Their standard errors are those of a share (Wilson), with the balls held fixed; the f-score's follows from
    the two. Both depend on how many examples are compared: set side by side only what used equal numbers.
    Beyond `cap` examples a side, those kept are spread evenly over all by their index.

    Raises:
        DataError: no more than `neighbours` samples or reference examples, features that are not finite
            or differ in number.
    """

    source: ClassVar[str] = "Kynkaanniemi et al. 2019, arXiv 1904.06991, eq. 1-3"

    figure: Literal["f-score", "precision", "recall"] = parameter(
        "which of the three is the value", "f-score"
    )
    neighbours: int = parameter("k: the neighbour that a ball reaches", 3, validator=ge(1))
    cap: int = parameter("examples a side that are compared; the rest are left out", 10_000, validator=ge(2))

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"features", "reference"})

    @property
    def higher_is_better(self) -> bool:
        return True

    def precision_and_recall(self, samples: Tensor, reference: Tensor) -> tuple[float, float]:
        """Both, of features (N, F) and (M, F)."""
        details = self.finish(PairedFeatures.of(samples, reference, self.cap)).details
        return details["precision"]["value"], details["recall"]["value"]

    def start(self, context: MetricContext) -> PairedFeatures:
        return PairedFeatures(context=context, cap=self.cap)

    def update(self, state: PairedFeatures, batch: Batch, noise: Noise) -> PairedFeatures:
        return state.with_batch(batch, "precision and recall")

    def merge(self, a: PairedFeatures, b: PairedFeatures) -> PairedFeatures:
        return a.merge(b)

    def pack(self, state: PairedFeatures) -> dict[str, Tensor]:
        return state.pack()

    def unpack(self, context: MetricContext, tensors: Mapping[str, Tensor]) -> PairedFeatures:
        return self.start(context).unpack(tensors)

    def finish(self, state: PairedFeatures) -> Measurement:
        samples, reference = state.both(self.neighbours + 1, "precision and recall")
        precision = _share(samples, reference, self.neighbours)
        recall = _share(reference, samples, self.neighbours)
        found = {"precision": precision, "recall": recall, "f-score": _f_score(precision, recall)}
        value, error = found[self.figure]
        each = {name: {"value": v, "error": e} for name, (v, e) in found.items()}
        details = {**state.details(), **each, "neighbours": self.neighbours}
        assert state.samples is not None
        return Measurement(value=value, error=error, count=state.samples.seen, details=details)


def _share(points: Tensor, centres: Tensor, neighbours: int) -> tuple[float, float]:
    """The share of points in some ball around a centre, and its standard error."""
    size = max(1, _PAIRS // len(centres))
    starts = range(0, len(centres), size)
    radii = torch.cat([_radii(centres, slice(start, start + size), neighbours) for start in starts])
    inside = [(squared_distances(rows, centres) <= radii).any(1) for rows in torch.split(points, size)]
    hits = int(torch.cat(inside).sum())
    return hits / len(points), wilson_error(hits, len(points))


def _radii(centres: Tensor, chosen: slice, neighbours: int) -> Tensor:
    """The squared distances of some centres to their k-th nearest other centre."""
    distances = squared_distances(centres[chosen], centres)
    own = torch.arange(len(centres))[chosen]
    distances[torch.arange(len(own)), own] = torch.inf
    return distances.kthvalue(neighbours, dim=1).values


def _f_score(precision: tuple[float, float], recall: tuple[float, float]) -> tuple[float, float]:
    """The harmonic mean and its error, to first order and as if the two were independent."""
    (p, p_error), (r, r_error) = precision, recall
    if p + r == 0.0:
        return 0.0, max(p_error, r_error)
    slope = 2.0 / (p + r) ** 2
    return 2.0 * p * r / (p + r), math.hypot(slope * r * r * p_error, slope * p * p * r_error)
