"""Oxford Flowers 102: 8,189 photographs of flowers of 102 kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, final

import attrs
from attrs.validators import deep_iterable, in_

from diffkit.component import parameter
from diffkit.errors import DataError
from diffkit.interfaces.dataset import Dataset, DataSpec, Examples, SplitName
from diffkit_standard.datasets._folder import Decoding, read_annotated, read_annotations
from diffkit_standard.datasets._images import Crop, Size, crop_field, sides, size_field
from diffkit_standard.datasets.image_folder import ImageFolder

__all__ = ["Flowers102"]

_CLASSES = 102
_PARTS = {"train": "trnid", "val": "valid", "test": "tstid"}


def _some_but_not_all(flowers: Flowers102, attribute: Any, value: tuple[str, ...]) -> None:
    if not 1 <= len(set(value)) == len(value) < len(_PARTS):
        raise ValueError("train_on must be one or two of train, val, test: the rest is held out")


@final
@attrs.frozen(kw_only=True)
class Flowers102(Dataset):
    """RGB photographs on 256 levels in 102 classes.

    Read as torchvision lays them out: `flowers-102/jpg`, `imagelabels.mat` and `setid.mat` under `root`.
    The authors' parts `train` and `val` have 1,020 photographs each, ten a class, `test` the other 6,149;
    `train_on` says of which the training split is made. Without the two files the photographs of any
    folders in `flowers-102` are taken as `image-folder` takes them.

    Raises:
        DataError: neither is there, or a file is damaged.
    """

    source: ClassVar[str] = (
        "Nilsback and Zisserman 2008, Automated flower classification over a large number of classes"
    )

    root: str = parameter("the folder that holds (or will hold) flowers-102", "data")
    download: bool = parameter("fetch the files if they are missing", False)
    train_on: tuple[Literal["train", "val", "test"], ...] = parameter(
        "the authors' parts that are trained on; the rest is held out",
        ("train", "val"),
        validator=[deep_iterable(in_(tuple(_PARTS))), _some_but_not_all],
    )
    size: Size = size_field(64)
    crop: Crop = crop_field()

    def spec(self) -> DataSpec:
        if self._plain is not None:
            return self._plain.spec()
        return DataSpec(shape=(3, *sides(self.size)), classes=_CLASSES, levels=256)

    def load(self, split: SplitName) -> Examples:
        if self._plain is not None:
            return self._plain.load(split)
        if self.download and not self._annotated:
            self._fetch()
        if not self._annotated:
            raise self._missing("there is no setid.mat")
        numbers = read_annotations(self._base / "imagelabels.mat", "labels").tolist()
        parts = [part for part in _PARTS if (part in self.train_on) == (split == "train")]
        chosen = [
            int(number)
            for part in parts
            for number in read_annotations(self._base / "setid.mat", _PARTS[part])
        ]
        files = [self._base / "jpg" / f"image_{number:05d}.jpg" for number in chosen]
        labels = [int(numbers[number - 1]) for number in chosen]
        return read_annotated(
            files, labels, _CLASSES, Decoding(size=sides(self.size), mode="rgb", crop=self.crop)
        )

    def _fetch(self) -> None:
        from torchvision import datasets

        try:
            datasets.Flowers102(self._base.parent, download=True)
        except (RuntimeError, ValueError, OSError, EOFError) as problem:
            raise self._missing(str(problem)) from problem

    def _missing(self, problem: str) -> DataError:
        return DataError(
            f"Flowers 102 cannot be read from {self._base.absolute()}: {problem}",
            "there torchvision's jpg, imagelabels.mat and setid.mat, or folders of photographs",
            "Set `root:` to the folder above it, or `download: true` to fetch them",
        )

    @property
    def _base(self) -> Path:
        return Path(self.root).expanduser() / "flowers-102"

    @property
    def _annotated(self) -> bool:
        return (self._base / "setid.mat").is_file()

    @property
    def _plain(self) -> ImageFolder | None:
        """The photographs without annotations; None where there are annotations, or will be."""
        if self._annotated or self.download or not self._base.is_dir():
            return None
        return ImageFolder(path=str(self._base), size=self.size, mode="rgb", crop=self.crop)
