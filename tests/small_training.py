"""A training small enough for a test: 8 x 8 pictures of two kinds, a network of a few thousand weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from diffkit.config import TrainingConfig
from diffkit.interfaces.dataset import Dataset, DataSpec, Examples, SplitName
from diffkit.training import TrainingJob
from diffkit_standard.networks.unet import UNet
from diffkit_standard.objectives.noise import NoisePrediction
from diffkit_standard.sdes.vp import VP

NETWORK = UNet(channels=8, multipliers=(1, 2), heads=2, groups=4)


@attrs.frozen(kw_only=True)
class Bars(Dataset):
    """Grey pictures with one bright column (class 0) or row (class 1), on 256 levels."""

    count: int = 40
    labels: bool = True

    def spec(self) -> DataSpec:
        return DataSpec(shape=(1, 8, 8), classes=2 if self.labels else None, levels=256)

    def load(self, split: SplitName) -> Examples:
        number = torch.arange(self.count)
        raw = torch.zeros(self.count, 1, 8, 8, dtype=torch.uint8)
        for n in range(self.count):
            if n % 2:
                raw[n, 0, n // 2 % 8, :] = 200 + n % 50
            else:
                raw[n, 0, :, n // 2 % 8] = 200 + n % 50
        return Examples(raw=raw, label=number % 2 if self.labels else None)


@attrs.frozen(kw_only=True, eq=False)
class Values(Dataset):
    """Continuous examples, as given."""

    raw: Tensor

    def spec(self) -> DataSpec:
        return DataSpec(shape=tuple(self.raw.shape[1:]))

    def load(self, split: SplitName) -> Examples:
        return Examples(raw=self.raw)


def small_job(folder: Path, *, dataset: Dataset | None = None, seed: int = 0, **config: Any) -> TrainingJob:
    """Twenty steps of batches of 6 in full precision, unless `config` says otherwise."""
    settings = {
        "steps": 20,
        "batch_size": 6,
        "warmup": 3,
        "precision": "fp32",
        "save_every": 10,
        "labels": True,
        **config,
    }
    return TrainingJob(
        dataset=dataset or Bars(),
        network=NETWORK,
        sde=VP(),
        objective=NoisePrediction(),
        config=TrainingConfig(**settings),
        seed=seed,
        folder=folder,
    )
