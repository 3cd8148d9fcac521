"""Folders of pictures: which files there are, which class and split each belongs to, and reading them."""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffkit.errors import DataError
from diffkit.interfaces.dataset import Examples, SplitName
from diffkit.loading import brief
from diffkit_standard.datasets._images import (
    Crop,
    Header,
    Mode,
    decode,
    header,
    refuse_too_large,
    resize,
)

__all__ = [
    "MAX_FILES",
    "Decoding",
    "Listing",
    "find_images",
    "held_out",
    "list_split",
    "read_annotated",
    "read_annotations",
    "read_images",
]

_IMAGES = {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
MAX_FILES = 1_000_000
_WITHOUT = "without annotations the photographs are read as data without classes"
_COMPANIONS = {".csv", ".db", ".html", ".ini", ".json", ".mat", ".md", ".txt", ".xml", ".yaml", ".yml"}


@attrs.frozen(kw_only=True)
class Decoding:
    """How files become one tensor; the fields of the data set `image-folder` of the same names."""

    size: tuple[int, int] | None
    mode: Mode | None
    crop: Crop
    max_pixels: int = 64_000_000
    memory_limit_gib: float = 4.0


@attrs.frozen(kw_only=True)
class Listing:
    """Files in order, the class of each, and the names of the classes (none = no labels)."""

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    names: tuple[str, ...]


def find_images(root: Path, most: int = MAX_FILES) -> list[Path]:
    """Every picture below `root`, sorted by relative path. Hidden files are passed over, others said.

    Raises:
        DataError: no folder, no images, or more than `most` files.
    """
    if not root.is_dir():
        raise DataError(
            f"there is no folder {root} (looked for from {Path.cwd()})",
            "a folder of images",
            "Set `path:` (or `root:`) to the folder that holds them",
        )
    files = list(itertools.islice((path for path in root.rglob("*") if path.is_file()), most + 1))
    if len(files) > most:
        raise DataError(
            f"the folder {root} holds more than {most:,} files",
            f"at most {most:,} files (max_files)",
            "Name the folder of the images alone, or raise `max_files` if it is that large",
        )
    paths = {path.relative_to(root).as_posix(): path for path in files}
    shown = [path for name, path in sorted(paths.items()) if not name.startswith(".") and "/." not in name]
    foreign = [path for path in shown if path.suffix.lower() not in _IMAGES | _COMPANIONS]
    if foreign:
        logging.getLogger("diffkit").warning(
            "%d file(s) in %s are no known images and were passed over, %s the first",
            len(foreign),
            root,
            foreign[0],
        )
    found = [path for path in shown if path.suffix.lower() in _IMAGES]
    if not found:
        raise DataError(
            f"the folder {root} holds no images",
            f"files ending in one of {', '.join(sorted(_IMAGES))}",
            "Put the images there, or correct the path",
        )
    return found


def held_out(names: Sequence[str], share: float) -> list[bool]:
    """Which examples are for testing: those whose name hashes below `share`.

    An example keeps its side when others are added. Where the hash leaves a side empty, the
    example nearest to it moves over, so that two examples and a share above 0 make two splits.
    """
    places = [int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") for name in names]
    test = [place < share * 2.0**64 for place in places]
    if share > 0.0 and len(names) > 1 and len(set(test)) == 1:
        lonely = places.index(max(places) if test[0] else min(places))
        test[lonely] = not test[lonely]
    return test


def list_split(
    root: Path, split: SplitName, test_share: float, labels: bool | Literal["auto"], most: int = MAX_FILES
) -> Listing:
    """The files of a split: those of the folder `train` or `test` where both exist, else by hash."""
    if (root / "train").is_dir() and (root / "test").is_dir():
        home, chosen = root / split, find_images(root / split, most)
        names = _class_names(root / "train", find_images(root / "train", most), labels)
    else:
        home, found = root, find_images(root, most)
        names = _class_names(home, found, labels)
        test = held_out([path.relative_to(root).as_posix() for path in found], test_share)
        chosen = [path for path, out in zip(found, test, strict=True) if out == (split == "test")]
    if not chosen:
        raise DataError(
            f"the images in {root} leave nothing for the {split} split (test_share {test_share:g})",
            "at least one image in each split",
            "Add images, change `test_share`, or make the sub-folders `train` and `test`",
        )
    classes = [path.relative_to(home).parts[0] for path in chosen] if names else []
    strange = next((name for name in classes if name not in names), None)
    if strange is not None:
        raise DataError(
            f"{home} has a class {strange!r} that the training images lack",
            f"classes out of {', '.join(names)}",
            "Remove it, add it to `train`, or set `labels: false`",
        )
    return Listing(files=tuple(chosen), labels=tuple(names.index(name) for name in classes), names=names)


def read_images(files: Sequence[Path], decoding: Decoding) -> Tensor:
    """All pictures as one uint8 tensor (N, C, H, W), to be treated as read-only.

    Raises:
        DataError: a file that cannot be read, sizes or modes that differ, more than the memory limit.
    """
    stamps = tuple((path, *_stamp(path)) for path in files)
    return _read(stamps, decoding)


def read_annotations(path: Path, key: str) -> NDArray[Any]:
    """A variable of a MATLAB file; raises `DataError` naming the file."""
    from scipy.io import loadmat

    try:
        values: NDArray[Any] = np.atleast_1d(loadmat(path, squeeze_me=True)[key])
    # A file that is damaged makes the reader fail in any way.
    except Exception as problem:
        raise DataError(
            f"the annotations {path} cannot be read: {brief(problem)}",
            f"a whole MATLAB file with the variable {key!r}",
            f"Replace the file by a good copy; {_WITHOUT}",
        ) from problem
    return values


def read_annotated(
    files: Sequence[Path], labels: Sequence[int], classes: int, decoding: Decoding
) -> Examples:
    """Photographs, and the classes that annotations give them, 1 .. `classes`."""
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise DataError(
            f"the annotations name {missing}, which is not there",
            "every photograph that they name",
            f"Unpack the whole archive; {_WITHOUT}",
        )
    strange = next((label for label in labels if not 1 <= label <= classes), None)
    if strange is not None or not files:
        raise DataError(
            f"the annotations of {len(files)} photographs name the class {strange}",
            f"one or more photographs, of the classes 1 to {classes}",
            f"Replace the annotations by a good copy; {_WITHOUT}",
        )
    return Examples(raw=read_images(files, decoding), label=torch.tensor(labels) - 1)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


# Both splits of one data set: a run asks for each several times, and decoding may take minutes.
@functools.lru_cache(maxsize=2)
def _read(stamps: tuple[tuple[Path, int, int], ...], decoding: Decoding) -> Tensor:
    files = [path for path, *_ in stamps]
    headers = [header(path, decoding.max_pixels) for path in files]
    mode = decoding.mode or _common_mode(files, headers)
    size = decoding.size or _common_size(files, headers)
    shape = (len(files), 1 if mode == "grey" else 3, *size)
    refuse_too_large(f"the {len(files)} images in {files[0].parent}", shape, 1, decoding.memory_limit_gib)
    images = torch.empty(shape, dtype=torch.uint8)
    for row, path in zip(images, files, strict=True):
        row.copy_(resize(decode(path, mode, decoding.max_pixels)[None], size, decoding.crop)[0])
    return images


def _common_mode(files: Sequence[Path], headers: Sequence[Header]) -> Mode:
    for path, head in zip(files, headers, strict=True):
        if head.mode != headers[0].mode:
            raise DataError(
                f"grey and colour images are mixed: {files[0]} is {headers[0].mode}, {path} is {head.mode}",
                "images of one mode",
                "Set `mode: grey` or `mode: rgb` to convert them all",
            )
    return headers[0].mode


def _common_size(files: Sequence[Path], headers: Sequence[Header]) -> tuple[int, int]:
    first = headers[0]
    for path, head in zip(files, headers, strict=True):
        if (head.height, head.width) != (first.height, first.width):
            raise DataError(
                f"images of different sizes are mixed: {files[0]} has {first.height} x {first.width} pixels"
                f" (height x width), {path} has {head.height} x {head.width}",
                "images of one size",
                "Set `size:` to resize them all (bicubic), and `crop: center` to keep their proportions",
            )
    return first.height, first.width


def _class_names(home: Path, files: Sequence[Path], labels: bool | Literal["auto"]) -> tuple[str, ...]:
    if labels is False:
        return ()
    parts = [path.relative_to(home).parts for path in files]
    names = tuple(sorted({part[0] for part in parts if len(part) > 1}))
    if len(names) > 1 and all(len(part) > 1 for part in parts):
        return names
    if labels is True:
        raise DataError(
            f"`labels: true`, but the images in {home} are not sorted into folders of classes",
            "two or more sub-folders, one a class, and no image outside them",
            "Sort the images into sub-folders, or set `labels: false`",
        )
    return ()
