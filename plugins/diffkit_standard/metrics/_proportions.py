"""A share of successes, and how sure one may be of it."""

from __future__ import annotations

import math

__all__ = ["wilson", "wilson_error"]


def wilson(hits: int, count: int, z: float) -> tuple[float, float]:
    """The interval of Wilson 1927 for a share, z standard deviations wide to either side.

    (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n): never outside [0, 1], never of no width.
    """
    share, spread = hits / count, z * z / count
    middle = share + spread / 2.0
    half = z * math.sqrt(share * (1.0 - share) / count + spread / (4.0 * count))
    return (middle - half) / (1.0 + spread), (middle + half) / (1.0 + spread)


def wilson_error(hits: int, count: int) -> float:
    """Half the width of the interval at one standard deviation: sqrt(p (1 - p)/n) where n is large."""
    low, high = wilson(hits, count, 1.0)
    return (high - low) / 2.0
