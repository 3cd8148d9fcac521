"""MNIST: 70,000 handwritten digits of 28 x 28 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, final

import attrs

from diffkit.component import parameter
from diffkit.errors import DataError
from diffkit.interfaces.dataset import Dataset, DataSpec, Examples, SplitName
from diffkit_standard.datasets._images import (
    Crop,
    Size,
    crop_field,
    keep_classes,
    one_of_classes,
    resize,
    sides,
    size_field,
)

__all__ = ["MNIST"]

_NAMES = tuple("0123456789")


@final
@attrs.frozen(kw_only=True)
class MNIST(Dataset):
    """Grey digits on 256 levels in ten classes: 60,000 for training, 10,000 for testing.

    `classes` keeps some of them, renumbered in the order given; a single one is data without labels.

    Raises:
        DataError: the files are missing or damaged.
    """

    source: ClassVar[str] = "LeCun et al. 1998, Gradient-based learning applied to document recognition"

    root: str = parameter(
        "the folder that holds (or will hold) MNIST/raw, as torchvision lays it out", "data"
    )
    download: bool = parameter("fetch the files if they are missing", False)
    classes: tuple[int | str, ...] | None = parameter(
        "keep only these digits; null = all", None, validator=one_of_classes(_NAMES)
    )
    size: Size = size_field(28, most=256)
    crop: Crop = crop_field()

    def spec(self) -> DataSpec:
        shape = (1, *sides(self.size))
        names = _NAMES if self.classes is None else tuple(str(name) for name in self.classes)
        if len(names) == 1:
            return DataSpec(shape=shape, levels=256)
        return DataSpec(shape=shape, classes=len(names), names=names, levels=256)

    def load(self, split: SplitName) -> Examples:
        from torchvision import datasets

        root = Path(self.root).expanduser()
        try:
            data = datasets.MNIST(root, train=split == "train", download=self.download)
        # torchvision reports missing, truncated and mangled files, and a failed download, as any of these.
        except (RuntimeError, ValueError, AssertionError, OSError, EOFError) as problem:
            raise DataError(
                f"MNIST cannot be read from {(root / 'MNIST' / 'raw').absolute()}: {problem}",
                "the four idx files as torchvision keeps them, such as train-images-idx3-ubyte",
                "Set `root:` to the folder above MNIST/raw, or `download: true` to fetch them"
                " (after removing damaged ones)",
            ) from problem
        examples = keep_classes(data.data[:, None], data.targets, _NAMES, self.classes)
        return attrs.evolve(examples, raw=resize(examples.raw, sides(self.size), self.crop))

    def unrestricted(self) -> MNIST:
        return attrs.evolve(self, classes=None)
