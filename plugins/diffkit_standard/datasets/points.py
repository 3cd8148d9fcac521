"""Points of the plane and short signals, made on the spot: problems small enough to see through."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, final

import attrs
import torch
import torch.nn.functional as F
from attrs.validators import ge, in_
from torch import Tensor

from diffkit.component import parameter
from diffkit.interfaces.dataset import Dataset, DataSpec, Examples, SplitName
from diffkit.noise import Noise
from diffkit_standard.datasets._shapes import SHAPES

__all__ = ["Points"]

_SIDE = 32  # pixels of a picture
_REACH = 3.0  # standard deviations that it shows either way


@final
@attrs.frozen(kw_only=True)
class Points(Dataset):
    """Examples (2,), or (1, 64) for `signal`, of a law known in closed form. Continuous, no file is read.

    - mixture: eight Gaussians on the unit circle, one class each;
    - moons: two half circles that reach into each other, one class each;
    - checkerboard: every second square of 4 x 4, uniform;
    - swiss-roll: a spiral of one and a half turns;
    - signal: two sinusoids or a chirp, one class each.

    `noise` is added to every coordinate. Encoded examples have mean 0 and standard deviation 1 in
    each channel, by the law's own moments, so that no sample decides the units. Example n of a
    split depends on the seed and on n alone, whatever the count.
    """

    source: ClassVar[str] = ""

    shape: Literal["mixture", "moons", "checkerboard", "swiss-roll", "signal"] = parameter(
        "which law", "mixture", validator=in_(tuple(SHAPES))
    )
    count: int = parameter("examples for training; a fifth as many are for testing", 10000, validator=ge(1))
    noise: float = parameter(
        "standard deviation of the Gaussian jitter, in raw units (shapes measure about 1)",
        0.05,
        validator=ge(0.0),
    )
    seed: int = parameter("of the examples", 0)

    def spec(self) -> DataSpec:
        law = SHAPES[self.shape]
        scale = tuple((variance + self.noise**2) ** -0.5 for variance in law.variance)
        return DataSpec(
            shape=law.shape,
            classes=len(law.names) or None,
            names=law.names,
            scale=scale,
            offset=tuple(-mean * factor for mean, factor in zip(law.mean, scale, strict=True)),
        )

    def load(self, split: SplitName) -> Examples:
        count = self.count if split == "train" else math.ceil(self.count / 5)
        stream = Noise(seed=self.seed, index=torch.arange(count), path=("points", split))
        raw, label = SHAPES[self.shape].draw(stream)
        return Examples(raw=raw + self.noise * stream.stream("jitter").normal_like(raw), label=label)

    def picture(self, x: Tensor) -> Tensor:
        """A dot in the plane, (B, 1, 32, 32), or a signal's trace, (B, 1, 32, 64), white on black."""
        share = (x.to(torch.float32).clamp(-_REACH, _REACH) + _REACH) / (2.0 * _REACH)
        place = F.one_hot((share * (_SIDE - 1)).round().long(), _SIDE).to(torch.float32)
        if self.shape == "signal":
            return place.transpose(2, 3).flip(2)
        across, up = place.unbind(1)
        return (up.flip(1)[:, :, None] * across[:, None, :])[:, None]
