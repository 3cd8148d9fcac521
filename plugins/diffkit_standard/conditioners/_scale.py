"""What the guidances share: a strength w that may vary with t, and may hold in an interval only."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from diffkit.component import parameter

__all__ = ["Interval", "Scale", "interval_field", "scale_at", "scale_field", "values"]

Knots = tuple[tuple[float, float], ...]
"""(t, w), t rising."""

Scale = float | Knots
Interval = tuple[float, float] | None


def _sensible(guidance: object, attribute: Any, value: Scale) -> None:
    knots = value if isinstance(value, tuple) else ((0.0, value),)
    times = [t for t, _ in knots]
    if not knots or any(w < 0.0 for _, w in knots):
        raise ValueError("a scale is at least 0")
    if any(not 0.0 <= t <= 1.0 for t in times) or any(a >= b for a, b in itertools.pairwise(times)):
        raise ValueError("a scale that varies is a list of [t, w] with t rising from 0 to 1 at most")


def _ordered(guidance: object, attribute: Any, value: Interval) -> None:
    if value is not None and not 0.0 <= value[0] < value[1] <= 1.0:
        raise ValueError("an interval is two times, 0 <= low < high <= 1")


def scale_field(meaning: str) -> Any:
    """The field `scale` of a guidance; `meaning` tells what some values of w do."""
    return parameter(f"w: {meaning}; or a list of [t, w], linear in between", 1.0, validator=_sensible)


def interval_field() -> Any:
    """The field `interval` of a guidance."""
    return parameter("times (low, high) in which `scale` holds; null = all", None, validator=_ordered)


def values(scale: Scale) -> set[float]:
    """Every w that is given."""
    return {w for _, w in scale} if isinstance(scale, tuple) else {scale}


def scale_at(scale: Scale, interval: Interval, t: Tensor, outside: float) -> Tensor:
    """w at the times t, of t's shape; `outside` is its value beyond the interval."""
    w = _interpolated(scale, t) if isinstance(scale, tuple) else torch.full_like(t, scale)
    if interval is None:
        return w
    low, high = interval
    return torch.where((t >= low) & (t <= high), w, outside)


def _interpolated(knots: Knots, t: Tensor) -> Tensor:
    """Linear between the knots and constant beyond, of t's shape."""
    scale = torch.full_like(t, knots[0][1])
    for (low, w_low), (high, w_high) in itertools.pairwise(knots):
        share = ((t - low) / (high - low)).clamp(0.0, 1.0)
        # lerp gives the knots' own values exactly, so that a plateau at 0 or 1 keeps its single call.
        between = torch.lerp(t.new_tensor(w_low), t.new_tensor(w_high), share)
        scale = torch.where(t > low, between, scale)
    return scale
