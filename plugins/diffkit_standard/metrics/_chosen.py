"""A fair choice of a few examples out of a stream, whatever its order and cuts."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from diffkit.batch import Batch
from diffkit.errors import DataError
from diffkit.noise import Noise

__all__ = ["Chosen"]


@attrs.frozen(kw_only=True, eq=False)
class Chosen:
    """The examples with the `limit` smallest keys so far, in the order of their indices.

    A key is uniform noise of the example itself, so every choice of so many examples is as likely as another.

    Args:
        limit: how many are kept at most.
        key: (n,) float64.
        x: (n, ...).
        label: (n,) int64, -1 = none.
        noise: streams of their own, by index.
    """

    limit: int
    key: Tensor
    x: Tensor
    label: Tensor
    noise: Noise

    @classmethod
    def of(cls, batch: Batch, noise: Noise, limit: int, name: str) -> Chosen:
        """The chosen ones of a batch; `name` is the metric's, for the error.

        Raises:
            DataError: NaN or infinite values.
        """
        if not bool(torch.isfinite(batch.x).all()):
            raise DataError(
                f"{name}: the held-out examples hold NaN or infinite values",
                "finite examples",
                "Look for the damaged files of the data set",
            )
        label = torch.full_like(batch.index, -1) if batch.label is None else batch.label
        key = noise.stream("choice").uniform((len(batch.index), 1), dtype=torch.float64).squeeze(1)
        return cls(limit=limit, key=key, x=batch.x, label=label, noise=noise)._trimmed()

    def merge(self, other: Chosen) -> Chosen:
        """The chosen ones of both."""
        index = torch.cat((self.noise.index, other.noise.index))
        return attrs.evolve(
            self,
            key=torch.cat((self.key, other.key)),
            x=torch.cat((self.x, other.x)),
            label=torch.cat((self.label, other.label)),
            noise=attrs.evolve(self.noise, index=index),
        )._trimmed()

    def __len__(self) -> int:
        return len(self.key)

    def split(self, size: int) -> list[Chosen]:
        """In parts of `size`."""
        return [self._rows(rows) for rows in torch.split(torch.arange(len(self)), size)]

    def _trimmed(self) -> Chosen:
        rows = torch.argsort(self.key)[: self.limit]
        return self._rows(rows[torch.argsort(self.noise.index[rows])])

    def _rows(self, rows: Tensor) -> Chosen:
        return attrs.evolve(
            self, key=self.key[rows], x=self.x[rows], label=self.label[rows], noise=self.noise.take(rows)
        )
