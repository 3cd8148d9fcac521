"""Laws of points in the plane and of signals, each with its exact first two moments.

All are of a size of about one, in raw units, before the jitter that the data set adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import attrs
import torch
from torch import Tensor

from diffkit.noise import Noise

__all__ = ["SHAPES", "Law"]

_LENGTH = 64
_SPIRAL = (1.5 * math.pi, 4.5 * math.pi)


@attrs.frozen(kw_only=True)
class Law:
    """How examples of one kind are drawn.

    Args:
        shape: of one example.
        mean, variance: of each channel (the first axis), exact.
        draw: (N, *shape) float32 examples, and their classes (N,) int64 where there are any.
        names: of the classes.
    """

    shape: tuple[int, ...] = (2,)
    mean: tuple[float, ...] = (0.0, 0.0)
    variance: tuple[float, ...]
    draw: Callable[[Noise], tuple[Tensor, Tensor | None]]
    names: tuple[str, ...] = ()


def _uniform(noise: Noise, name: str, low: float = 0.0, high: float = 1.0) -> Tensor:
    share = noise.stream(name).uniform((len(noise.index),), dtype=torch.float64)
    return low + (high - low) * share


def _choice(noise: Noise, name: str, count: int) -> Tensor:
    return _uniform(noise, name, 0.0, count).long()


def _plane(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack((x, y), dim=1).float()


def _mixture(noise: Noise) -> tuple[Tensor, Tensor]:
    """Eight points evenly on the unit circle, equally likely."""
    label = _choice(noise, "component", 8)
    angle = 0.25 * math.pi * label
    return _plane(torch.cos(angle), torch.sin(angle)), label


def _moons(noise: Noise) -> tuple[Tensor, Tensor]:
    """Two half circles of unit radius that reach into each other."""
    label, angle = _choice(noise, "moon", 2), _uniform(noise, "angle", 0.0, math.pi)
    upper = label == 0
    x = torch.where(upper, torch.cos(angle), 1.0 - torch.cos(angle))
    y = torch.where(upper, torch.sin(angle), 0.5 - torch.sin(angle))
    return _plane(x, y), label


def _checkerboard(noise: Noise) -> tuple[Tensor, None]:
    """Every second one of the 4 x 4 squares of [-1, 1]^2."""
    row, pair = _choice(noise, "row", 4), _choice(noise, "pair", 2)
    x = 2 * pair + row % 2 + _uniform(noise, "x")
    y = row + _uniform(noise, "y")
    return _plane(0.5 * x - 1.0, 0.5 * y - 1.0), None


def _swiss_roll(noise: Noise) -> tuple[Tensor, None]:
    """A spiral of one and a half turns, the radius in proportion to the angle and 1 at the end."""
    angle = _uniform(noise, "angle", *_SPIRAL)
    radius = angle / _SPIRAL[1]
    return _plane(radius * torch.cos(angle), radius * torch.sin(angle)), None


def _signal(noise: Noise) -> tuple[Tensor, Tensor]:
    """Two sinusoids of 1 to 4 and 4 to 8 periods, or a chirp from 1 to 3 up to 5 to 10 periods."""
    label = _choice(noise, "kind", 2)
    place = (torch.arange(_LENGTH, dtype=torch.float64) + 0.5) / _LENGTH
    slow = _uniform(noise, "slow", 1.0, 4.0)[:, None] * place
    fast = _uniform(noise, "fast", 4.0, 8.0)[:, None] * place
    first = _uniform(noise, "first", 1.0, 3.0)[:, None]
    last = _uniform(noise, "last", 5.0, 10.0)[:, None]
    swept = place * (first + 0.5 * (last - first) * place)
    phase, other = (_uniform(noise, name)[:, None] for name in ("phase", "other"))
    sinusoids = (_wave(slow + phase) + _wave(fast + other)) / math.sqrt(2.0)
    x = torch.where(label[:, None] == 0, sinusoids, _wave(swept + phase))
    return x[:, None].float(), label


def _wave(turns: Tensor) -> Tensor:
    return torch.sin(2.0 * math.pi * turns)


# Over the moons: the mean square of a half circle's height is 1/2, its mean 2/pi.
_MOON_HEIGHT = 0.5 - (2.0 / math.pi) ** 2 + (2.0 / math.pi - 0.25) ** 2
# Over the spiral, with t its angle: E[t cos t], E[t sin t] and E[t^2 cos^2 t], E[t^2 sin^2 t].
_ROLL_MEAN = (2.0 / _SPIRAL[1], 2.0 / (3.0 * math.pi) / _SPIRAL[1])
_ROLL_SQUARE = tuple((4.875 * math.pi**2 + shift) / _SPIRAL[1] ** 2 for shift in (-0.25, 0.25))

SHAPES: Mapping[str, Law] = MappingProxyType(
    {
        "mixture": Law(variance=(0.5, 0.5), draw=_mixture, names=tuple("01234567")),
        "moons": Law(mean=(0.5, 0.25), variance=(0.75, _MOON_HEIGHT), draw=_moons, names=("upper", "lower")),
        "checkerboard": Law(variance=(1.0 / 3.0, 1.0 / 3.0), draw=_checkerboard),
        "swiss-roll": Law(
            mean=_ROLL_MEAN,
            variance=(_ROLL_SQUARE[0] - _ROLL_MEAN[0] ** 2, _ROLL_SQUARE[1] - _ROLL_MEAN[1] ** 2),
            draw=_swiss_roll,
        ),
        "signal": Law(
            shape=(1, _LENGTH), mean=(0.0,), variance=(0.5,), draw=_signal, names=("sinusoids", "chirp")
        ),
    }
)
"""By the name that the data set's field `shape` gives them."""
