"""The kernel distance between samples and real data, seen through features: an unbiased MMD^2.

KID = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)
k(a, b) = (a . b / F + 1)^3,   F features
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, final

import attrs
import torch
from attrs.validators import ge
from torch import Tensor

from diffkit.batch import Batch
from diffkit.component import parameter
from diffkit.interfaces.metric import Measurement, Metric, MetricContext
from diffkit.noise import Noise
from diffkit_standard.metrics._groups import jackknife
from diffkit_standard.metrics._paired import PairedFeatures

__all__ = ["KID"]

_GROUPS = 10


@final
@attrs.frozen(kw_only=True)
class KID(Metric):
    """The squared maximum mean discrepancy with a polynomial kernel of degree three, over all kept pairs.

    Its expectation is zero where both laws are one, whatever the number of samples; so it may be slightly
    negative. That is so of independent draws: classes in exact shares (samples that ask for `each`, a
    stratified test split) make equal classes rarer among pairs of one side, and take it a little lower still.
    The source averages over random subsets, which is the same expectation with more noise. The
    standard error is a delete-a-group jackknife over ten groups of samples and ten of the reference, the two
    added in squares; near equality it is on the large side.

    Beyond `cap` examples a side, those kept are spread evenly over all by their index.

    Raises:
        DataError: fewer than two samples or reference examples, features that are not finite or
            differ in number.
    """

    source: ClassVar[str] = "Binkowski et al. 2018, arXiv 1801.01401, section 4"

    cap: int = parameter("examples a side that are compared; the rest are left out", 10_000, validator=ge(2))

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"features", "reference"})

    def distance(self, features_a: Tensor, features_b: Tensor) -> float:
        """The distance between two sets of features (N, F) and (M, F)."""
        return self.finish(PairedFeatures.of(features_a, features_b, self.cap)).value

    def start(self, context: MetricContext) -> PairedFeatures:
        return PairedFeatures(context=context, cap=self.cap)

    def update(self, state: PairedFeatures, batch: Batch, noise: Noise) -> PairedFeatures:
        return state.with_batch(batch, "KID")

    def merge(self, a: PairedFeatures, b: PairedFeatures) -> PairedFeatures:
        return a.merge(b)

    def pack(self, state: PairedFeatures) -> dict[str, Tensor]:
        return state.pack()

    def unpack(self, context: MetricContext, tensors: Mapping[str, Tensor]) -> PairedFeatures:
        return self.start(context).unpack(tensors)

    def finish(self, state: PairedFeatures) -> Measurement:
        x, y = state.both(2, "KID")
        sums = _Sums.of(x, y)
        parts = [jackknife(sums.without_samples()), jackknife(sums.without_reference())]
        known = [part for part in parts if part is not None]
        error = math.hypot(*known) if len(known) == len(parts) else None
        assert state.samples is not None
        details = {**state.details(), "error": f"delete-a-group jackknife, {_GROUPS} groups a side"}
        return Measurement(value=sums.distance(), error=error, count=state.samples.seen, details=details)


@attrs.frozen(kw_only=True, eq=False)
class _Sums:
    """Sums of the kernel over pairs of groups, an example with itself left out.

    Args:
        x, y: (G,) examples in each group.
        xx, yy, xy: (G, G).
    """

    x: Tensor
    y: Tensor
    xx: Tensor
    yy: Tensor
    xy: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> _Sums:
        # Neighbours in rank; see `Kept`.
        a, b = x.tensor_split(min(_GROUPS, len(x))), y.tensor_split(min(_GROUPS, len(y)))

        def counts(parts: tuple[Tensor, ...]) -> Tensor:
            return torch.tensor([len(part) for part in parts], dtype=torch.float64)

        return cls(x=counts(a), y=counts(b), xx=_within(a), yy=_within(b), xy=_table(a, b))

    def distance(self) -> float:
        m, n = self.x.sum(), self.y.sum()
        same = self.xx.sum() / (m * (m - 1.0)) + self.yy.sum() / (n * (n - 1.0))
        return float(same - 2.0 * self.xy.sum() / (m * n))

    def without_samples(self) -> list[float]:
        """The distance with one group of samples left out, for each; nothing where too few would be left."""
        if self.x.sum() - self.x.max() < 2:
            return []
        return [self._keep(keep, torch.ones_like(self.y)).distance() for keep in _all_but_one(self.x)]

    def without_reference(self) -> list[float]:
        """Likewise with one group of the reference left out."""
        if self.y.sum() - self.y.max() < 2:
            return []
        return [self._keep(torch.ones_like(self.x), keep).distance() for keep in _all_but_one(self.y)]

    def _keep(self, a: Tensor, b: Tensor) -> _Sums:
        return _Sums(
            x=a * self.x,
            y=b * self.y,
            xx=a[:, None] * self.xx * a,
            yy=b[:, None] * self.yy * b,
            xy=a[:, None] * self.xy * b,
        )


def _all_but_one(counts: Tensor) -> Tensor:
    return 1.0 - torch.eye(len(counts), dtype=counts.dtype)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1.0) ** 3


def _table(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([torch.stack([_kernel(p, q).sum() for q in b]) for p in a])


def _within(parts: tuple[Tensor, ...]) -> Tensor:
    """Sums within one side; the table is symmetric, so that half of it is computed."""
    table = torch.zeros(len(parts), len(parts), dtype=torch.float64)
    for row, p in enumerate(parts):
        for column, q in enumerate(parts[: row + 1]):
            table[row, column] = table[column, row] = _kernel(p, q).sum()
        table[row, row] -= ((p.square().sum(1) / p.shape[1] + 1.0) ** 3).sum()
    return table
