"""Another data set, brought to zero mean and unit variance in each channel."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import attrs
import torch
from attrs.validators import deep_iterable, gt, instance_of
from torch import Tensor

from diffkit.component import parameter
from diffkit.errors import ConfigError, DataError
from diffkit.interfaces.dataset import Dataset, DataSpec, Examples, SplitName
from diffkit.tensors import per_channel
from diffkit_standard.datasets.digits import Digits

__all__ = ["Normalized"]

Values = tuple[float, ...] | Literal["auto"]


def _auto_or(member: Any) -> Any:
    """An attrs validator: auto, or a sequence of such members."""

    def validate(instance: Any, attribute: Any, value: Any) -> None:
        if value != "auto":
            deep_iterable(member, instance_of((tuple, list)))(instance, attribute, value)

    return validate


@final
@attrs.frozen(kw_only=True)
class Normalized(Dataset):
    """x = (y - mean) / std, where y are the examples as `dataset` encodes them, channel by channel.

    Everything else is that data set's: files, splits, labels, levels, pictures. The units of fields and
    files stay its own too, such as [-1, 1] of images for the clamp of `threshold` and for `samples.npz`;
    noise is added, and densities are taken, in those of x, which bits/dim undo.

    Raises:
        ConfigError: asked to encode before `auto` was resolved from the training data.
        DataError: values of another number of channels.
    """

    source: ClassVar[str] = ""

    dataset: Dataset = parameter("what is normalised", factory=Digits)
    mean: Values = parameter(
        "of each channel, in the units of `dataset`; auto = measured on the training split",
        "auto",
        validator=_auto_or(instance_of(float)),
    )
    std: Values = parameter(
        "standard deviation of each channel, likewise", "auto", validator=_auto_or(gt(0.0))
    )

    def spec(self) -> DataSpec:
        """Before `auto` is resolved its units are those of `dataset`, so that they can be measured."""
        inner = self.dataset.spec()
        if self.mean == "auto" or self.std == "auto":
            return inner
        like = torch.empty(1, *inner.shape, dtype=torch.float64)
        mean, std = self._moments(like)
        scale, offset = per_channel(inner.scale, like) / std, (per_channel(inner.offset, like) - mean) / std
        return attrs.evolve(
            inner, scale=tuple(scale.flatten().tolist()), offset=tuple(offset.flatten().tolist())
        )

    def load(self, split: SplitName) -> Examples:
        return self.dataset.load(split)

    def picture(self, x: Tensor) -> Tensor:
        return self.dataset.picture(self._inner(x))

    def to_plain(self, x: Tensor) -> Tensor:
        return self.dataset.to_plain(self._inner(x))

    def from_plain(self, x: Tensor) -> Tensor:
        mean, std = self._moments(x)
        return (self.dataset.from_plain(x) - mean) / std

    def resolved(self, statistics: Any) -> Dataset:
        return attrs.evolve(
            self,
            dataset=self.dataset.resolved(statistics),
            mean=statistics.mean if self.mean == "auto" else self.mean,
            # A constant channel has no spread; any scale serves it.
            std=tuple(std or 1.0 for std in statistics.std) if self.std == "auto" else self.std,
        )

    def unrestricted(self) -> Dataset:
        return attrs.evolve(self, dataset=self.dataset.unrestricted())

    def _inner(self, x: Tensor) -> Tensor:
        """x in the units of `dataset`."""
        mean, std = self._moments(x)
        return x * std + mean

    def _moments(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel, to broadcast over a batch (B, C, ...)."""
        if self.mean == "auto" or self.std == "auto":
            raise ConfigError(
                "The mean and the standard deviation of the data set normalized are still 'auto'",
                "those of the training data",
                "Give numbers, or call resolved(DataStatistics.of(dataset)) first",
            )
        shape = self.dataset.spec().shape
        for key, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, shape[0]):
                raise ConfigError(
                    f"The key {key} of the data set normalized has {len(values)} numbers",
                    f"one, or one for each of {shape[0]} channels",
                    "Give as many, or auto",
                )
        if like.shape[1] != shape[0]:
            raise DataError(
                f"the data set normalized was given values of {like.shape[1]} channels",
                f"{shape[0]}, each of which has a mean of its own",
                "Give what has the channels of the examples, or use the data set without normalized",
            )
        return per_channel(self.mean, like), per_channel(self.std, like)

    def _affine(self, like: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        self._moments(like.to(dtype or torch.get_default_dtype()))  # refuses what cannot be encoded yet
        return super()._affine(like, dtype)
