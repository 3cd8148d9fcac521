"""What the training data say about themselves; resolves every field that is `auto`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffkit.interfaces.dataset import Dataset

__all__ = ["DataStatistics", "settled"]


@attrs.frozen(kw_only=True)
class DataStatistics:
    """Moments of the training split, over examples and positions.

    Args:
        mean, std: of each channel (the first axis of an example), in encoded units.
        sigma_data: the standard deviation over everything about the overall mean, in encoded
            units: the sigma_data of Karras et al. 2022, arXiv 2206.00364.
        count: how many examples.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    sigma_data: float
    count: int

    @classmethod
    def of(cls, dataset: Dataset) -> DataStatistics:
        """Reads the training split and takes its moments in float64."""
        raw = dataset.load("train").raw
        raw_mean, raw_variance = _channel_moments(raw)
        spec = dataset.spec()
        scale, offset = (torch.tensor(v, dtype=torch.float64) for v in (spec.scale, spec.offset))
        mean, variance = scale * raw_mean + offset, scale**2 * raw_variance
        spread = variance.mean() + mean.var(unbiased=False)
        return cls(
            mean=tuple(mean.tolist()),
            std=tuple(variance.sqrt().tolist()),
            sigma_data=float(spread.sqrt()),
            count=len(raw),
        )


def settled(dataset: Dataset) -> tuple[Dataset, DataStatistics]:
    """The data set with every field that is `auto` set, and its statistics then. Reads the training split."""
    statistics = DataStatistics.of(dataset)
    resolved = dataset.resolved(statistics)
    return resolved, statistics if resolved == dataset else DataStatistics.of(resolved)


def _channel_moments(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel; in blocks, so that a large uint8 split is never copied whole."""
    axes = tuple(axis for axis in range(raw.ndim) if axis != 1)
    count = raw.numel() // raw.shape[1]
    blocks = [raw[first : first + 4096] for first in range(0, len(raw), 4096)]
    mean = torch.stack([block.to(torch.float64).sum(axes) for block in blocks]).sum(0) / count
    shape = (1, -1, *(1,) * (raw.ndim - 2))
    squares = [((b.to(torch.float64) - mean.reshape(shape)) ** 2).sum(axes) for b in blocks]
    return mean, torch.stack(squares).sum(0) / count
