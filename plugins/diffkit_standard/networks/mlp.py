"""A residual multilayer perceptron on the flattened input: vectors, short signals, small pictures.

Each block computes h + W_2 silu(W_1 silu(scale * norm(h) + shift)), where scale and shift are linear
in the embedding of noise level and class.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, final

import attrs
import torch
import torch.nn.functional as F
from attrs.validators import and_, ge, in_, instance_of
from torch import Tensor, nn

from diffkit.component import parameter
from diffkit.errors import ConfigError
from diffkit.interfaces.network import Level, Network
from diffkit_standard.networks._embedding import LevelEmbedding

__all__ = ["MLP"]

_FREQUENCIES = 16

_positive = and_(instance_of(int), ge(1))


@final
@attrs.frozen(kw_only=True)
class MLP(Network):
    """Samples of any shape, flattened; about 0.2 million parameters with the defaults in the plane.

    The output starts at zero. No parameter knows where elements lie beside one another, so pictures
    of more than a few hundred pixels are better served by `unet`.
    """

    source: ClassVar[str] = (
        "He et al. 2016, arXiv 1603.05027 (pre-activation); Perez et al. 2018, arXiv 1709.07871 (modulation)"
    )

    width: int = parameter("of the hidden layers", 128, validator=_positive)
    blocks: int = parameter("residual blocks, of two layers each", 3, validator=_positive)
    output: Literal["sample", "logits"] = parameter(
        "sample: shaped like the input; logits: one number a class, for a classifier",
        "sample",
        validator=in_(("sample", "logits")),
    )

    @property
    def provides(self) -> frozenset[str]:
        if self.output == "logits":
            return frozenset({"network.logits-output"})
        return frozenset({"network.image-output", "network.labels"})

    def build(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        if self.output == "sample":
            return _MLP(self, shape, shape, classes)
        if classes is None:
            raise ConfigError(
                "The network mlp with output: logits was given no classes",
                "examples with labels, to be told apart",
                "Set training.labels: true",
            )
        return _MLP(self, shape, (classes,), None)


class _MLP(nn.Module):
    def __init__(
        self, config: MLP, shape: tuple[int, ...], output: tuple[int, ...], classes: int | None
    ) -> None:
        super().__init__()
        self.output = output
        self.embedding = LevelEmbedding(_FREQUENCIES, config.width, classes)
        self.first = nn.Linear(math.prod(shape), config.width)
        self.blocks = nn.ModuleList(_Block(config.width) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        self.last = _zero(nn.Linear(config.width, math.prod(output)))

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        embedded = self.embedding(level, label, len(x))
        h = self.first(x.flatten(1))
        for block in self.blocks:
            h = block(h, embedded)
        output: Tensor = self.last(F.silu(self.norm(h)))
        return output.reshape(len(x), *self.output)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.layer_1 = nn.Linear(width, width)
        self.layer_2 = _zero(nn.Linear(width, width))

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        scale, shift = self.modulation(embedded).chunk(2, dim=1)
        h: Tensor = self.layer_1(F.silu(self.norm(x) * (1.0 + scale) + shift))
        return torch.add(x, self.layer_2(F.silu(h)))


def _zero(layer: nn.Linear) -> nn.Linear:
    """Starts a layer at zero, so that its block starts as the identity."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
