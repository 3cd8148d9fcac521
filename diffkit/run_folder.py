"""A run folder as it is found: read piece by piece, and what cannot be read is noted, not raised."""

from __future__ import annotations

import base64
import io
import json
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import numpy as np
from PIL import Image
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from diffkit.journal import read_log

__all__ = ["BUDGET", "EmbeddedPicture", "RunFolder"]

T = TypeVar("T")

BUDGET = 3_500_000  # bytes of pictures: a third more once in base64, and a page stays under 5 MB
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@attrs.frozen(kw_only=True)
class EmbeddedPicture:
    """A PNG as the page shows it; width and height reserve its place before it is decoded.

    A film has `captions`, one for each of the frames that stand under each other in it.
    """

    name: str
    alt: str
    uri: str
    width: int
    height: int
    captions: Sequence[str] = ()


class RunFolder:
    """Reads a run folder; what cannot be read is noted, by file, in `missing`."""

    def __init__(self, folder: Path, room: int = BUDGET) -> None:
        self.folder = folder
        self.missing: dict[str, str] = {}
        self._room = room

    def text(self, name: str) -> str:
        return self._read(name, bytes.decode, "")

    def mapping(self, name: str) -> dict[str, Any]:
        """A JSON or YAML file that holds a mapping."""
        load = json.loads if name.endswith(".json") else YAML(typ="safe", pure=True).load
        return self._read(name, lambda data: _mapping(load(data.decode())), {})

    def log(self) -> list[dict[str, Any]]:
        """The lines of the log. A killed run may leave its last line unfinished; such a line is skipped."""
        return list(read_log(self.folder / "log.jsonl")) if self.text("log.jsonl") else []

    def sample_shape(self) -> tuple[int, ...]:
        """The shape of the samples, () if there are none."""
        return self._read("samples.npz", _shape_of_x, ())

    def picture(self, name: str, alt: str) -> EmbeddedPicture | None:
        data = self._read(name, _png, b"")
        if len(data) > self._room:
            self.missing[name] = (
                f"{name} ({len(data) / 1e6:.1f} MB) is too large to embed; it stands in the run folder."
            )
        if name in self.missing:
            return None
        self._room -= len(data)
        width, height = struct.unpack(">II", data[16:24])
        uri = "data:image/png;base64," + base64.b64encode(data).decode("ascii")
        return EmbeddedPicture(name=name, alt=alt, uri=uri, width=width, height=height)

    def film(self, name: str, alt: str) -> EmbeddedPicture | None:
        """A picture with the captions that `film.write` has written into it."""
        captions: tuple[str, ...] = self._read(name, _captions, ())
        picture = self.picture(name, alt) if captions else None
        return picture and attrs.evolve(picture, captions=captions)

    def _read(self, name: str, understand: Callable[[bytes], T], otherwise: T) -> T:
        try:
            return understand((self.folder / name).read_bytes())
        except FileNotFoundError:
            self.missing[name] = f"{name} is not in the run folder."
        except (OSError, ValueError, KeyError, EOFError, YAMLError, zipfile.BadZipFile) as error:
            self.missing[name] = f"{name} cannot be read: {error}."
        return otherwise


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it does not hold a mapping")
    return value


def _shape_of_x(data: bytes) -> tuple[int, ...]:
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return tuple(archive["x"].shape)


def _png(data: bytes) -> bytes:
    if not data.startswith(_SIGNATURE) or len(data) < 24:
        raise ValueError("it is not a PNG")
    return data


def _captions(data: bytes) -> tuple[str, ...]:
    with Image.open(io.BytesIO(data)) as picture:
        return tuple(map(str, json.loads(picture.info["captions"])))
