"""Features of examples, kept up to a cap: the same ones whatever order and batches they came in."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch
from torch import Tensor

from diffkit.errors import DataError
from diffkit_standard.metrics._groups import rank_of

__all__ = ["Kept", "refuse_different", "squared_distances"]


@attrs.frozen(kw_only=True, eq=False)
class Kept:
    """Of all examples seen, the `cap` of lowest rank, in the order of their ranks.

    Ranks scatter the indices (see `rank_of`), so that what is kept is spread evenly over what was seen,
    sorted or not.

    Args:
        cap: how many are kept.
        seen: how many there were.
        bad: how many of these, kept or not, hold values that are not finite.
        rank: (N,) int64, rising.
        features: (N, F).
    """

    cap: int
    seen: int
    bad: int
    rank: Tensor
    features: Tensor

    @classmethod
    def of(cls, features: Tensor, index: Tensor, cap: int) -> Kept:
        """One batch: features (B, F), their global indices (B,)."""
        return cls(
            cap=cap,
            seen=len(index),
            bad=int((~torch.isfinite(features)).any(1).sum()),
            rank=rank_of(index.cpu()),
            features=features.detach().cpu(),
        )._lowest()

    def merge(self, other: Kept) -> Kept:
        if self.features.shape[1:] != other.features.shape[1:]:
            refuse_different(self, other)
        if len(self.rank) == self.cap and len(other.rank):
            other = other._take(other.rank < self.rank[-1])
        together = attrs.evolve(self, seen=self.seen + other.seen, bad=self.bad + other.bad)
        if not len(other.rank):
            return together
        return attrs.evolve(
            together,
            rank=torch.cat([self.rank, other.rank]),
            features=torch.cat([self.features, other.features]),
        )._lowest()

    def pack(self, name: str) -> dict[str, Tensor]:
        """This record as tensors, their names beginning with `name`."""
        return {
            f"{name}.seen": torch.tensor(self.seen),
            f"{name}.bad": torch.tensor(self.bad),
            f"{name}.rank": self.rank,
            f"{name}.features": self.features,
        }

    @classmethod
    def unpack(cls, tensors: Mapping[str, Tensor], name: str, cap: int) -> Kept:
        """The record that `pack` was asked of."""
        return cls(
            cap=cap,
            seen=int(tensors[f"{name}.seen"]),
            bad=int(tensors[f"{name}.bad"]),
            rank=tensors[f"{name}.rank"],
            features=tensors[f"{name}.features"],
        )

    def checked(self, least: int, name: str) -> Tensor:
        """The features in float64.

        Raises:
            DataError: fewer than `least` of them, or features that are not finite.
        """
        if len(self.features) < least:
            raise DataError(
                f"{name}: {len(self.features)} example(s)", f"at least {least}", "Raise `evaluation.count`"
            )
        if self.bad:
            raise DataError(
                f"{name}: {self.bad} of {self.seen} examples hold NaN or infinite values",
                "finite values",
                "Look at the samples: the model may have diverged",
            )
        return self.features.to(torch.float64)

    def _take(self, rows: Tensor) -> Kept:
        return attrs.evolve(self, rank=self.rank[rows], features=self.features[rows])

    def _lowest(self) -> Kept:
        order = torch.argsort(self.rank)[: self.cap]
        return self._take(order)


def refuse_different(a: Kept, b: Kept) -> None:
    if a.features.shape[1:] != b.features.shape[1:]:
        raise DataError(
            f"features of shapes {tuple(a.features.shape[1:])} and {tuple(b.features.shape[1:])}",
            "as many features in both sets",
            "Use one extractor for samples and reference",
        )


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2, (N, M), of float64 features; whole numbers stay exact."""
    squares = a.square().sum(1)[:, None] + b.square().sum(1)[None]
    return (squares - 2.0 * (a @ b.T)).clamp_min(0.0)
