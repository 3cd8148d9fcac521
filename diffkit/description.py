"""What is trained, and `model.json`: what a model is, in plain JSON, read without loading any weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

import diffkit
from diffkit import registry, storage
from diffkit.component import Component
from diffkit.config import TrainingConfig, model_capabilities
from diffkit.errors import CheckpointError
from diffkit.interfaces.dataset import Dataset
from diffkit.interfaces.network import Network
from diffkit.interfaces.objective import Objective
from diffkit.interfaces.sde import SDE
from diffkit.selection import nested
from diffkit.statistics import settled
from diffkit.structure import plain

__all__ = [
    "DESCRIPTION",
    "HARMLESS",
    "TrainingJob",
    "claim",
    "describe",
    "model_folder",
    "origins",
    "owner",
    "read_description",
]

FORMAT = 1
"""The version of the layout on disk; a newer one is refused."""

DESCRIPTION = "model.json"

HARMLESS = ("save_every", "keep_last", "keep", "tensorboard")
"""What may differ between a training and its continuation: no weight depends on it."""

# The components, the data and the course of a training; paths and versions may change under it.
_DEFINING = ("network", "sde", "objective", "fingerprint", "spec", "steps", "seed")


@attrs.frozen(kw_only=True, eq=False)
class TrainingJob:
    """What is trained, how, and where it is kept.

    Args:
        dataset, network, sde, objective: the components; `resolved` sets their `auto` fields.
        config: the section `training`.
        seed: of initial weights, data order, noise and dropout.
        folder: the model's folder, made if need be.
    """

    dataset: Dataset
    network: Network
    sde: SDE
    objective: Objective
    config: TrainingConfig
    seed: int
    folder: Path

    def resolved(self) -> TrainingJob:
        """This job with every `auto` field set from the training data, which is read."""
        dataset, statistics = settled(self.dataset)
        return attrs.evolve(self, dataset=dataset, objective=self.objective.resolved(statistics))


def describe(job: TrainingJob, steps: int) -> dict[str, Any]:
    """What `model.json` says of a training of so many steps: components, data, capabilities, versions.

    Args:
        job: with every `auto` field resolved.
    """
    spec = job.dataset.spec()
    return {
        "format": FORMAT,
        "network": registry.describe(job.network),
        "sde": registry.describe(job.sde),
        "objective": registry.describe(job.objective),
        "dataset": registry.describe(job.dataset),
        "fingerprint": job.dataset.fingerprint(),
        "spec": plain(spec, registry.describe),
        "shape": list(spec.shape),
        "classes": spec.classes if job.config.labels else None,
        "training": plain(job.config, registry.describe),
        "steps": steps,
        "seed": job.seed,
        "capabilities": sorted(model_capabilities(job.objective, job.config)),
        "components": list(origins((job.network, job.sde, job.objective, job.dataset))),
        "versions": {"diffkit": diffkit.__version__, "torch": torch.__version__},
    }


def origins(components: Iterable[Any]) -> Iterator[dict[str, str]]:
    """Where components, and those inside them, are from: distribution, version, what to type for a file."""
    for component in components:
        if not isinstance(component, Component):
            continue
        for each in (component, *(inner for _, inner in nested(component))):
            info = registry.origin(each)
            yield {
                "kind": info.kind,
                "name": info.name,
                "distribution": info.distribution,
                "version": info.version,
                **({"plugin": f"{info.file}:{info.value.partition(':')[2]}"} if info.file else {}),
            }


def read_description(path: str | Path) -> dict[str, Any]:
    """What `model.json` of a model's (or a run's) folder says, `capabilities` included.

    Raises:
        CheckpointError: missing, damaged, foreign, or written by a newer diffkit.
    """
    file = model_folder(path) / DESCRIPTION
    description = storage.read_json(file)
    version = description.get("format")
    if not isinstance(version, int) or version > FORMAT:
        raise CheckpointError(
            f"{file} has the format {version!r}",
            f"a model's description of format {FORMAT} or older",
            "Use the version of diffkit that wrote it"
            if isinstance(version, int)
            else "Name a model's folder",
        )
    return description


def owner(description: Mapping[str, Any]) -> str:
    """What a checkpoint names as the training it belongs to: a checksum of all that defines one.

    An equal training begun afresh has the same, so that whatever interrupts it, what is there can be used.
    """
    defined = {key: description[key] for key in _DEFINING}
    course = {key: value for key, value in description["training"].items() if key not in HARMLESS}
    return storage.checksum({**defined, "training": course})


def claim(folder: Path, described: Mapping[str, Any], *, resume: bool, write: bool = True) -> None:
    """Writes `model.json`, or checks that the one that is there tells of the same training.

    Args:
        folder: the model's folder.
        described: what `describe` gave.
        resume: a description that is there stays and must agree; False replaces it.
        write: whether this process is the one that writes.

    Raises:
        CheckpointError: the folder holds another training, or a damaged description.
    """
    if not (resume and (folder / DESCRIPTION).is_file()):
        if write:
            storage.write_json(folder / DESCRIPTION, described)
        return
    differing = _differences(read_description(folder), described)
    if differing:
        raise CheckpointError(
            f"{folder} holds another training: {', '.join(differing)} differ",
            "the same training, to go on with",
            "Choose another folder, or train afresh (--fresh)",
        )


def model_folder(path: str | Path) -> Path:
    """The model's folder, from itself or from a run's folder (whose manifest names it)."""
    folder = Path(path)
    manifest = folder / "manifest.json"
    if (folder / DESCRIPTION).is_file():
        return folder
    if not manifest.is_file():
        raise CheckpointError(
            f"{folder} is no trained model" if folder.exists() else f"There is no {folder}",
            f"a folder with {DESCRIPTION}, or a run's folder with manifest.json",
            "Name the folder that training wrote, such as one in runs/models",
        )
    try:
        model = str(json.loads(manifest.read_text(encoding="utf-8"))["model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{manifest} names no model ({type(error).__name__}: {error})",
            "a manifest that diffkit wrote, with the key `model`",
            "Name the model's own folder, such as one in runs/models",
        ) from error
    return folder / model


def _differences(found: Mapping[str, Any], described: Mapping[str, Any]) -> list[str]:
    """The keys in which two descriptions tell of different trainings."""
    training = [
        f"training.{key}"
        for key, value in described["training"].items()
        if key not in HARMLESS and found["training"].get(key) != value
    ]
    return [key for key in _DEFINING if found.get(key) != described[key]] + training
