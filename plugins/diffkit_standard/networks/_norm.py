"""Group normalisation as every network here has it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["GroupNorm"]


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu and He 2018, arXiv 1803.08494) whose statistics are at least float32.

    So autocast has it on CUDA. On a CPU it is also the faster way: torch's kernel for bfloat16 laid out
    channels last takes longer than the convolution that follows.
    """

    def forward(self, input: Tensor) -> Tensor:
        wide = input.to(torch.promote_types(input.dtype, torch.float32))
        normal = F.group_norm(wide, self.num_groups, self.weight, self.bias, self.eps)
        return normal.to(input.dtype)
