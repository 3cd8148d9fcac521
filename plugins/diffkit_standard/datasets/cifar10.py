"""CIFAR-10: 60,000 colour photographs of 32 x 32 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, final

import attrs
import torch
from torch import Tensor

from diffkit.component import parameter
from diffkit.errors import DataError
from diffkit.interfaces.dataset import Dataset, DataSpec, Examples, SplitName
from diffkit_standard.datasets._folder import Decoding, find_images, read_images
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

__all__ = ["CIFAR10"]

_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_DECODING = Decoding(size=(32, 32), mode="rgb", crop="none")


@final
@attrs.frozen(kw_only=True)
class CIFAR10(Dataset):
    """RGB photographs on 256 levels in ten classes: 50,000 for training, 10,000 for testing.

    Read from torchvision's `cifar-10-batches-py` under `root`, or else from image files at
    `root/train/<class>/*` and `root/test/<class>/*`, as many as there are. `classes` keeps some
    classes, renumbered in the order given; a single one is data without labels.

    Raises:
        DataError: neither layout is there, or its files are damaged.
    """

    source: ClassVar[str] = "Krizhevsky 2009, Learning multiple layers of features from tiny images"

    root: str = parameter("the folder that holds (or will hold) either layout", "data")
    download: bool = parameter("fetch torchvision's layout if neither is there", False)
    classes: tuple[str | int, ...] | None = parameter(
        "keep only these classes, such as [ship]; null = all", None, validator=one_of_classes(_NAMES)
    )
    size: Size = size_field(32, most=256)
    crop: Crop = crop_field()

    def spec(self) -> DataSpec:
        shape = (3, *sides(self.size))
        if self.classes is not None and len(self.classes) == 1:
            return DataSpec(shape=shape, levels=256)
        return DataSpec(shape=shape, classes=len(self._kept), names=self._kept, levels=256)

    def load(self, split: SplitName) -> Examples:
        root = Path(self.root).expanduser()
        folders = [root / split / name for name in self._kept]
        if not (root / "cifar-10-batches-py").is_dir() and all(folder.is_dir() for folder in folders):
            raw, label = _from_files(folders)
            examples = Examples(raw=raw, label=label if len(folders) > 1 else None)
        else:
            raw, label = self._from_batches(root, split)
            examples = keep_classes(raw, label, _NAMES, self.classes)
        return attrs.evolve(examples, raw=resize(examples.raw, sides(self.size), self.crop))

    def unrestricted(self) -> CIFAR10:
        return attrs.evolve(self, classes=None)

    @property
    def _kept(self) -> tuple[str, ...]:
        return _NAMES if self.classes is None else tuple(str(name) for name in self.classes)

    def _from_batches(self, root: Path, split: SplitName) -> tuple[Tensor, Tensor]:
        from torchvision import datasets

        # torchvision unpickles these files, but only after their checksums have matched its own list.
        try:
            data = datasets.CIFAR10(root, train=split == "train", download=self.download)
        except (RuntimeError, OSError, EOFError) as problem:
            raise DataError(
                f"CIFAR-10 cannot be read from {root.absolute()}: {problem}",
                f"there torchvision's whole cifar-10-batches-py, or images in {split}/<class>"
                f" for each of {', '.join(self._kept)}",
                "Set `root:` to the folder above either, or `download: true` to fetch it",
            ) from problem
        return torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(data.targets)


def _from_files(folders: list[Path]) -> tuple[Tensor, Tensor]:
    files = [find_images(folder) for folder in folders]
    label = [number for number, found in enumerate(files) for _ in found]
    return read_images([path for found in files for path in found], _DECODING), torch.tensor(label)
