"""Pictures as uint8 tensors: one rule for each kind of file, one way to resize, one way to keep classes.

| file              | becomes                                                                    |
|-------------------|----------------------------------------------------------------------------|
| grey, bilevel     | grey, 0 .. 255                                                             |
| 16-bit grey       | grey, value / 257 rounded                                                  |
| RGB, CMYK, YCbCr  | RGB, 0 .. 255 (16 bits a channel: the high byte)                           |
| palette           | RGB                                                                        |
| with transparency | composited on white, then as above                                         |
| 32-bit or float   | refused                                                                    |

`mode: grey` takes the luma 0.299 R + 0.587 G + 0.114 B of a colour file, `mode: rgb` repeats grey
three times. The EXIF orientation is applied; of several frames the first is taken.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
import numpy as np
import torch
from attrs.validators import in_
from torch import Tensor
from torch.nn import functional as F

from diffkit.component import parameter
from diffkit.errors import DataError
from diffkit.interfaces.dataset import Examples

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = [
    "Crop",
    "Header",
    "Mode",
    "Size",
    "crop_field",
    "decode",
    "header",
    "keep_classes",
    "one_of_classes",
    "refuse_too_large",
    "resize",
    "sides",
    "size_field",
]

Crop = Literal["center", "none"]
Mode = Literal["grey", "rgb"]
Size = int | tuple[int, int]

_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_GREY = ("1", "L", "LA", "La", *_SIXTEEN_BIT)


@attrs.frozen
class Header:
    """What a file says of its picture before it is decoded, the EXIF orientation applied."""

    mode: Mode
    height: int
    width: int


def header(path: Path, max_pixels: int) -> Header:
    """Reads the header only; raises `DataError` naming the file."""
    with _opened(path, max_pixels) as picture:
        width, height = picture.size
        if picture.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS:
            width, height = height, width
        return Header("grey" if picture.mode in _GREY else "rgb", height, width)


def decode(path: Path, mode: Mode, max_pixels: int) -> Tensor:
    """The picture as uint8 (C, H, W) by the rules above; raises `DataError` naming the file."""
    from PIL import ImageOps

    with _opened(path, max_pixels) as picture:
        upright = ImageOps.exif_transpose(picture)
        values = np.array(_eight_bit(upright, path).convert("L" if mode == "grey" else "RGB"))
    return torch.from_numpy(values).reshape(*values.shape[:2], -1).permute(2, 0, 1)


def size_field(default: Size | None, otherwise: str = "", most: int = 2**24) -> Any:
    """The field `size` of a data set of images.

    Args:
        otherwise: what null means, where it is allowed.
        most: the longest side.
    """

    def is_size(instance: Any, attribute: Any, value: Any) -> None:
        both = value if isinstance(value, (tuple, list)) else (value, value)
        right = len(both) == 2 and all(type(side) is int and 1 <= side <= most for side in both)
        if not (right or (value is None and otherwise)):
            raise ValueError(
                f"{attribute.name!r} must be a side or [height, width], whole numbers from 1 to {most}"
            )

    meaning = "resize to this many pixels, a side or [height, width] (bicubic, antialiased)"
    if otherwise:
        meaning += f"; null = {otherwise}"
    return parameter(meaning, default, validator=is_size)


def crop_field() -> Any:
    """The field `crop` of a data set of images."""
    return parameter(
        "what comes before resizing: a cut about the centre to the new proportions, or none (stretched)",
        "center",
        validator=in_(("center", "none")),
    )


def sides(size: Size) -> tuple[int, int]:
    """Height and width."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def resize(images: Tensor, size: tuple[int, int], crop: Crop = "none") -> Tensor:
    """uint8 (N, C, H, W) at another size: bicubic with antialiasing, rounded and clipped.

    `crop="center"` first cuts out the largest centred rectangle of the new proportions; `"none"`
    stretches.
    """
    if crop == "center":
        images = _centre(images, size)
    if images.shape[-2:] == torch.Size(size):
        return images
    resized = torch.empty((*images.shape[:2], *size), dtype=torch.uint8)
    for source, target in zip(torch.split(images, 1024), torch.split(resized, 1024), strict=True):
        smooth = F.interpolate(source.to(torch.float32), size, mode="bicubic", antialias=True)
        target.copy_(smooth.round().clamp(0, 255))
    return resized


def keep_classes(
    raw: Tensor, label: Tensor, names: Sequence[str], kept: Sequence[str | int] | None
) -> Examples:
    """The examples of some classes, renumbered in the order of `kept`; a single class has no labels."""
    if kept is None:
        return Examples(raw=raw, label=label)
    number = torch.full((len(names),), -1, dtype=torch.int64)
    for position, name in enumerate(kept):
        number[names.index(str(name))] = position
    rows = number[label] >= 0
    return Examples(raw=raw[rows], label=number[label][rows] if len(kept) > 1 else None)


def one_of_classes(names: Sequence[str]) -> Callable[[Any, Any, Any], None]:
    """An attrs validator: None, or distinct members of `names`."""

    def validate(instance: Any, attribute: Any, value: Any) -> None:
        if value is None:
            return
        texts = [str(name) for name in value] if isinstance(value, (tuple, list)) else [repr(value)]
        unknown = [text for text in texts if text not in names]
        if unknown or not texts or len(set(texts)) < len(texts):
            raise ValueError(
                f"{attribute.name!r} must be a list of different classes out of {', '.join(names)}"
            )

    return validate


def refuse_too_large(what: str, shape: Sequence[int], itemsize: int, limit_gib: float) -> None:
    """Raises `DataError` before anything is allocated that would not fit the limit."""
    gib = float(np.prod(np.asarray(shape, dtype=np.float64))) * itemsize / 2**30
    if gib > limit_gib:
        raise DataError(
            f"{what} would take {gib:.2f} GiB of memory as an array of shape {tuple(shape)}",
            f"at most {limit_gib:g} GiB (memory_limit_gib)",
            "Use fewer or smaller examples (`size:` for images), or raise `memory_limit_gib`",
        )


def _centre(images: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = images.shape[-2:]
    scale = min(height / size[0], width / size[1])
    inner_height, inner_width = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    return images[..., top : top + inner_height, left : left + inner_width]


def _eight_bit(picture: Picture, path: Path) -> Picture:
    """The picture with at most eight bits a channel and nothing transparent."""
    from PIL import Image

    if picture.mode in _SIXTEEN_BIT:
        values = np.asarray(picture).astype(np.int64)
        if values.min() >= 0 and values.max() <= 65535:
            return Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise DataError(
            f"the image {path} has 32-bit values",
            "at most 16 bits a channel",
            "Convert it to 8 or 16 bits, or store the images as an array and use the data set 'array'",
        )
    if picture.has_transparency_data:
        colour = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert("RGB")
    return picture


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Picture]:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if picture.width * picture.height > max_pixels:
                    raise Image.DecompressionBombError(f"{picture.width} x {picture.height} pixels")
                yield picture
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as problem:
        raise DataError(
            f"the image {path} is too large to be opened safely: {problem}",
            f"at most {max_pixels} pixels (max_pixels)",
            "Make it smaller, remove it, or raise `max_pixels` if it is to be trusted",
        ) from problem
    # A decoder may raise anything on damaged bytes.
    except Exception as problem:
        raise DataError(
            f"the image {path} cannot be read: {problem}",
            "a whole file in a format that Pillow reads",
            "Replace the file by a good copy, or remove it",
        ) from problem
