"""A convolutional energy: four convolutions of stride 2, and two dense layers down to one number."""

from __future__ import annotations

import itertools
from typing import ClassVar, final

import attrs
from attrs.validators import and_, ge, instance_of
from torch import Tensor, nn

from diffkit.component import parameter
from diffkit.errors import ConfigError
from diffkit.interfaces.network import Level, Network

__all__ = ["EnergyCNN"]

_positive = and_(instance_of(int), ge(1))


@final
@attrs.frozen(kw_only=True)
class EnergyCNN(Network):
    """E(x) of images (C, H, W): convolutions 5 x 5 and three times 3 x 3, swish, no normalisation.

    With c `channels` they have c, 2c, 4c and 4c. Each halves the image, rounding up, so that any size fits:
    the dense layer takes 4c ceil(H/16) ceil(W/16) numbers, 256 for 28 x 28 pixels as for 32 x 32. About
    77,000 parameters with the defaults and grey images. The energy depends on x alone: noise level and
    label are not looked at.

    Raises:
        ConfigError: examples that are no images.
    """

    source: ClassVar[str] = "Foster 2023, Generative Deep Learning, ch. 7"

    channels: int = parameter("width of the first convolution", 16, validator=_positive)
    hidden: int = parameter("width of the dense layer", 64, validator=_positive)

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"network.energy-output"})

    def build(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        if len(shape) != 3:
            raise ConfigError(
                f"The network energy-cnn was given examples of shape {tuple(shape)}",
                "images (channels, height, width)",
                "Choose the network energy-mlp",
            )
        return _EnergyCNN(self, shape)


class _EnergyCNN(nn.Module):
    def __init__(self, config: EnergyCNN, shape: tuple[int, ...]) -> None:
        super().__init__()
        widths = [shape[0], *(factor * config.channels for factor in (1, 2, 4, 4))]
        layers: list[nn.Module] = []
        for before, width in itertools.pairwise(widths):
            kernel = 3 if layers else 5
            layers += [nn.Conv2d(before, width, kernel, stride=2, padding=kernel // 2), nn.SiLU()]
        pixels = -(-shape[1] // 16) * -(-shape[2] // 16)
        dense = [nn.Linear(widths[-1] * pixels, config.hidden), nn.SiLU(), nn.Linear(config.hidden, 1)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), *dense)

    def forward(self, x: Tensor, level: Level, label: Tensor | None = None) -> Tensor:
        """(B,) energies; `level` and `label` are not looked at."""
        energy: Tensor = self.layers(x)
        return energy.squeeze(1)
