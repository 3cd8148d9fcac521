"""A run folder as it is found: read piece by piece, and what cannot be read is noted, not raised."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

__all__ = ["EmbeddedPicture", "RunFolder"]

_BUDGET = 3_500_000  # bytes of pictures: a third more once in base64, and a page stays under 5 MB
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@attrs.frozen(kw_only=True)
class EmbeddedPicture:
    """A PNG as the page shows it; width and height reserve its place before it is decoded."""

    name: str
    alt: str
    uri: str
    width: int
    height: int


class RunFolder:
    """Reads a run folder; what cannot be read is noted, by file, in `missing`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.missing: dict[str, str] = {}
        self._room = _BUDGET

    def text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            self.missing[name] = f"{name} is not in the run folder."
        except (OSError, UnicodeDecodeError) as error:
            self._unreadable(name, error)
        return ""

    def mapping(self, name: str) -> dict[str, Any]:
        """A JSON or YAML file that holds a mapping."""
        text = self.text(name)
        if name in self.missing:
            return {}
        try:
            value = json.loads(text) if name.endswith(".json") else YAML(typ="safe", pure=True).load(text)
        except (ValueError, YAMLError) as error:
            return self._unreadable(name, error)
        return value if isinstance(value, dict) else self._unreadable(name, "it does not hold a mapping")

    def log(self) -> list[dict[str, Any]]:
        """The lines of the log. A killed run may leave its last line unfinished; such a line is skipped."""
        records = []
        for line in self.text("log.jsonl").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                records.append(record)
        return records

    def sample_shape(self) -> tuple[int, ...]:
        """The shape of the samples, () if there are none."""
        name = "samples.npz"
        try:
            with np.load(self.folder / name, allow_pickle=False) as archive:
                return tuple(archive["x"].shape)
        except FileNotFoundError:
            self.missing[name] = f"{name} is not in the run folder."
        except (OSError, ValueError, KeyError, EOFError) as error:
            self._unreadable(name, error)
        return ()

    def picture(self, name: str, alt: str) -> EmbeddedPicture | None:
        try:
            data = (self.folder / name).read_bytes()
        except FileNotFoundError:
            self.missing[name] = f"{name} is not in the run folder."
            return None
        if not data.startswith(_SIGNATURE) or len(data) < 24:
            self._unreadable(name, "it is not a PNG")
            return None
        if len(data) > self._room:
            self.missing[name] = (
                f"{name} ({len(data) / 1e6:.1f} MB) is too large to embed; it stands in the run folder."
            )
            return None
        self._room -= len(data)
        width, height = struct.unpack(">II", data[16:24])
        uri = "data:image/png;base64," + base64.b64encode(data).decode("ascii")
        return EmbeddedPicture(name=name, alt=alt, uri=uri, width=width, height=height)

    def _unreadable(self, name: str, why: object) -> dict[str, Any]:
        self.missing[name] = f"{name} cannot be read: {why}."
        return {}
