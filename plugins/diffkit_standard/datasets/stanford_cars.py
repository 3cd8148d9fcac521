"""Stanford Cars: 16,185 photographs of cars of 196 makes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, final

import attrs

from diffkit.component import parameter
from diffkit.errors import DataError
from diffkit.interfaces.dataset import Dataset, DataSpec, Examples, SplitName
from diffkit_standard.datasets._folder import Decoding, read_annotated, read_annotations
from diffkit_standard.datasets._images import Crop, Size, crop_field, sides, size_field
from diffkit_standard.datasets.image_folder import ImageFolder

__all__ = ["StanfordCars"]

_CLASSES = 196
_ANNOTATIONS = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}


@final
@attrs.frozen(kw_only=True)
class StanfordCars(Dataset):
    """RGB photographs on 256 levels: 8,144 for training, 8,041 for testing, in 196 classes.

    Read as torchvision lays them out: `stanford_cars/cars_train`, `cars_test`, `devkit` and
    `cars_test_annos_withlabels.mat` under `root`. Without the annotations the photographs of `cars_train`
    are data without labels, and without `cars_train` those of any folders in `stanford_cars` are taken as
    `image-folder` takes them. The authors' site no longer has the files, so nothing here can fetch them.

    Raises:
        DataError: neither is there, or a file is damaged.
    """

    source: ClassVar[str] = "Krause et al. 2013, 3D object representations for fine-grained categorization"

    root: str = parameter("the folder that holds stanford_cars", "data")
    size: Size = size_field(64)
    crop: Crop = crop_field()

    def spec(self) -> DataSpec:
        if self._plain is not None:
            return self._plain.spec()
        return DataSpec(shape=(3, *sides(self.size)), classes=_CLASSES, levels=256)

    def load(self, split: SplitName) -> Examples:
        if self._plain is not None:
            return self._plain.load(split)
        if not self._annotated:
            raise DataError(
                f"Stanford Cars cannot be read from {self._base.absolute()}, which is no folder",
                "there torchvision's cars_train, cars_test, devkit and cars_test_annos_withlabels.mat,"
                " or folders of photographs",
                "Get the archive from where it is still kept and unpack it there, or correct `root:`",
            )
        table = read_annotations(self._base / _ANNOTATIONS[split], "annotations")
        files = [self._base / f"cars_{split}" / str(name) for name in table["fname"]]
        labels = [int(number) for number in table["class"]]
        return read_annotated(
            files, labels, _CLASSES, Decoding(size=sides(self.size), mode="rgb", crop=self.crop)
        )

    @property
    def _base(self) -> Path:
        return Path(self.root).expanduser() / "stanford_cars"

    @property
    def _annotated(self) -> bool:
        return (self._base / "devkit").is_dir()

    @property
    def _plain(self) -> ImageFolder | None:
        """The photographs without annotations; None where there are annotations, or no photographs."""
        if self._annotated or not self._base.is_dir():
            return None
        theirs = self._base / "cars_train"
        return ImageFolder(
            path=str(theirs if theirs.is_dir() else self._base),
            size=self.size,
            mode="rgb",
            crop=self.crop,
            labels=False if theirs.is_dir() else "auto",
        )
