"""Noise level and class as vectors.

In `LevelEmbedding` the level enters as Fourier features of v = log(sigma / alpha) / 4 (of t for a process
without rates), the class as a learnt vector, -1 as a learnt vector of its own; the two are added. Networks
after published ones form the sinusoids that those have.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffkit.interfaces.network import Level

__all__ = ["LabelEmbedding", "LevelEmbedding", "sinusoids"]


class LevelEmbedding(nn.Module):
    """(B, width), after a last activation.

    Args:
        frequencies: how many, each with a sine and a cosine.
        width: of the vector.
        classes: how many there are labels for; None = labels are not looked at.
    """

    frequencies: Tensor

    def __init__(self, frequencies: int, width: int, classes: int | None) -> None:
        super().__init__()
        # Cycles a unit of v, from a fraction of its whole range to a fraction of one solver step.
        turns = torch.logspace(-3.0, 3.0, frequencies, base=2.0)
        self.register_buffer("frequencies", 2.0 * math.pi * turns, persistent=False)
        self.level = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))
        self.label = None if classes is None else LabelEmbedding(classes, width)

    def forward(self, level: Level, label: Tensor | None, count: int) -> Tensor:
        angles = _coordinate(level).to(self.frequencies)[:, None] * self.frequencies
        vector: Tensor = self.level(torch.cat((angles.cos(), angles.sin()), dim=1))
        return F.silu(vector if self.label is None else vector + self.label(label, count))


class LabelEmbedding(nn.Embedding):
    """A learnt vector for each class, and a last one for none, (B, width).

    Args:
        classes: how many.
        width: of the vectors.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__(classes + 1, width)

    def forward(self, label: Tensor | None, count: int) -> Tensor:  # type: ignore[override]
        none, device = self.num_embeddings - 1, self.weight.device
        rows = torch.full((count,), none, device=device) if label is None else label.to(device)
        return super().forward(torch.where(rows < 0, none, rows))


def sinusoids(position: Tensor, frequencies: Tensor) -> Tensor:
    """Sines, then cosines, of the position (B,) times each of F frequencies in radians, (B, 2 F)."""
    angles = position[:, None] * frequencies.to(position)
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def _coordinate(level: Level) -> Tensor:
    """v, held to [-5, 5], or t; (B,)."""
    if level.alpha is None or level.sigma is None:
        return level.t
    return (torch.log(level.sigma) - torch.log(level.alpha)).div(4.0).clamp(-5.0, 5.0)
