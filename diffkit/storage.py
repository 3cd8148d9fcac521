"""Checkpoints on disk: tensors and plain values, whole or not there at all, checked when read.

    <model>/checkpoints/<step>/<part>.safetensors ... state.json

A checkpoint is written to a hidden sibling folder, flushed to the disk and renamed, so that being
killed at any moment leaves either the old state or the new one. `state.json` holds the checksum of
every file, of itself, and of the model's description it belongs to. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffkit.errors import CheckpointError, RunError

__all__ = [
    "Snapshot",
    "checksum",
    "file_checksum",
    "newest_snapshot",
    "read_json",
    "read_snapshot",
    "remove",
    "replacing",
    "snapshot_steps",
    "write_json",
    "write_snapshot",
    "write_text",
]

_log = logging.getLogger("diffkit")
_STATE = "state.json"


@attrs.frozen(kw_only=True, eq=False)
class Snapshot:
    """The state of a training after `step` steps.

    Args:
        step: optimiser steps done.
        parts: tensors by name, by the part (and file) they belong to.
        scalars: everything else, ready for JSON.
    """

    step: int
    parts: Mapping[str, Mapping[str, Tensor]]
    scalars: Mapping[str, Any]


def snapshot_steps(model: Path) -> list[int]:
    """The steps of the checkpoints that are there, ascending, whole or not."""
    home = model / "checkpoints"
    if not home.is_dir():
        return []
    return sorted(int(entry.name) for entry in home.iterdir() if entry.name.isdigit() and entry.is_dir())


def snapshot_folder(model: Path, step: int) -> Path:
    return model / "checkpoints" / f"{step:08d}"


def write_snapshot(model: Path, snapshot: Snapshot, *, owner: str, keep: Collection[int] = ()) -> Path:
    """Writes a checkpoint, then removes every other one but those of the steps `keep`.

    Args:
        model: the model's folder.
        snapshot: what to write; a checkpoint of the same step is replaced.
        owner: the checksum of the description it belongs to.
        keep: steps that stay.

    Raises:
        RunError: the disk is full or not writable; what was there before is untouched.
    """
    target = snapshot_folder(model, snapshot.step)
    try:
        with replacing(target) as unfinished:
            unfinished.mkdir()
            _clean(target.parent, spare=unfinished)
            _write_parts(unfinished, snapshot, owner)
    except (OSError, safetensors.SafetensorError) as error:
        raise RunError(
            f"The checkpoint {target} could not be written: {error}",
            "earlier checkpoints are untouched",
            "Make room or choose another folder, then run again: training goes on from the last checkpoint",
        ) from error
    for step in snapshot_steps(model):
        if step != snapshot.step and step not in keep:
            remove(snapshot_folder(model, step))
    return target


def read_snapshot(
    model: Path,
    step: int,
    *,
    owner: str,
    parts: Collection[str] | None = None,
    device: torch.device | str = "cpu",
) -> Snapshot:
    """Reads a checkpoint and checks every file that it reads.

    Args:
        model: the model's folder.
        step: which checkpoint.
        owner: the checksum of the description it must belong to.
        parts: the parts to read, those there are; None = all.
        device: where the tensors go.

    Raises:
        CheckpointError: missing, truncated, altered or foreign, naming the file.
    """
    folder = snapshot_folder(model, step)
    state = read_json(folder / _STATE)
    if state.get("model") != owner or state.get("step") != step:
        raise _damaged(folder / _STATE, "belongs to another model or step")
    names = [name for name in state["files"] if parts is None or name in parts]
    tensors = {}
    for name in names:
        file = folder / f"{name}.safetensors"
        if not file.is_file():
            raise _damaged(file, "is missing")
        if file_checksum(file) != state["files"][name]:
            raise _damaged(file, "does not match its checksum")
        tensors[name] = load_file(file, device=str(device))
    return Snapshot(step=step, parts=tensors, scalars=state["scalars"])


def newest_snapshot(model: Path, *, owner: str) -> Snapshot | None:
    """The newest checkpoint that is whole, read whole; None if there is none at all.

    Raises:
        CheckpointError: there are checkpoints, and every one is damaged.
    """
    steps = snapshot_steps(model)
    for step in reversed(steps):
        try:
            return read_snapshot(model, step, owner=owner)
        except CheckpointError as error:
            _log.warning("%s The one before it is used instead.", error)
    if steps:
        raise CheckpointError(
            f"No checkpoint in {model} is whole (there are {len(steps)})",
            "at least one whole checkpoint to go on from",
            "Train afresh (--fresh), or restore the folder from a copy",
        )
    return None


def write_json(file: Path, content: Mapping[str, Any]) -> str:
    """Writes a mapping with its checksum, whole or not at all; returns the checksum."""
    own = checksum(content)
    try:
        write_text(file, json.dumps({"checksum": own, **content}, indent=2) + "\n")
    except OSError as error:
        raise RunError(
            f"{file} could not be written: {error}", "", "Make room or choose another folder"
        ) from error
    return own


def read_json(file: Path) -> dict[str, Any]:
    """Reads what `write_json` wrote; its checksum stays under the key `checksum`.

    Raises:
        CheckpointError: missing, truncated, altered or written by something else.
    """
    if not file.is_file():
        raise _damaged(file, "is missing")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(file, f"cannot be read ({error})") from error
    if not isinstance(content, dict) or "checksum" not in content:
        raise _damaged(file, "was not written by diffkit")
    if checksum({key: value for key, value in content.items() if key != "checksum"}) != content["checksum"]:
        raise _damaged(file, "does not match its checksum")
    return content


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden name beside `path` to write a file or a folder to.

    In the end what was written is flushed to the disk and takes the place of `path`; after an error it
    is removed, and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished, former = _hidden(path), None
    try:
        yield unfinished
        for entry in (*unfinished.rglob("*"), unfinished):
            _sync(entry)
        # Nothing can be renamed to a folder: the old one makes way at the last moment, and is removed after.
        if path.is_dir():
            former = path.rename(_hidden(path))
        unfinished.replace(path)
        _sync(path.parent)
        if former is not None:
            shutil.rmtree(former)
    except BaseException:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.unlink(missing_ok=True)
        if former is not None and not path.exists():
            former.rename(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def remove(folder: Path) -> None:
    """Removes a folder that may be there, so that being killed leaves no visible half of it."""
    if folder.exists():
        shutil.rmtree(folder.rename(_hidden(folder)))


def _hidden(path: Path) -> Path:
    """A hidden name beside `path` that nothing else uses."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def _write_parts(folder: Path, snapshot: Snapshot, owner: str) -> None:
    files = {}
    for name, tensors in snapshot.parts.items():
        file = folder / f"{name}.safetensors"
        # Tied weights share memory, which safetensors refuses.
        save_file({key: _portable(value) for key, value in tensors.items()}, file)
        files[name] = file_checksum(file)
    write_json(
        folder / _STATE,
        {"step": snapshot.step, "model": owner, "files": files, "scalars": dict(snapshot.scalars)},
    )


def _portable(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _clean(home: Path, spare: Path) -> None:
    """Removes what a killed process left behind."""
    for entry in home.glob(".*.tmp"):
        if entry != spare:
            shutil.rmtree(entry)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_checksum(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of what JSON can hold, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _damaged(file: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{file} {what}",
        "a whole checkpoint, as diffkit wrote it",
        "Choose another checkpoint (--checkpoint), restore the folder from a copy, or train afresh (--fresh)",
    )
