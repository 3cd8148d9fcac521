"""Features of a small network trained to tell the data set's own classes apart.

The extractor is as good as its classes: it sees what distinguishes them, and little else. It needs
no download and takes seconds; its figures compare only with figures of the same identity.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, final

import attrs
import torch
from attrs.validators import ge, gt
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffkit.component import Requirement, parameter
from diffkit.device import best_device
from diffkit.errors import DataError
from diffkit.interfaces.dataset import Dataset, DataSpec, Examples
from diffkit.interfaces.features import FeatureExtractor, Features
from diffkit.progress import watched

__all__ = ["Classifier"]

_WIDTH = 64
_BATCH = 128
_RECIPE = 1
"""To be raised with every change of network or training: a cache must not survive it."""


@final
@attrs.frozen(kw_only=True)
class Classifier(Features):
    """Penultimate activations (64) and class scores of a convolutional network.

    Trained once on the training split, all classes of it (`Dataset.unrestricted`), by AdamW with
    a one-cycle learning rate and no augmentation; kept under the cache by recipe and by the data
    set's fingerprint, with its accuracy on the test split.

    Raises:
        DataError: no labels, or examples that are not images of at least 8 x 8 pixels.
    """

    steps: int = parameter("optimiser steps, of 128 examples each", 600, validator=ge(1))
    learning_rate: float = parameter("peak learning rate", 3e-3, validator=gt(0.0))
    seed: int = parameter("of initial weights and order of examples", 0, validator=ge(0))

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (
            Requirement(
                "dataset.classified",
                "the features 'classifier' are learnt from classes, and this data set has no labels",
                "give a data set with labels, other features, or no metric that compares in features",
            ),
            Requirement(
                "dataset.images",
                "the features 'classifier' look at images, and these examples are none",
                "choose other features, or no metric that compares in features",
            ),
        )

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"features.logits", "features.own-classes"})

    def prepare(self, dataset: Dataset, cache: Path) -> FeatureExtractor:
        whole = dataset.unrestricted()
        spec = whole.spec()
        _refuse_unfit(spec)
        recipe = {"version": _RECIPE, **attrs.asdict(self), "dataset": whole.fingerprint()}
        key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
        folder = cache / f"features-classifier-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        device = best_device()
        with FileLock(folder / ".lock"):
            kept = _load(folder, spec)
            if kept is None:
                module = self._train(whole, device)
                accuracy = _accuracy(whole, module, device)
                _save(folder, module, {"recipe": recipe, "held_out_accuracy": accuracy})
                kept = module, accuracy
        module, accuracy = kept
        return _Extractor(module=module.to(device), device=device, accuracy=accuracy)

    def _train(self, dataset: Dataset, device: torch.device) -> _Net:
        examples, generator = dataset.load("train"), torch.Generator().manual_seed(self.seed)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            module = _build(dataset.spec())
        module.to(device).train()
        rate = self.learning_rate
        optimizer = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=1e-2, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=self.steps)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
            batches = _batches(len(examples), generator, self.steps)
            for rows in watched(batches, "training the classifier", self.steps, "steps"):
                x, label = _inputs(dataset, examples, rows, device)
                loss = nn.functional.cross_entropy(module(x), label)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
        return module.eval()


class _Net(nn.Module):
    """Convolutions, halved until at most 5 pixels a side are left, pooled to 2 x 2, then dense."""

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        # Full resolution costs most of the time, and only tiny images have details to lose there.
        stride = 1 if side <= 16 else 2
        layers, width, side = _stage(channels, 32, stride), 32, -(-side // stride)
        while side > 5:
            layers += _stage(width, _WIDTH, stride=2)
            width, side = _WIDTH, -(-side // 2)
        self.trunk = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, _WIDTH), nn.SiLU()
        )
        self.head = nn.Linear(_WIDTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.trunk(x))
        return logits


@attrs.frozen(kw_only=True, eq=False)
class _Extractor(FeatureExtractor):
    module: _Net
    device: torch.device
    accuracy: float

    @property
    def identity(self) -> str:
        return f"classifier:{_checksum(self.module)[:12]}"

    @property
    def details(self) -> Mapping[str, Any]:
        return {"held_out_accuracy": self.accuracy}

    def features(self, x: Tensor) -> Tensor:
        return self._map(self.module.trunk, x)

    def logits(self, x: Tensor) -> Tensor:
        return self._map(self.module, x)

    def features_and_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        return features, self._map(self.module.head, features)

    @torch.no_grad()
    def _map(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        parts = [function(part.to(self.device, torch.float32)) for part in torch.split(x, 1024)]
        return torch.cat(parts).to(x.device)


def _stage(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def _build(spec: DataSpec) -> _Net:
    assert spec.classes is not None
    return _Net(spec.shape[0], max(spec.shape[1:]), spec.classes).to(torch.float32)


def _refuse_unfit(spec: DataSpec) -> None:
    if spec.classes is None or spec.classes < 2:
        raise DataError(
            "the features 'classifier' are learnt from classes, and this data set has no labels",
            "a data set with two classes or more",
            "Sort the images into one folder a class (`labels: true`), add `label` to the .npz,"
            " or choose other features or no metric that needs them",
        )
    if not spec.image or min(spec.shape[1:]) < 8:
        raise DataError(
            f"the features 'classifier' were asked for examples of shape {spec.shape}",
            "grey or RGB images of at least 8 x 8 pixels",
            "Choose other features, or no metric that needs them",
        )


def _batches(count: int, generator: torch.Generator, steps: int) -> Iterator[Tensor]:
    """Rows of `steps` batches: epoch after epoch in a new order, without the incomplete last batch."""
    size, done = min(_BATCH, count), 0
    while done < steps:
        for rows in torch.split(torch.randperm(count, generator=generator), size)[
            : min(count // size, steps - done)
        ]:
            yield rows
            done += 1


def _inputs(
    dataset: Dataset, examples: Examples, rows: Tensor, device: torch.device
) -> tuple[Tensor, Tensor]:
    assert examples.label is not None
    x = dataset.encode(examples.raw[rows]).to(device, torch.float32)
    return x, examples.label[rows].to(device)


@torch.no_grad()
def _accuracy(dataset: Dataset, module: _Net, device: torch.device) -> float:
    examples = dataset.load("test")
    hits = 0
    for rows in torch.split(torch.arange(len(examples)), 1024):
        x, label = _inputs(dataset, examples, rows, device)
        hits += int((module(x).argmax(1) == label).sum())
    return hits / len(examples)


def _checksum(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy())
    return digest.hexdigest()


def _save(folder: Path, module: nn.Module, record: dict[str, Any]) -> None:
    """The weights, then the record that vouches for them; each appears whole or not at all."""
    weights = {name: tensor.cpu().contiguous() for name, tensor in module.state_dict().items()}
    record = {**record, "weights": _checksum(module)}
    unfinished = folder / "unfinished"
    save_file(weights, unfinished)
    unfinished.replace(folder / "weights.safetensors")
    unfinished.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(folder / "record.json")


def _load(folder: Path, spec: DataSpec) -> tuple[_Net, float] | None:
    """What `_save` left, if it is whole; a damaged cache is said and made anew."""
    if not (folder / "record.json").exists():
        return None
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        module = _build(spec)
        module.load_state_dict(load_file(folder / "weights.safetensors"))
        if _checksum(module) != record["weights"]:
            raise ValueError("the weights do not have the recorded checksum")
        return module.eval(), float(record["held_out_accuracy"])
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as problem:
        logging.getLogger("diffkit").warning(
            "the cached classifier in %s is trained again: %s", folder, problem
        )
        return None
