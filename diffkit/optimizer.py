"""What surrounds the optimiser: its rate, the moving average of the weights, its moments as tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from diffkit.config import TrainingConfig

__all__ = ["average", "averaging_decay", "learning_rate", "moments", "restore_moments"]


def learning_rate(config: TrainingConfig, step: int, total: int) -> float:
    """The rate of step 0, 1, ... total - 1: a linear rise, then as `decay` says."""
    warmup = min(config.warmup, total // 10)
    rise = min(1.0, (step + 1) / (warmup + 1))
    if config.decay == "constant" or step < warmup:
        return config.learning_rate * rise
    if config.decay == "inverse-sqrt":
        return config.learning_rate * min(1.0, math.sqrt(max(total / 10, 1.0) / (step + 1)))
    progress = (step - warmup) / max(total - warmup, 1)
    fall = 1.0 - progress if config.decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.learning_rate * fall


def averaging_decay(config: TrainingConfig, step: int) -> float:
    """The decay of the moving average after step 0, 1, ...; 0 takes the weights as they are.

    A constant one is min(decay, (1 + n) / (10 + n)) at step n. The power function's is
    (1 - 1 / (n + 1))^(gamma + 1): the average weighs step k in proportion to k^gamma, a window of relative
    width sqrt((gamma + 1) / ((gamma + 2)^2 (gamma + 3))).

    Source: Karras et al. 2024, arXiv 2312.02696, eq. 1 and appendix C (power function).
    """
    assert config.ema is not None
    if config.ema != "power":
        return min(config.ema, (1 + step) / (10 + step))
    inverse = config.ema_width**-2
    gamma = max(np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse]).real)
    return float((1.0 - 1.0 / (step + 1)) ** (gamma + 1.0))


@torch.no_grad()
def average(mean: nn.Module, network: nn.Module, decay: float) -> None:
    """mean <- decay mean + (1 - decay) network, buffers of whole numbers copied.

    Running statistics go with the weights that they are of, to first order: averaged like them. What does
    not change (a mask of -inf, say) stays as it is.
    """
    for averaged, weight in zip(mean.parameters(), network.parameters(), strict=True):
        averaged.lerp_(weight, 1.0 - decay)
    for kept, buffer in zip(mean.buffers(), network.buffers(), strict=True):
        moved = kept.lerp(buffer, 1.0 - decay) if kept.is_floating_point() else buffer
        kept.copy_(torch.where(kept == buffer, buffer, moved))


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
