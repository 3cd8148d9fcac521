"""Logs of a training: one JSON line a step, beside the model, cut back to where a resumed one goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from diffkit import storage

__all__ = ["Journal", "read_log"]


class Journal:
    """Appends lines to a file of a folder; lines of steps that are about to be repeated are dropped."""

    def __init__(self, folder: Path, name: str = "log.jsonl", *, enabled: bool = True) -> None:
        self._path, self._enabled = folder / name, enabled
        self._last: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._last is not None:
            self._file.close()

    def write(self, step: int, **figures: Any) -> None:
        """The figures of one step; steps come in order."""
        if not self._enabled:
            return
        if self._last is None:
            self._open(step)
        self._last = step
        self._file.write(json.dumps({"step": step, **figures}) + "\n")

    def _open(self, step: int) -> None:
        kept = [record for record in read_log(self._path) if record["step"] < step]
        storage.write_text(self._path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = self._path.open("a", encoding="utf-8", buffering=1)


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a log; a last one cut off by a kill is passed over."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            yield record
