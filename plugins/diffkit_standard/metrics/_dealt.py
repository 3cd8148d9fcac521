"""The state of metrics that compare moments: samples dealt into groups, and the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import torch
from torch import Tensor

from diffkit.batch import Batch
from diffkit.errors import DataError
from diffkit.interfaces.metric import MetricContext
from diffkit_standard.metrics._groups import group_of
from diffkit_standard.metrics._moments import Moments, covariance_factor, frechet

__all__ = ["GROUPS", "DealtMoments", "distances_to", "left_out", "refuse_different"]

GROUPS = 10


@attrs.frozen(kw_only=True, eq=False)
class DealtMoments:
    """Moments of ten groups of samples and of the reference; None where there is no example yet."""

    context: MetricContext
    samples: tuple[Moments | None, ...] = (None,) * GROUPS
    reference: Moments | None = None

    def with_batch(self, batch: Batch, name: str) -> DealtMoments:
        """The state with one more batch; held-out examples are passed over."""
        if batch.features is None:
            raise TypeError(f"{name} is measured on features; the batch has none")
        if batch.source == "reference":
            return attrs.evolve(self, reference=_add(self.reference, Moments.of(batch.features)))
        if batch.source != "samples":
            return self
        group = group_of(batch.index.cpu(), GROUPS)
        parts = [
            _add(part, Moments.of(batch.features[group == number])) if (group == number).any() else part
            for number, part in enumerate(self.samples)
        ]
        return attrs.evolve(self, samples=tuple(parts))

    def merge(self, other: DealtMoments) -> DealtMoments:
        samples = tuple(_add(x, y) for x, y in zip(self.samples, other.samples, strict=True))
        return attrs.evolve(self, samples=samples, reference=_add(self.reference, other.reference))

    def pack(self) -> dict[str, Tensor]:
        """The reference's moments as tensors."""
        if self.reference is None:
            return {}
        count = torch.tensor(self.reference.count)
        return {"count": count, "mean": self.reference.mean, "m2": self.reference.m2}

    def unpack(self, tensors: Mapping[str, Tensor]) -> DealtMoments:
        """The state with the reference's moments that `pack` gave."""
        moments = Moments(count=int(tensors["count"]), mean=tensors["mean"], m2=tensors["m2"])
        return attrs.evolve(self, reference=moments)

    def examples(self, name: str) -> tuple[list[Moments], Moments]:
        """The groups that hold samples, and the reference.

        Raises:
            DataError: one of them is missing, or their features differ in number.
        """
        groups = [part for part in self.samples if part is not None]
        if not groups or self.reference is None:
            raise DataError(
                f"{name}: {'no reference' if groups else 'no'} examples were given",
                "samples and reference examples, at least 2 of each",
                "Raise `evaluation.count`",
            )
        refuse_different(groups[0], self.reference)
        return groups, self.reference

    def details(self) -> dict[str, object]:
        """What identifies a figure made of this state."""
        return {
            "features": self.context.features,
            "reference": self.context.reference,
            "reference_count": None if self.reference is None else self.reference.count,
        }


def distances_to(reference: Moments, name: str) -> Callable[[Moments], float]:
    """The Frechet distance to the reference, whose covariance is factored once."""
    factor = covariance_factor(reference, f"{name} (reference)")

    def distance(moments: Moments) -> float:
        own = covariance_factor(moments, f"{name} (samples)")
        return frechet(moments.mean, own, reference.mean, factor)

    return distance


def left_out(groups: list[Moments]) -> list[list[Moments]]:
    """All the groups but one, for each one; nothing where that leaves fewer than two examples."""
    rests = [groups[:j] + groups[j + 1 :] for j in range(len(groups))]
    enough = len(groups) > 1 and all(sum(part.count for part in rest) > 1 for rest in rests)
    return rests if enough else []


def refuse_different(a: Moments, b: Moments) -> None:
    if a.mean.shape != b.mean.shape:
        raise DataError(
            f"{len(a.mean)} and {len(b.mean)} features an example",
            "as many in both sets",
            "Use one extractor for samples and reference",
        )


def _add(a: Moments | None, b: Moments | None) -> Moments | None:
    if a is None or b is None:
        return a or b
    refuse_different(a, b)
    return a.merge(b)
