"""A U-Net for images: residual blocks on a ladder of resolutions, joined across by skips.

The noise level (as Fourier features) and the class, embedded in one vector, scale and shift every
residual block after its second normalisation (Dhariwal and Nichol 2021).
"""

from __future__ import annotations

from typing import ClassVar, TypeVar, final

import attrs
import torch
import torch.nn.functional as F
from attrs.validators import and_, deep_iterable, ge, instance_of, lt, min_len
from torch import Tensor, nn

from diffkit.component import parameter
from diffkit.errors import ConfigError
from diffkit.interfaces.network import Level, Network
from diffkit_standard.networks._embedding import LevelEmbedding
from diffkit_standard.networks._ladder import require_sides
from diffkit_standard.networks._norm import GroupNorm

__all__ = ["UNet"]

LayerT = TypeVar("LayerT", bound=nn.Module)

_positive = and_(instance_of(int), ge(1))


@final
@attrs.frozen(kw_only=True)
class UNet(Network):
    """Images (C, H, W) of any channel count; H and W multiples of patch * 2^(levels - 1).

    With the defaults, 1 channel and 10 classes it has about 0.75 million parameters; they grow with
    the square of `channels`. The output starts at zero.
    """

    source: ClassVar[str] = (
        "Song et al. 2021, arXiv 2011.13456, appendix G; Dhariwal and Nichol 2021, arXiv 2105.05233"
    )

    channels: int = parameter("width at the finest level", 32, validator=_positive)
    multipliers: tuple[int, ...] = parameter(
        "width of each level, finest first, in units of channels; each further level halves the size",
        (1, 2, 2),
        validator=and_(min_len(1), deep_iterable(_positive)),
    )
    blocks: int = parameter(
        "residual blocks a level, on the way down and on the way up", 1, validator=_positive
    )
    attention: tuple[int, ...] = parameter(
        "levels with self-attention: 0 is the finest, -1 the coarsest",
        (-1,),
        validator=deep_iterable(instance_of(int)),
    )
    heads: int = parameter("of the attention", 4, validator=_positive)
    groups: int = parameter("of the group normalisation", 8, validator=_positive)
    patch: int = parameter(
        "pixels a side folded into channels before the first level", 1, validator=_positive
    )
    dropout: float = parameter(
        "share of activations dropped in each block", 0.0, validator=and_(ge(0.0), lt(1.0))
    )

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"network.image-output", "network.labels"})

    def build(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        self._check(shape)
        return _UNet(self, shape[0], classes)

    def attends(self, level: int) -> bool:
        """Whether there is self-attention at `level`, counted from the finest."""
        return level in self.attention or level - len(self.multipliers) in self.attention

    def _check(self, shape: tuple[int, ...]) -> None:
        levels = len(self.multipliers)
        words = f"{levels} levels and patch {self.patch}"
        remedy = ", shorten network.multipliers or lower network.patch"
        require_sides("unet", shape, self.patch * 2 ** (levels - 1), words, remedy)
        for multiplier in self.multipliers:
            width = self.channels * multiplier
            for key, parts in (("groups", self.groups), ("heads", self.heads)):
                if width % parts:
                    raise ConfigError(
                        f"The key network.{key} is {parts}, and a level of the network unet is {width} wide",
                        f"a width that {parts} divides",
                        f"Change network.{key} or network.channels",
                    )
        beyond = [level for level in self.attention if not -levels <= level < levels]
        if beyond:
            raise ConfigError(
                f"The key network.attention names level {beyond[0]}",
                f"levels from {-levels} to {levels - 1}",
                "Name levels that network.multipliers has",
            )


class _UNet(nn.Module):
    def __init__(self, config: UNet, image_channels: int, classes: int | None) -> None:
        super().__init__()
        self.patch = config.patch
        self.embedding = LevelEmbedding(config.channels, 4 * config.channels, classes)
        folded = image_channels * config.patch**2
        widths = [config.channels * multiplier for multiplier in config.multipliers]
        self.first = nn.Conv2d(folded, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_Down(config, level, widths) for level in range(len(widths)))
        self.middle = _Block(config, widths[-1], widths[-1], attention=False)
        self.up = nn.ModuleList(_Up(config, level, widths) for level in reversed(range(len(widths))))
        self.norm = GroupNorm(config.groups, widths[0])
        self.last = _zero(nn.Conv2d(widths[0], folded, 3, padding=1))

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        embedded = self.embedding(level, label, len(x))
        h = self.first(F.pixel_unshuffle(x, self.patch))
        skips: list[Tensor] = []
        for down in self.down:
            h = down(h, embedded, skips)
        h = self.middle(h, embedded)
        for up in self.up:
            h = up(h, embedded, skips)
        return F.pixel_shuffle(self.last(F.silu(self.norm(h))), self.patch)


class _Down(nn.Module):
    """Blocks at one level, each leaving a skip; before them, all but the finest halve the size."""

    def __init__(self, config: UNet, level: int, widths: list[int]) -> None:
        super().__init__()
        before, width = widths[max(level - 1, 0)], widths[level]
        self.resize = nn.Identity() if level == 0 else nn.Conv2d(before, before, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            _Block(config, before if i == 0 else width, width, attention=config.attends(level))
            for i in range(config.blocks)
        )

    def forward(self, h: Tensor, embedded: Tensor, skips: list[Tensor]) -> Tensor:
        h = self.resize(h)
        for block in self.blocks:
            h = block(h, embedded)
            skips.append(h)
        return h


class _Up(nn.Module):
    """Blocks at one level, each taking a skip; after them, all but the finest double the size."""

    def __init__(self, config: UNet, level: int, widths: list[int]) -> None:
        super().__init__()
        width, after = widths[level], widths[max(level - 1, 0)]
        self.blocks = nn.ModuleList(
            _Block(config, 2 * width, width, attention=config.attends(level)) for _ in range(config.blocks)
        )
        self.resize = nn.Identity() if level == 0 else nn.Conv2d(width, after, 3, padding=1)
        self.factor = 1 if level == 0 else 2

    def forward(self, h: Tensor, embedded: Tensor, skips: list[Tensor]) -> Tensor:
        for block in self.blocks:
            h = block(torch.cat((h, skips.pop()), dim=1), embedded)
        if self.factor == 1:
            return h
        doubled: Tensor = self.resize(F.interpolate(h, scale_factor=self.factor, mode="nearest"))
        return doubled


class _Block(nn.Module):
    """h + conv(silu(scale * norm(conv(silu(norm(h)))) + shift)), then self-attention where asked."""

    def __init__(self, config: UNet, before: int, width: int, *, attention: bool) -> None:
        super().__init__()
        self.norm_1 = GroupNorm(config.groups, before)
        self.conv_1 = nn.Conv2d(before, width, 3, padding=1)
        self.modulation = nn.Linear(4 * config.channels, 2 * width)
        self.norm_2 = GroupNorm(config.groups, width)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_2 = _zero(nn.Conv2d(width, width, 3, padding=1))
        self.skip = nn.Identity() if before == width else nn.Conv2d(before, width, 1)
        self.attention = _Attention(config, width) if attention else nn.Identity()

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))
        scale, shift = self.modulation(embedded)[:, :, None, None].chunk(2, dim=1)
        h = self.conv_2(self.dropout(F.silu(self.norm_2(h) * (1.0 + scale) + shift)))
        attended: Tensor = self.attention(self.skip(x) + h)
        return attended


class _Attention(nn.Module):
    """h + the mean of the values of all positions, weighted by how queries and keys agree.

    Written out, because in bfloat16 on a CPU the backward pass of torch's fused attention is
    several times slower at the few positions of a coarsest level.
    """

    def __init__(self, config: UNet, width: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = GroupNorm(config.groups, width)
        self.project = nn.Linear(width, 3 * width)
        self.out = _zero(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        parts = self.project(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        agreement = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        mixed = (agreement.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
        h: Tensor = x + self.out(mixed).transpose(1, 2).reshape(x.shape)
        return h


def _zero(layer: LayerT) -> LayerT:
    """Starts a layer at zero, so that its block starts as the identity."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer
