"""The training data as a stream of batches, each a pure function of the seed and the step.

Place j of the global batch of step n takes position n B + j of the epochs laid end to end, each a
permutation of its own; several processes take contiguous shares of one global batch.
"""

from __future__ import annotations

import hashlib

import attrs
import torch
from torch import Tensor

from diffkit.batch import Batch
from diffkit.config import TrainingConfig
from diffkit.interfaces.dataset import Dataset
from diffkit.noise import Noise

__all__ = ["Batches", "hashed", "take"]


class Batches:
    """The training split in memory, on the device, and what each step sees of it.

    Args:
        dataset: read here.
        config: batch size, labels, label dropout and flips.
        seed: of the order and of everything random about an example.
        device: where the examples are kept.
        rank, processes: whose share of the global batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: TrainingConfig,
        *,
        seed: int,
        device: torch.device,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        examples = dataset.load("train")
        self._dataset, self._config, self._seed, self._device = dataset, config, seed, device
        self._raw = examples.raw.to(device)
        labelled = config.labels and examples.label is not None
        self._label = examples.label.to(device) if labelled and examples.label is not None else None
        self._order = _Order(seed, len(examples))
        first, stop = (config.batch_size * r // processes for r in (rank, rank + 1))
        self._place = torch.arange(first, stop)

    def __len__(self) -> int:
        """How many examples there are."""
        return len(self._raw)

    def at(self, step: int) -> tuple[Batch, Noise]:
        """This process's share of the batch of step 0, 1, ..., and noise for the objective.

        The noise is keyed by seed and step, and indexed by place in the global batch.
        """
        rows = self._order.rows(step * self._config.batch_size + self._place).to(self._device)
        noise = Noise(seed=self._seed, index=self._place.to(self._device), path=("training", step))
        x = self._dataset.encode(self._raw[rows])
        if self._config.flip:
            mirrored = noise.stream("flip").uniform((len(rows),)) < 0.5
            x = torch.where(mirrored.reshape(-1, *(1,) * (x.ndim - 1)), x.flip(-1), x)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        label = None
        if self._label is not None:
            hidden = noise.stream("label").uniform((len(rows),)) < self._config.label_dropout
            label = torch.where(hidden, -1, self._label[rows])
        return Batch(x=x, index=rows, label=label), noise.stream("objective")


@attrs.define
class _Order:
    """Which example stands at which position of the epochs laid end to end."""

    seed: int
    count: int
    _epochs: dict[int, Tensor] = attrs.field(factory=dict, init=False)

    def rows(self, positions: Tensor) -> Tensor:
        """(B,) row numbers, for increasing positions."""
        needed = range(int(positions[0]) // self.count, int(positions[-1]) // self.count + 1)
        self._epochs = {epoch: self._permutation(epoch) for epoch in needed}
        return torch.cat(list(self._epochs.values()))[positions - self.count * needed.start]

    def _permutation(self, epoch: int) -> Tensor:
        if epoch in self._epochs:
            return self._epochs[epoch]
        generator = torch.Generator().manual_seed(hashed(self.seed, "order", epoch))
        return torch.randperm(self.count, generator=generator)


def take(batch: Batch, rows: Tensor) -> Batch:
    """Some of the examples of a training batch."""
    label = None if batch.label is None else batch.label[rows]
    return attrs.evolve(batch, x=batch.x[rows], index=batch.index[rows], label=label)


def hashed(*parts: int | str) -> int:
    """A seed for one of torch's generators, from whatever it is kept apart by."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=7).digest(), "little")
