"""The examples themselves, flattened: the plainest view there is, for data of any shape."""

from __future__ import annotations

from pathlib import Path
from typing import final

import attrs
from torch import Tensor

from diffkit.interfaces.dataset import Dataset
from diffkit.interfaces.features import FeatureExtractor, Features


@final
@attrs.frozen(kw_only=True)
class Pixels(Features):
    """Features = x in encoded units, (B, the product of the shape); nothing is learnt, nothing is cached.

    The Frechet distance of vectors and short signals is taken in it. Of large images it sees means and
    covariances of pixels only, and grows with the square of their number.
    """

    def prepare(self, dataset: Dataset, cache: Path) -> FeatureExtractor:
        shape = "x".join(map(str, dataset.spec().shape))
        return _Flattened(identity=f"pixels:{shape}")


class _Flattened(FeatureExtractor):
    def __init__(self, identity: str) -> None:
        self._identity = identity

    @property
    def identity(self) -> str:
        return self._identity

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)
