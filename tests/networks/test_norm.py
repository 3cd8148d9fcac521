"""Group normalisation: by numpy's formula, and with statistics that half precision does not spoil."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from diffkit_standard.networks._norm import GroupNorm


def spread() -> torch.Tensor:
    """Pictures far off zero, whose spread half precision would lose in a sum of squares."""
    return 40.0 + torch.linspace(0.0, 50.0, 2 * 6 * 4 * 5, dtype=torch.float64).sin().reshape(2, 6, 4, 5)


@pytest.mark.parametrize("dtype, close", [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_it_is_the_formula(dtype: torch.dtype, close: float) -> None:
    norm = GroupNorm(3, 6).to(dtype)
    norm.weight.data.copy_(torch.arange(1.0, 7.0))
    norm.bias.data.copy_(torch.arange(6.0))
    groups = spread().numpy().reshape(2, 3, 2, 4, 5)
    mean, variance = (f(groups, axis=(2, 3, 4), keepdims=True) for f in (np.mean, np.var))
    normal = ((groups - mean) / np.sqrt(variance + norm.eps)).reshape(2, 6, 4, 5)
    expected = normal * np.arange(1.0, 7.0)[:, None, None] + np.arange(6.0)[:, None, None]
    answer = norm(spread().to(dtype))
    assert answer.dtype == dtype
    np.testing.assert_allclose(answer.detach().double().numpy(), expected, atol=close)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_half_precision_goes_in_and_out_and_no_further(
    dtype: torch.dtype, layout: torch.memory_format
) -> None:
    norm, plain = GroupNorm(3, 6), nn.GroupNorm(3, 6)
    x = spread().to(dtype).contiguous(memory_format=layout)
    answer = norm(x)
    assert answer.dtype == dtype
    torch.testing.assert_close(answer, plain(x.float()).to(dtype), rtol=0.0, atol=0.0)
