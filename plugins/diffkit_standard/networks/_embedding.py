"""Noise level and class as one vector, the same for every network here.

The level enters as Fourier features of v = log(sigma / alpha) / 4 (of t for a process without
rates), the class as a learnt vector, -1 as a learnt vector of its own; the two are added.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffkit.interfaces.network import Level

__all__ = ["LevelEmbedding"]


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
        self.label = None if classes is None else nn.Embedding(classes + 1, width)

    def forward(self, level: Level, label: Tensor | None, count: int) -> Tensor:
        angles = _coordinate(level).to(self.frequencies)[:, None] * self.frequencies
        vector: Tensor = self.level(torch.cat((angles.cos(), angles.sin()), dim=1))
        if self.label is None:
            return F.silu(vector)
        none = self.label.num_embeddings - 1
        rows = torch.full((count,), none, device=vector.device) if label is None else label.to(vector.device)
        return F.silu(vector + self.label(torch.where(rows < 0, none, rows)))


def _coordinate(level: Level) -> Tensor:
    """v, held to [-5, 5], or t; (B,)."""
    if level.alpha is None or level.sigma is None:
        return level.t
    return (torch.log(level.sigma) - torch.log(level.alpha)).div(4.0).clamp(-5.0, 5.0)
