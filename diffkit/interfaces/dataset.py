"""The data set: examples, their units and their meaning."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from diffkit.component import Component

__all__ = ["DataSpec", "Dataset", "Examples", "SplitName"]

SplitName = Literal["train", "test"]


@attrs.frozen(kw_only=True)
class DataSpec:
    """What is known of a data set before it is read.

    Args:
        shape: of one example, channels first for images.
        classes: how many classes the labels tell apart; None = no labels.
        names: of the classes; empty = their numbers.
        levels: L, for data on the integers 0 .. L-1; None = continuous.
        scale, offset: x = scale * raw + offset, one value or one a channel (the first axis).
            By default x = 2 (raw + 1/2) / L - 1 where there are levels, x = raw where not.
    """

    shape: tuple[int, ...]
    classes: int | None = None
    names: tuple[str, ...] = ()
    levels: int | None = None
    scale: tuple[float, ...] = attrs.field()
    offset: tuple[float, ...] = attrs.field()

    @scale.default
    def _default_scale(self) -> tuple[float, ...]:
        return (1.0,) if self.levels is None else (2.0 / self.levels,)

    @offset.default
    def _default_offset(self) -> tuple[float, ...]:
        return (0.0,) if self.levels is None else (1.0 / self.levels - 1.0,)

    @property
    def image(self) -> bool:
        """Whether examples are grey or RGB pictures."""
        return len(self.shape) == 3 and self.shape[0] in (1, 3)


@attrs.frozen(kw_only=True, eq=False)
class Examples:
    """One split, whole, in memory.

    Args:
        raw: (N, *shape): uint8 levels, or floating point where the data are continuous.
        label: (N,) int64; None = no labels.
    """

    raw: Tensor
    label: Tensor | None = None

    def __len__(self) -> int:
        return len(self.raw)


class Dataset(Component):
    """Examples that a model is trained on and held against."""

    @abstractmethod
    def spec(self) -> DataSpec:
        """Shape, classes and units; at most folder names and file headers are looked at."""

    @abstractmethod
    def load(self, split: SplitName) -> Examples:
        """Reads one split.

        Raises:
            DataError: missing, corrupt or inconsistent data, naming the file and the remedy.
        """

    def encode(self, raw: Tensor) -> Tensor:
        """Raw values as a model sees them, in torch's default dtype: affine per channel."""
        scale, offset = self._affine(raw)
        return raw.to(scale.dtype) * scale + offset

    def decode(self, x: Tensor) -> Tensor:
        """Encoded values as raw ones, for files and features only.

        On the levels, clipped, uint8; or, where the data are continuous, in the dtype of `x`.
        """
        scale, offset = self._affine(x, x.dtype if x.is_floating_point() else None)
        raw = (x - offset) / scale
        levels = self.spec().levels
        if levels is None:
            return raw
        dtype = torch.uint8 if levels <= 256 else torch.int64
        return raw.round().clamp(0, levels - 1).to(dtype)

    def picture(self, x: Tensor) -> Tensor:
        """Encoded values as pictures for a report: (B, 1 or 3, H, W) in [0, 1].

        The default serves grey and RGB images (black is the lowest level, or -1 where there are
        none); other data sets draw themselves.
        """
        spec = self.spec()
        if not spec.image:
            raise TypeError(f"{type(self).__name__} holds no images; it must define `picture`")
        if spec.levels is None:
            return (0.5 * (x.to(torch.float32) + 1.0)).clamp(0.0, 1.0)
        return self.decode(x).to(torch.float32) / (spec.levels - 1)

    def to_plain(self, x: Tensor) -> Tensor:
        """Encoded values in plain units, in which images lie in [-1, 1]: those of files and of fields."""
        return x

    def from_plain(self, x: Tensor) -> Tensor:
        """The inverse of `to_plain`."""
        return x

    def fingerprint(self) -> str:
        """A checksum of the training split's values and labels, and of the units."""
        examples = self.load("train")
        digest = hashlib.sha256(repr(attrs.astuple(self.spec())).encode())
        for tensor in (examples.raw, examples.label):
            if tensor is not None:
                digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def resolved(self, statistics: Any) -> Dataset:
        """This data set with every field that is `auto` set from the training data."""
        return self

    def unrestricted(self) -> Dataset:
        """This data set with all its classes, where a field keeps only some; features are learnt on it."""
        return self

    def _affine(self, like: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        spec = self.spec()
        dtype = dtype or torch.get_default_dtype()
        inner = (1,) * (len(spec.shape) - 1)
        scale = torch.tensor(spec.scale, dtype=dtype, device=like.device)
        offset = torch.tensor(spec.offset, dtype=dtype, device=like.device)
        return scale.reshape(-1, *inner), offset.reshape(-1, *inner)
