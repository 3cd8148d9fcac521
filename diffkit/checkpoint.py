"""Trained models on disk: what they are, and how to have them back.

    <model>/model.json                 what the model is: components, data, training, capabilities
    <model>/best.json                  which checkpoint scored best, where that was measured
    <model>/checkpoints/<step>/        weights, their moving average, the optimiser (see `storage`)

`model.json` is plain JSON, read without loading any weights.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import attrs
import safetensors
import torch
from torch import Tensor, nn

from diffkit import registry, storage
from diffkit.component import Component
from diffkit.description import DESCRIPTION, model_folder, owner, read_description
from diffkit.device import best_device
from diffkit.errors import CheckpointError
from diffkit.interfaces.dataset import DataSpec
from diffkit.interfaces.model import Model
from diffkit.interfaces.network import Network
from diffkit.interfaces.objective import Objective
from diffkit.interfaces.sde import SDE
from diffkit.structure import fill

__all__ = [
    "DESCRIPTION",
    "TRACKED",
    "TrainedModel",
    "arrange",
    "best_step",
    "copy",
    "forget_best",
    "load",
    "mark_best",
    "model_folder",
    "read_description",
    "require_free",
]

TRACKED = "tracked.jsonl"
"""Figures taken along training, which tell the best checkpoint."""

_BEST = "best.json"


@attrs.frozen(kw_only=True, eq=False)
class TrainedModel(Model):
    """A trained network as samplers see it, and everything that is known about it.

    Args:
        model: what the objective makes of the network.
        sde: the process it was trained on.
        spec: shape, classes and units of the data.
        step: optimiser steps behind the weights.
        description: `model.json`.
    """

    model: Model
    sde: SDE
    spec: DataSpec
    step: int
    description: dict[str, Any]
    device: torch.device
    offers: frozenset[str]
    classes: int | None
    capabilities: frozenset[str]

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self.model.denoise(x, t, label)

    def score(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self.model.score(x, t, label)

    def energy(self, x: Tensor) -> Tensor:
        return self.model.energy(x)

    def logits(self, x: Tensor, t: Tensor) -> Tensor:
        return self.model.logits(x, t)


def load(
    path: str | Path, checkpoint: str | int = "best", *, device: torch.device | str | None = None
) -> TrainedModel:
    """A trained model, ready for sampling: averaged weights, evaluation mode, no gradients of weights.

    Args:
        path: a model's folder, or a run's.
        checkpoint: `best` (the newest where none was marked), `last` (the newest) or a step.
        device: where to; None = the best there is.

    Raises:
        CheckpointError: missing, damaged or foreign, naming the file and what to do.
        ComponentError: a component that it was made of is not installed.
    """
    folder = model_folder(path)
    description = read_description(folder)
    target = best_device() if device is None else torch.device(device)
    step = _find(folder, checkpoint)
    snapshot = storage.read_snapshot(
        folder, step, owner=owner(description), parts=("weights", "ema"), device=target
    )
    network: Network = registry.create("network", description["network"])
    sde: SDE = registry.create("sde", description["sde"])
    objective: Objective = registry.create("objective", description["objective"])
    spec = fill(DataSpec, description["spec"], f"{folder / DESCRIPTION}: spec", _no_component)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, and then overwritten
        module = network.build(spec.shape, description["classes"])
    _fill_module(module, snapshot, folder)
    module = arrange(module, spec.shape).to(target).eval().requires_grad_(False)
    model = objective.model(module, sde)
    return TrainedModel(
        model=model,
        sde=sde,
        spec=spec,
        step=step,
        description=description,
        device=target,
        offers=model.offers,
        classes=description["classes"],
        capabilities=frozenset(description["capabilities"]),
    )


def arrange(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Weights laid out channels last for images, which convolve faster so."""
    return module.to(memory_format=torch.channels_last) if len(shape) == 3 else module


def mark_best(path: Path, step: int) -> None:
    """Makes the checkpoint of `step` the one that `best` names, and that no later one displaces."""
    storage.write_json(path / _BEST, {"step": step})


def forget_best(path: Path) -> None:
    """Undoes `mark_best`, and forgets the figures that it went by."""
    for name in (_BEST, TRACKED):
        (path / name).unlink(missing_ok=True)


def best_step(path: Path) -> int | None:
    """The step that `best` names; None where none was marked."""
    file = path / _BEST
    return int(storage.read_json(file)["step"]) if file.is_file() else None


def copy(path: str | Path, target: str | Path) -> Path:
    """Copies a model, whole, to a folder that does not exist yet (or is empty); returns it.

    Raises:
        CheckpointError: `path` is no model, or `target` is in use.
    """
    source, goal = model_folder(path), Path(target)
    read_description(source)
    require_free(goal)
    try:
        with storage.replacing(goal.absolute()) as unfinished:
            shutil.copytree(source, unfinished, ignore=shutil.ignore_patterns(".*"))
    except OSError as error:
        raise CheckpointError(
            f"{source} could not be copied to {goal}: {error}", "", "Make room or choose another path"
        ) from error
    return goal


def require_free(goal: Path) -> None:
    """Refuses a path that a model cannot be copied to.

    Raises:
        CheckpointError: it is in use.
    """
    if goal.exists() and (not goal.is_dir() or any(goal.iterdir())):
        raise CheckpointError(
            f"{goal} is there already", "a folder that is new or empty", "Choose another path"
        )


def _find(folder: Path, checkpoint: str | int) -> int:
    """The step that is asked for."""
    steps = storage.snapshot_steps(folder)
    if not steps:
        raise CheckpointError(
            f"{folder} holds no checkpoint yet",
            "at least one",
            "Train it first (diffkit train), then try again",
        )
    if checkpoint == "best":
        marked = best_step(folder)
        return steps[-1] if marked is None else marked
    if checkpoint == "last":
        return steps[-1]
    if str(checkpoint).isdigit() and int(checkpoint) in steps:
        return int(checkpoint)
    raise CheckpointError(
        f"{folder} has no checkpoint {checkpoint!r}",
        f"best, last, or one of the steps {', '.join(map(str, steps))}",
        "Choose one of these (--checkpoint)",
    )


def _fill_module(module: nn.Module, snapshot: storage.Snapshot, folder: Path) -> None:
    weights = snapshot.parts.get("ema", snapshot.parts.get("weights"))
    try:
        module.load_state_dict({} if weights is None else dict(weights))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"The weights in {folder} do not fit the network that {DESCRIPTION} describes: {error}",
            "weights of the same network, by the same version of its plugin",
            "Install the version that trained it, or train it again",
        ) from error


def _no_component(expected: type[Component], value: Any, path: str) -> Component:
    raise CheckpointError(f"{path} holds a component, which no data specification has")
