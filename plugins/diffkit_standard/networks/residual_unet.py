"""A U-Net of residual blocks with batch statistics, told the noise variance at every pixel.

The sinusoids of the noise variance are laid over the whole image, as further channels beside its first
features; nothing else in the network knows the noise level. Averages halve the size, bilinear interpolation
doubles it.
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

__all__ = ["ResidualUNet"]

_positive = and_(instance_of(int), ge(1))


@final
@attrs.frozen(kw_only=True)
class ResidualUNet(Network):
    """Images (C, H, W) of any channel count, with the default widths of sides that 8 divides.

    With v = sigma^2 / (alpha^2 + sigma^2), which is sigma^2 for a process that preserves variance (and t
    for one without rates), the embedding is

        [sin(2 pi f_i v), cos(2 pi f_i v)],   f_i = frequency_max^(i / (E/2 - 1)),   i = 0 .. E/2 - 1.

    A class is a learnt vector, laid over the image likewise. A block is x + conv(swish(conv(norm(x)))), its
    norm by the statistics of the batch, without weights, and by their running means once trained. The
    output starts at zero. With the defaults, RGB and no classes it has about 1.95 million parameters.
    """

    source: ClassVar[str] = "Béres 2022, keras.io/examples/generative/ddim"

    widths: tuple[int, ...] = parameter(
        "channels of each level, finest first; each further level halves the size",
        (32, 64, 96, 128),
        validator=and_(min_len(1), deep_iterable(_positive)),
    )
    depth: int = parameter(
        "residual blocks a level, on the way down and on the way up", 2, validator=_positive
    )
    embedding: int = parameter("E, the dimensions of the noise variance's embedding", 32, validator=_positive)
    frequency_max: float = parameter("the largest frequency; the smallest is 1", 1000.0, validator=gt(1.0))

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"network.image-output", "network.labels", "network.batch-statistics"})

    def build(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        levels = len(self.widths)
        require_sides(
            "residual-unet", shape, 2 ** (levels - 1), f"{levels} levels", ", or shorten network.widths"
        )
        if self.embedding % 2 or self.embedding < 4:
            raise ConfigError(
                f"The key network.embedding is {self.embedding}", "an even number from 4", "Change it"
            )
        return _ResidualUNet(self, shape[0], classes)


class _ResidualUNet(nn.Module):
    frequencies: Tensor

    def __init__(self, config: ResidualUNet, image_channels: int, classes: int | None) -> None:
        super().__init__()
        half = config.embedding // 2
        place = torch.arange(half, dtype=torch.float64) / (half - 1)
        self.register_buffer("frequencies", 2.0 * math.pi * config.frequency_max**place, persistent=False)
        *finer, coarsest = config.widths
        self.first = nn.Conv2d(image_channels, config.widths[0], 1)
        self.label = None if classes is None else LabelEmbedding(classes, config.embedding)
        width = config.widths[0] + config.embedding * (1 if classes is None else 2)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        left: list[int] = []
        for wider in finer:
            blocks = nn.ModuleList()
            for _ in range(config.depth):
                blocks.append(_Block(width, wider))
                width = wider
                left.append(width)
            self.down.append(blocks)
        middle = [_Block(width if i == 0 else coarsest, coarsest) for i in range(config.depth)]
        self.middle, width = nn.Sequential(*middle), coarsest
        for narrower in reversed(finer):
            blocks = nn.ModuleList()
            for _ in range(config.depth):
                blocks.append(_Block(width + left.pop(), narrower))
                width = narrower
            self.up.append(blocks)
        self.last = nn.Conv2d(width, image_channels, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        told = [sinusoids(_noise_share(level), self.frequencies).to(x.dtype)]
        if self.label is not None:
            told.append(self.label(label, len(x)))
        planes = [vector[:, :, None, None].expand(-1, -1, *x.shape[2:]) for vector in told]
        h = torch.cat((self.first(x), *planes), dim=1)
        skips: list[Tensor] = []
        for blocks in self.down:
            for block in blocks.children():
                h = block(h)
                skips.append(h)
            h = F.avg_pool2d(h, 2)
        h = self.middle(h)
        for blocks in self.up:
            h = F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False)
            for block in blocks.children():
                h = block(torch.cat((h, skips.pop()), dim=1))
        output: Tensor = self.last(h)
        return output


class _Block(nn.Module):
    """skip(x) + conv(swish(conv(norm(x)))), the skip a convolution where the width changes."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(before, affine=False)
        self.conv_1 = nn.Conv2d(before, width, 3, padding=1)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)
        self.skip = nn.Identity() if before == width else nn.Conv2d(before, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(self.skip(x), self.conv_2(F.silu(self.conv_1(self.norm(x)))))


def _noise_share(level: Level) -> Tensor:
    """v, (B,) float64."""
    if level.alpha is None or level.sigma is None:
        return level.t.to(torch.float64)
    alpha, sigma = level.alpha.to(torch.float64), level.sigma.to(torch.float64)
    return sigma**2 / (alpha**2 + sigma**2)
