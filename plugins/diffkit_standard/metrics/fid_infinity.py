"""The Frechet distance at infinitely many samples, extrapolated from what is there.

The expectation of FID over n samples is FID_inf + c/n + O(1/n^2). From the distance F_n of all samples and
the mean F_h of those of two disjoint halves, with r = mean(1/n_half):

    FID_inf = (r F_n - F_h / n) / (r - 1/n),   which is 2 F_n - F_h where the halves are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, final

import attrs
from torch import Tensor

from diffkit.batch import Batch
from diffkit.errors import DataError
from diffkit.interfaces.metric import Measurement, Metric, MetricContext
from diffkit.noise import Noise
from diffkit_standard.metrics._dealt import GROUPS, DealtMoments, distances_to, left_out
from diffkit_standard.metrics._groups import jackknife
from diffkit_standard.metrics._moments import Moments

__all__ = ["FIDInfinity"]

_NORMAL_95 = 1.96


@final
@attrs.frozen(kw_only=True)
class FIDInfinity(Metric):
    """FID without the bias of a finite number of samples, by extrapolation in 1/n.

    The source fits a line through FIDs of fifteen sizes; here it goes through two, all samples and their
    halves, which streaming moments give. The line holds where a half has several times as many samples as
    there are features. The reference stays finite: its own bias remains. The standard error is a
    delete-a-group jackknife of the extrapolated figure over ten groups of samples; `interval` in the details
    is the normal one, 95%. An extrapolated figure may be below zero.

    Raises:
        DataError: a group with fewer than two samples, fewer than two reference examples, features that
            are not finite or differ in number.
    """

    source: ClassVar[str] = "Chong and Forsyth 2020, arXiv 1911.07023, section 3"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"features", "reference"})

    def start(self, context: MetricContext) -> DealtMoments:
        return DealtMoments(context=context)

    def update(self, state: DealtMoments, batch: Batch, noise: Noise) -> DealtMoments:
        return state.with_batch(batch, "FID at infinity")

    def merge(self, a: DealtMoments, b: DealtMoments) -> DealtMoments:
        return a.merge(b)

    def pack(self, state: DealtMoments) -> dict[str, Tensor]:
        return state.pack()

    def unpack(self, context: MetricContext, tensors: Mapping[str, Tensor]) -> DealtMoments:
        return self.start(context).unpack(tensors)

    def finish(self, state: DealtMoments) -> Measurement:
        groups, reference = state.examples("FID at infinity")
        if len(groups) < GROUPS or min(part.count for part in groups) < 2:
            raise DataError(
                f"FID at infinity: {sum(part.count for part in groups)} samples",
                f"two in each of {GROUPS} groups, and for a meaningful figure many times the features",
                "Raise `evaluation.count`",
            )
        distance = distances_to(reference, "FID at infinity")
        value = _extrapolated(groups, distance)
        error = jackknife([_extrapolated(rest, distance) for rest in left_out(groups)])
        assert error is not None
        whole = Moments.merged(groups)
        details = {
            **state.details(),
            "finite": distance(whole),
            "interval": [value - _NORMAL_95 * error, value + _NORMAL_95 * error],
            "error": f"delete-a-group jackknife, {GROUPS} groups of samples, reference fixed",
        }
        return Measurement(value=value, error=error, count=whole.count, details=details)


def _extrapolated(groups: Sequence[Moments], distance: Callable[[Moments], float]) -> float:
    whole = Moments.merged(groups)
    halves = [Moments.merged(groups[start::2]) for start in (0, 1)]
    inverse = sum(1.0 / half.count for half in halves) / 2.0
    mean = sum(distance(half) for half in halves) / 2.0
    return (inverse * distance(whole) - mean / whole.count) / (inverse - 1.0 / whole.count)
