"""Where to compute, and in which arithmetic."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Literal

import torch

__all__ = ["Arithmetic", "autocast", "best_device", "choose_arithmetic"]

Arithmetic = Literal["fp32", "bf16", "fp16"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_GAIN = 0.9
_REPEATS = 3


def best_device() -> torch.device:
    """The first CUDA device where there is one, else the CPU.

    Coefficients and noise are float64, which Apple's MPS lacks; it is left out.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(arithmetic: Arithmetic, device: torch.device) -> torch.autocast:
    """The context in which a network computes in `arithmetic`; its weights stay as they are."""
    dtype = _DTYPES.get(arithmetic)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def choose_arithmetic(device: torch.device, work: Callable[[Arithmetic], None]) -> Arithmetic:
    """bf16 where it is faster, else fp32.

    Args:
        device: on CUDA the hardware's word is taken; on a CPU `work` is timed.
        work: one forward and backward pass.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if _seconds(work, "bf16") < _GAIN * _seconds(work, "fp32") else "fp32"


def _seconds(work: Callable[[Arithmetic], None], arithmetic: Arithmetic) -> float:
    """The shortest of a few passes, after one that warms up."""
    return min(timeit.repeat(lambda: work(arithmetic), repeat=1 + _REPEATS, number=1)[1:])
