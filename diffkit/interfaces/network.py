"""The network: the trainable function inside a model."""

from __future__ import annotations

from abc import abstractmethod

import attrs
from torch import Tensor, nn

from diffkit.component import Component

__all__ = ["Level", "Network"]


@attrs.frozen(kw_only=True, eq=False)
class Level:
    """How noisy an input is.

    Args:
        t: (B,) time.
        alpha, sigma: (B,) signal and noise rates; None for a process without them.
    """

    t: Tensor
    alpha: Tensor | None = None
    sigma: Tensor | None = None


class Network(Component):
    """Builds a module with `forward(x, level, label=None)`.

    `x` is (B, *shape) at about unit variance (the objective scales it), `level` a `Level`, `label`
    (B,) int64 with -1 = none; None = all -1. What comes out is a capability:
    `network.image-output` (shaped like `x`), `network.energy-output` ((B,)) or
    `network.logits-output` ((B, classes)). `network.labels` = it can be built with classes.
    """

    @abstractmethod
    def build(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        """A freshly initialised module for samples of `shape`.

        Raises:
            ConfigError: a shape the network cannot take, with what it can.
        """
