"""Pictures in a folder, with sub-folders as classes where there are any."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal, final

import attrs
import torch
from attrs.validators import (
    and_,
    ge,
    gt,
    in_,
    le,
    lt,
    optional,
)

from diffkit.component import parameter
from diffkit.errors import DataError
from diffkit.interfaces.dataset import Dataset, DataSpec, Examples, SplitName
from diffkit_standard.datasets._folder import MAX_FILES, Decoding, list_split, read_images
from diffkit_standard.datasets._images import Crop, Size, crop_field, header, sides, size_field

__all__ = ["ImageFolder"]


@final
@attrs.frozen(kw_only=True)
class ImageFolder(Dataset):
    """Every image below a folder, decoded once into uint8 (N, C, H, W), 256 levels, grey or RGB.

    Order: sorted relative paths. Splits: the sub-folders `train` and `test` where both exist, else
    an image is for testing if its relative path hashes below `test_share`, so that adding images
    moves none to the other side. Palette and transparent (on white) files become RGB, 16-bit grey
    is divided by 257, CMYK becomes RGB, floating-point pictures are refused, EXIF orientation is applied.
    With `size` and `mode` set and `labels: false`, `spec` reads nothing; else the folders' names and
    one header.

    Raises:
        DataError: no folder, no images, a file that cannot be read, mixed sizes without `size`,
            mixed modes without `mode`, more pixels, files or memory than the limits allow.
    """

    path: str = parameter("the folder; relative to where the command is run")
    size: Size | None = size_field(None, "as they are")
    mode: Literal["grey", "rgb"] | None = parameter(
        "convert every image to this; null = as they are", None, validator=optional(in_(("grey", "rgb")))
    )
    crop: Crop = crop_field()
    labels: bool | Literal["auto"] = parameter(
        "sub-folders are classes; auto = if there are two or more and no image lies outside them",
        "auto",
        validator=in_((True, False, "auto")),
    )
    test_share: float = parameter(
        "share of the images held out, where there are no folders `train` and `test`",
        0.1,
        validator=and_(ge(0.0), lt(1.0)),
    )
    # Above this number Pillow itself refuses or warns.
    max_pixels: int = parameter(
        "refuse larger files, which may be decompression bombs",
        64_000_000,
        validator=and_(ge(1), le(89_478_485)),
    )
    max_files: int = parameter("refuse folders with more files than this", MAX_FILES, validator=ge(1))
    memory_limit_gib: float = parameter("refuse splits that take more memory, in GiB", 4.0, validator=gt(0.0))

    def spec(self) -> DataSpec:
        return self._spec

    def load(self, split: SplitName) -> Examples:
        listing = list_split(self._root, split, self.test_share, self.labels, self.max_files)
        decoding = Decoding(
            size=self._size,
            mode=self.mode,
            crop=self.crop,
            max_pixels=self.max_pixels,
            memory_limit_gib=self.memory_limit_gib,
        )
        raw = read_images(listing.files, decoding)
        if tuple(raw.shape[1:]) != self.spec().shape:
            raise DataError(
                f"the {split} images in {self._root} have the shape {tuple(raw.shape[1:])}",
                f"{self.spec().shape}, the shape of the training images",
                "Set `size:` and `mode:` to bring them all to one shape",
            )
        label = torch.tensor(listing.labels, dtype=torch.int64) if listing.names else None
        return Examples(raw=raw, label=label)

    @cached_property
    def _spec(self) -> DataSpec:
        names: tuple[str, ...] = ()
        mode, size = self.mode, self._size
        if mode is None or size is None or self.labels is not False:
            listing = list_split(self._root, "train", self.test_share, self.labels, self.max_files)
            names = listing.names
            if mode is None or size is None:
                first = header(listing.files[0], self.max_pixels)
                mode, size = mode or first.mode, size or (first.height, first.width)
        shape = (1 if mode == "grey" else 3, *size)
        return DataSpec(shape=shape, classes=len(names) or None, names=names, levels=256)

    @property
    def _root(self) -> Path:
        return Path(self.path).expanduser()

    @property
    def _size(self) -> tuple[int, int] | None:
        return None if self.size is None else sides(self.size)
