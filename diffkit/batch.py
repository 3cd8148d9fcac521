"""The record in which examples travel to objectives and metrics."""

from __future__ import annotations

from typing import Literal

import attrs
from torch import Tensor

__all__ = ["Batch", "Source"]

Source = Literal["samples", "reference", "held-out"]


@attrs.frozen(kw_only=True, eq=False)
class Batch:
    """Some examples.

    Args:
        x: (B, ...) in the data set's encoded units.
        index: (B,) int64, each example's global number in its source.
        label: (B,) int64, -1 = none; None = all -1.
        features: (B, F), where a metric asks for features.
        logits: (B, K), where a metric asks for features and the extractor classifies.
        source: where the examples come from (metrics only).
    """

    x: Tensor
    index: Tensor
    label: Tensor | None = None
    features: Tensor | None = None
    logits: Tensor | None = None
    source: Source = "samples"
