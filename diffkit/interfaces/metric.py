"""The metric: a figure of merit with its error, from one pass over the data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import attrs
from torch import Tensor

from diffkit.batch import Batch
from diffkit.component import Component
from diffkit.interfaces.dataset import DataSpec
from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import SDE
from diffkit.noise import Noise

__all__ = ["Measurement", "Metric", "MetricContext"]


@attrs.frozen(kw_only=True)
class MetricContext:
    """What a metric may know before the first batch.

    Args:
        model, sde: what made the samples (for likelihoods); None when only images are compared.
        spec: the data set's shape, classes and units.
        reference: identity of the reference data: data set, split, fingerprint, count.
        features: identity of the feature extractor, None where no metric needs one.
    """

    model: Model | None = None
    sde: SDE | None = None
    spec: DataSpec | None = None
    reference: str = ""
    features: str | None = None


@attrs.frozen(kw_only=True)
class Measurement:
    """A figure.

    Args:
        value: the figure itself.
        error: its standard error, in the same unit; None where there is no estimate.
        count: how many samples it rests on.
        details: whatever else identifies it (extractor, reference, unit), JSON-ready.
    """

    value: float
    error: float | None
    count: int
    details: dict[str, Any] = attrs.field(factory=dict)


class Metric(Component):
    """start -> update, update, ... -> finish; states of disjoint batches merge.

    The result does not depend on the order of batches, nor on how the data are cut into them.
    Memory is flat in the number of images unless a stated cap says otherwise.
    """

    @property
    def needs(self) -> frozenset[str]:
        """Of `features`, `logits`, `labels`, `model`, `reference`, `held-out`.

        `update` is given the samples, and examples of the last two sources where named here. `model`
        says that the figure is the model's own: where all are, no samples are drawn.
        """
        return frozenset()

    @property
    def higher_is_better(self) -> bool:
        """Which way is up, for choosing the best checkpoint and for plots."""
        return False

    @abstractmethod
    def start(self, context: MetricContext) -> Any:
        """An empty state."""

    @abstractmethod
    def update(self, state: Any, batch: Batch, noise: Noise) -> Any:
        """The state with one more batch; `batch.source` says of which kind the examples are."""

    @abstractmethod
    def merge(self, a: Any, b: Any) -> Any:
        """The state of both."""

    @abstractmethod
    def finish(self, state: Any) -> Measurement:
        """The figure; raises `DataError` on NaN or on too few examples."""

    def pack(self, state: Any) -> Mapping[str, Tensor] | None:
        """A state of reference examples as tensors, to be kept for the next run; None = not worth keeping."""
        return None

    def unpack(self, context: MetricContext, tensors: Mapping[str, Tensor]) -> Any:
        """The state that `pack` was given."""
        raise TypeError(f"{type(self).__name__} packs no state")
