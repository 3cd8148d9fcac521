"""The features: a fixed view of the data in which samples and real examples are compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from diffkit.component import Component
from diffkit.interfaces.dataset import Dataset

__all__ = ["FeatureExtractor", "Features"]


class FeatureExtractor(ABC):
    """A prepared extractor. Its identity goes into every figure that rests on it."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """Name and checksum of the weights; figures of different identities are never compared."""

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """(B, F) float, from (B, ...) in the data set's encoded units."""

    def logits(self, x: Tensor) -> Tensor:
        """(B, K) unnormalised log-probabilities of classes, where the extractor classifies."""
        raise TypeError(f"{type(self).__name__} does not classify")

    def features_and_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both; to be given where one forward pass yields the two."""
        return self.features(x), self.logits(x)

    @property
    def details(self) -> Mapping[str, Any]:
        """What else tells how good the view is (held-out accuracy, say), JSON-ready."""
        return {}


class Features(Component):
    """Prepares an extractor for a data set. Provides `features.logits` where it classifies."""

    @abstractmethod
    def prepare(self, dataset: Dataset, cache: Path) -> FeatureExtractor:
        """The extractor, trained or loaded; what took time is kept under `cache` and found there."""
