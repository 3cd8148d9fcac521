"""The state of metrics that compare examples with examples: features of both sides, kept up to a cap."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch
from torch import Tensor

from diffkit.batch import Batch
from diffkit.errors import DataError
from diffkit.interfaces.metric import MetricContext
from diffkit_standard.metrics._kept import Kept, refuse_different

__all__ = ["PairedFeatures"]


@attrs.frozen(kw_only=True, eq=False)
class PairedFeatures:
    """Features of samples and of the reference; None where there is no example yet."""

    context: MetricContext
    cap: int
    samples: Kept | None = None
    reference: Kept | None = None

    @classmethod
    def of(cls, samples: Tensor, reference: Tensor, cap: int) -> PairedFeatures:
        """Two whole sets of features, (N, F) and (M, F)."""
        for features in (samples, reference):
            if features.ndim != 2:
                raise DataError(
                    f"features of shape {tuple(features.shape)}",
                    "two tensors (examples, features)",
                    "Flatten what belongs to one example",
                )
        sides = [Kept.of(each, torch.arange(len(each)), cap) for each in (samples, reference)]
        return cls(context=MetricContext(), cap=cap, samples=sides[0], reference=sides[1])

    def with_batch(self, batch: Batch, name: str) -> PairedFeatures:
        """The state with one more batch; held-out examples are passed over."""
        if batch.features is None:
            raise TypeError(f"{name} is measured on features; the batch has none")
        if batch.source == "held-out":
            return self
        new = Kept.of(batch.features, batch.index, self.cap)
        if batch.source == "reference":
            return attrs.evolve(self, reference=_add(self.reference, new))
        return attrs.evolve(self, samples=_add(self.samples, new))

    def merge(self, other: PairedFeatures) -> PairedFeatures:
        return attrs.evolve(
            self,
            samples=_add(self.samples, other.samples),
            reference=_add(self.reference, other.reference),
        )

    def pack(self) -> dict[str, Tensor]:
        """The reference's features."""
        return {} if self.reference is None else self.reference.pack("reference")

    def unpack(self, tensors: Mapping[str, Tensor]) -> PairedFeatures:
        """The state with the reference that `pack` gave."""
        return attrs.evolve(self, reference=Kept.unpack(tensors, "reference", self.cap))

    def both(self, least: int, name: str) -> tuple[Tensor, Tensor]:
        """Features of samples and of the reference, (N, F) and (M, F) in float64.

        Raises:
            DataError: fewer than `least` of one, features that are not finite or differ in number.
        """
        if self.samples is None or self.reference is None:
            raise DataError(
                f"{name}: {'no samples' if self.samples is None else 'no reference'} examples were given",
                f"samples and reference examples, at least {least} of each",
                "Raise `evaluation.count`",
            )
        refuse_different(self.samples, self.reference)
        samples = self.samples.checked(least, f"{name} (samples)")
        return samples, self.reference.checked(least, f"{name} (reference)")

    def details(self) -> dict[str, object]:
        """What identifies a figure made of this state."""
        sides = {"samples": self.samples, "reference": self.reference}
        return {
            "features": self.context.features,
            "reference": self.context.reference,
            "reference_count": 0 if self.reference is None else self.reference.seen,
            "compared": {name: 0 if side is None else len(side.rank) for name, side in sides.items()},
        }


def _add(a: Kept | None, b: Kept | None) -> Kept | None:
    if a is None or b is None:
        return a or b
    return a.merge(b)
