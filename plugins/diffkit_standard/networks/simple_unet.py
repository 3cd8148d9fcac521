"""A plain U-Net for images: two convolutions and a change of size a stage, the time added in between.

On the way down a strided convolution halves the size, on the way up a transposed one doubles it, and each
stage up is given what the stage down of the same size left.
"""

from __future__ import annotations

import math
from typing import ClassVar, final

import attrs
import torch
import torch.nn.functional as F
from attrs.validators import and_, deep_iterable, ge, gt, instance_of, min_len
from torch import Tensor, nn

from diffkit.component import parameter
from diffkit.errors import ConfigError
from diffkit.interfaces.network import Level, Network
from diffkit_standard.networks._embedding import LabelEmbedding, sinusoids
from diffkit_standard.networks._ladder import require_sides
from diffkit_standard.networks._norm import GroupNorm

__all__ = ["SimpleUNet"]

_positive = and_(instance_of(int), ge(1))


@final
@attrs.frozen(kw_only=True)
class SimpleUNet(Network):
    """Images (C, H, W) of any channel count, with the default widths of sides that 8 divides.

    The time enters as sinusoids of n = positions * t,

        [sin(n w_i), cos(n w_i)],   w_i = 10000^(-i / (E/2 - 1)),   i = 0 .. E/2 - 1,

    through a layer and an activation; each stage adds a layer of it between its convolutions. A class is a
    learnt vector, added to the time's. With the defaults, RGB and no classes it has about 15.5 million
    parameters.

    Norms are by groups of channels, where codes of this kind often have batch statistics: an example does not
    depend on the others of its batch, in training as in sampling.
    """

    source: ClassVar[str] = (
        "Ronneberger et al. 2015, arXiv 1505.04597; Vaswani et al. 2017, arXiv 1706.03762, section 3.5"
    )

    channels: tuple[int, ...] = parameter(
        "width of each level, finest first; each further level halves the size",
        (64, 128, 256, 512),
        validator=and_(min_len(2), deep_iterable(_positive)),
    )
    embedding: int = parameter("E, the dimensions of the time's embedding", 32, validator=_positive)
    positions: float = parameter(
        "what t = 1 is to the sinusoids: T of a discrete diffusion, in whose steps they count",
        1000.0,
        validator=gt(0.0),
    )
    groups: int = parameter("of the group normalisation", 8, validator=_positive)

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"network.image-output", "network.labels"})

    def build(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        levels = len(self.channels)
        require_sides(
            "simple-unet", shape, 2 ** (levels - 1), f"{levels} levels", ", or shorten network.channels"
        )
        if self.embedding % 2 or self.embedding < 4:
            raise ConfigError(
                f"The key network.embedding is {self.embedding}", "an even number from 4", "Change it"
            )
        odd = [width for width in self.channels if width % self.groups]
        if odd:
            raise ConfigError(
                f"The key network.groups is {self.groups}, and a level of simple-unet is {odd[0]} wide",
                f"a width that {self.groups} divides",
                "Change network.groups or network.channels",
            )
        return _SimpleUNet(self, shape[0], classes)


class _SimpleUNet(nn.Module):
    frequencies: Tensor

    def __init__(self, config: SimpleUNet, image_channels: int, classes: int | None) -> None:
        super().__init__()
        half = config.embedding // 2
        place = torch.arange(half, dtype=torch.float64) / (half - 1)
        self.register_buffer("frequencies", torch.exp(-math.log(10000.0) * place), persistent=False)
        self.positions = config.positions
        self.time = nn.Linear(config.embedding, config.embedding)
        self.label = None if classes is None else LabelEmbedding(classes, config.embedding)
        self.first = nn.Conv2d(image_channels, config.channels[0], 3, padding=1)
        pairs = list(zip(config.channels, config.channels[1:], strict=False))
        self.down = nn.ModuleList(_Stage(config, fine, coarse, up=False) for fine, coarse in pairs)
        self.up = nn.ModuleList(_Stage(config, coarse, fine, up=True) for fine, coarse in reversed(pairs))
        self.last = nn.Conv2d(config.channels[0], image_channels, 1)

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        waves = sinusoids(self.positions * level.t.to(torch.float64), self.frequencies)
        embedded: Tensor = F.relu(self.time(waves.to(x.dtype)))
        if self.label is not None:
            embedded = embedded + self.label(label, len(x))
        h: Tensor = self.first(x)
        skips: list[Tensor] = []
        for stage in self.down:
            h = stage(h, embedded)
            skips.append(h)
        for stage in self.up:
            h = stage(torch.cat((h, skips.pop()), dim=1), embedded)
        output: Tensor = self.last(h)
        return output


class _Stage(nn.Module):
    """norm(relu(conv(norm(relu(conv(x))) + relu(W e)))), at another size; up, a skip is beside x."""

    def __init__(self, config: SimpleUNet, before: int, width: int, *, up: bool) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(2 * before if up else before, width, 3, padding=1)
        self.norm_1 = GroupNorm(config.groups, width)
        self.time = nn.Linear(config.embedding, width)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm_2 = GroupNorm(config.groups, width)
        resize = nn.ConvTranspose2d if up else nn.Conv2d
        self.resize = resize(width, width, 4, stride=2, padding=1)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        h = self.norm_1(F.relu(self.conv_1(x))) + F.relu(self.time(embedded))[:, :, None, None]
        resized: Tensor = self.resize(self.norm_2(F.relu(self.conv_2(h))))
        return resized
