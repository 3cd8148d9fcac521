"""What surrounds the optimiser: its rate, the moving average of the weights, its moments as tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from diffkit.config import TrainingConfig

__all__ = ["average", "learning_rate", "moments", "restore_moments"]


def learning_rate(config: TrainingConfig, step: int, total: int) -> float:
    """The rate of step 0, 1, ... total - 1: a linear rise, then constant or half a cosine to zero."""
    warmup = min(config.warmup, total // 10)
    rise = min(1.0, (step + 1) / (warmup + 1))
    if config.decay == "constant" or step < warmup:
        return config.learning_rate * rise
    progress = (step - warmup) / max(total - warmup, 1)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))


@torch.no_grad()
def average(mean: nn.Module, network: nn.Module, decay: float) -> None:
    """mean <- decay mean + (1 - decay) network; buffers are copied."""
    for averaged, weight in zip(mean.parameters(), network.parameters(), strict=True):
        averaged.lerp_(weight, 1.0 - decay)
    for kept, buffer in zip(mean.buffers(), network.buffers(), strict=True):
        kept.copy_(buffer)


def moments(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as one tensor each, named `<number of the weight>.<name>`."""
    return {
        f"{number}.{name}": value
        for number, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def restore_moments(optimizer: Optimizer, saved: Mapping[str, Tensor]) -> None:
    """The inverse of `moments`, onto the device and the memory layout of the weights.

    Fused optimisers walk a weight and its moments side by side in memory; a saved tensor has lost
    its layout.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for key, value in saved.items():
        number, _, name = key.partition(".")
        weight = weights[int(number)]
        like = weight.detach() if value.shape == weight.shape else value.to(weight.device)
        optimizer.state[weight][name] = torch.empty_like(like).copy_(value)
