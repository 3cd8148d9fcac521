"""The table of a discrete diffusion: beta_1 .. beta_T, with B_k = -sum_{i<=k} log1p(-beta_i) at t = k/T."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar, Literal, final

import attrs
import torch
from attrs.validators import and_, ge, gt, in_, lt, optional
from torch import Tensor

from diffkit.component import parameter
from diffkit.interfaces.schedule import Schedule
from diffkit.tensors import float64

__all__ = ["Discrete"]

_OFFSET = 0.008  # of the cosine's angle
_CLIP = 0.999  # of the cosine's beta_i, which would end at 1


def _is_table(schedule: Discrete, attribute: Any, value: tuple[float, ...]) -> None:
    if len(value) < 2:
        raise ValueError(f"betas must hold at least two numbers, not {len(value)}")
    for number, beta in enumerate(value):
        if not 0.0 < beta < 1.0:
            raise ValueError(f"every one of betas must lie between 0 and 1, and betas[{number}] is {beta:g}")


@final
@attrs.frozen(kw_only=True)
class Discrete(Schedule):
    """A discrete diffusion in T steps, exact at its nodes: exp(-B(k/T)) is the product of 1 - beta_i, i <= k.

    B is linear in t between the nodes, so the rate T (B_{k+1} - B_k) is constant on each [k/T, (k+1)/T):
    continuous from the right, and at t = 1 that of the last interval. t_min = 1/T, the first noisy
    level. With `uniform` and T steps a sampler visits every level once.

    Two conventions to watch. Public DDPM code counts levels from 0, so that a network trained there
    is fed T t - 1. And a table need not end in pure noise: 0.0001 to 0.02 over T = 300 leaves a
    signal rate of 0.219 at t = 1.

    Source: Ho et al. 2020, arXiv 2006.11239, section 4 (linear); Nichol and Dhariwal 2021, arXiv
    2102.09672, eq. 17 (cosine, beta_i clipped at 0.999); Rombach et al. 2022, arXiv 2112.10752
    (scaled-linear: the roots are evenly spaced).
    """

    source: ClassVar[str] = "Ho et al. 2020, arXiv 2006.11239, section 4"

    table: Literal["linear", "cosine", "scaled-linear"] = parameter(
        "how beta_i grows, where no betas are given",
        "linear",
        validator=in_(("linear", "cosine", "scaled-linear")),
    )
    steps: int = parameter("T, where no betas are given", 1000, validator=ge(2))
    beta_start: float = parameter(
        "beta_1 of the tables linear and scaled-linear", 1e-4, validator=and_(gt(0.0), lt(1.0))
    )
    beta_end: float = parameter(
        "beta_T of the tables linear and scaled-linear", 0.02, validator=and_(gt(0.0), lt(1.0))
    )
    betas: tuple[float, ...] | None = parameter(
        "the table itself, beta_1 to beta_T, in place of the four fields above; null = made from them",
        None,
        validator=optional(_is_table),
    )

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"schedule.preserving"})

    @property
    def t_min(self) -> float:
        return 1.0 / len(self.beta_table)

    @cached_property
    def beta_table(self) -> Tensor:
        """beta_1 .. beta_T, (T,) float64."""
        if self.betas is not None:
            return torch.tensor(self.betas, dtype=torch.float64)
        if self.table == "cosine":
            return _cosine(self.steps)
        if self.table == "linear":
            return torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64)
        ends = math.sqrt(self.beta_start), math.sqrt(self.beta_end)
        return torch.linspace(*ends, self.steps, dtype=torch.float64) ** 2

    @cached_property
    def _nodes(self) -> Tensor:
        """B_0 .. B_T, (T + 1,) float64."""
        sums = torch.cumsum(-torch.log1p(-self.beta_table), dim=0)
        return torch.cat((sums.new_zeros(1), sums))

    def _interval(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The position T t, the number k of the interval that it lies in, and the nodes, on t's device."""
        nodes = self._nodes.to(t.device)
        position = t * (len(nodes) - 1)
        # T times a rounded k/T may fall short of k, and thereby into the interval before.
        nearest = position.round()
        position = torch.where((position - nearest).abs() <= 1e-15 * nearest, nearest, position)
        return position, position.floor().clamp(0, len(nodes) - 2).long(), nodes

    @float64
    def rate(self, t: Tensor) -> Tensor:
        _, k, nodes = self._interval(t)
        return (nodes[k + 1] - nodes[k]) * (len(nodes) - 1)

    @float64
    def integral(self, t: Tensor) -> Tensor:
        position, k, nodes = self._interval(t)
        return nodes[k] + (position - k) * (nodes[k + 1] - nodes[k])

    @float64
    def time(self, integral: Tensor) -> Tensor:
        nodes = self._nodes.to(integral.device)
        k = torch.searchsorted(nodes, integral.contiguous(), right=True).sub(1).clamp(0, len(nodes) - 2)
        return (k + (integral - nodes[k]) / (nodes[k + 1] - nodes[k])) / (len(nodes) - 1)


def _cosine(steps: int) -> Tensor:
    """beta_i = 1 - cos^2(b) / cos^2(a), a and b the angles at both ends of the step, without cancellation."""
    k = torch.arange(steps + 1, dtype=torch.float64)
    angle = 0.5 * math.pi * (k / steps + _OFFSET) / (1.0 + _OFFSET)
    a, b = angle[:-1], angle[1:]
    width = 0.5 * math.pi / (steps * (1.0 + _OFFSET))
    return (math.sin(width) * torch.sin(a + b) / torch.cos(a) ** 2).clamp(max=_CLIP)
