"""A convolutional classifier of noised images: residual blocks, a mean over positions, one number a class.

It is the way down of a U-Net. The noise level, embedded in one vector, scales and shifts every block.
"""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
import torch.nn.functional as F
from attrs.validators import and_, ge, instance_of
from torch import Tensor, nn

from diffkit.component import parameter
from diffkit.errors import ConfigError
from diffkit.interfaces.network import Level, Network
from diffkit_standard.networks._embedding import LevelEmbedding
from diffkit_standard.networks._norm import GroupNorm

__all__ = ["Classifier"]

_SMALLEST = 4
_positive = and_(instance_of(int), ge(1))


@final
@attrs.frozen(kw_only=True)
class Classifier(Network):
    """Images (C, H, W) of any channel count and size, halved until at most 4 pixels a side are left.

    The width doubles with the first two halvings. For the objective `classification`; with the defaults,
    28 x 28 pixels and 10 classes it has about 0.7 million parameters.

    Raises:
        ConfigError: examples that are no images, or no classes to tell apart.
    """

    source: ClassVar[str] = "Dhariwal and Nichol 2021, arXiv 2105.05233, section 4.3"

    channels: int = parameter("width at the finest level", 32, validator=_positive)
    groups: int = parameter("of the group normalisation", 8, validator=_positive)

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"network.logits-output"})

    def build(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        if len(shape) != 3:
            raise ConfigError(
                f"The network classifier was given examples of shape {tuple(shape)}",
                "images (channels, height, width)",
                "Choose the network mlp with output: logits",
            )
        if classes is None:
            raise ConfigError(
                "The network classifier was given no classes",
                "examples with labels, to be told apart",
                "Set training.labels: true",
            )
        if self.channels % self.groups:
            raise ConfigError(
                f"The key network.groups is {self.groups}, and network.channels is {self.channels}",
                f"a width that {self.groups} divides",
                "Change network.groups or network.channels",
            )
        return _Classifier(self, shape, classes)


class _Classifier(nn.Module):
    def __init__(self, config: Classifier, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        embedded = 4 * config.channels
        self.embedding = LevelEmbedding(config.channels, embedded, None)
        width, side = config.channels, max(shape[1:])
        self.first = nn.Conv2d(shape[0], width, 3, padding=1)
        blocks = [_Block(width, width, embedded, config.groups, stride=1)]
        while side > _SMALLEST:
            wider = min(2 * width, 4 * config.channels)
            blocks.append(_Block(width, wider, embedded, config.groups, stride=2))
            width, side = wider, -(-side // 2)
        self.blocks = nn.ModuleList(blocks)
        self.norm = GroupNorm(config.groups, width)
        self.last = nn.Linear(width, classes)

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        """(B, classes); `label` is what is asked, and is not looked at."""
        embedded = self.embedding(level, None, len(x))
        h = self.first(x)
        for block in self.blocks:
            h = block(h, embedded)
        logits: Tensor = self.last(F.silu(self.norm(h)).mean(dim=(2, 3)))
        return logits


class _Block(nn.Module):
    """skip(x) + conv(silu(scale * norm(conv(silu(norm(x)))) + shift)), the first one with a stride."""

    def __init__(self, before: int, width: int, embedded: int, groups: int, *, stride: int) -> None:
        super().__init__()
        self.norm_1 = GroupNorm(groups, before)
        self.conv_1 = nn.Conv2d(before, width, 3, stride=stride, padding=1)
        self.modulation = nn.Linear(embedded, 2 * width)
        self.norm_2 = GroupNorm(groups, width)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)
        self.skip = nn.Conv2d(before, width, 1, stride=stride)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))
        scale, shift = self.modulation(embedded)[:, :, None, None].chunk(2, dim=1)
        h = self.conv_2(F.silu(self.norm_2(h) * (1.0 + scale) + shift))
        return torch.add(self.skip(x), h)
