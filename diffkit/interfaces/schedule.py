"""The schedule: how fast noise comes in."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from diffkit.component import Component

__all__ = ["Schedule"]


class Schedule(Component):
    """A noise rate beta(t) >= 0 and its antiderivative B(t), increasing, with an inverse.

    All three methods take a tensor of any shape (or a number) and return one of the same shape and
    dtype; concrete ones compute in float64 (`diffkit.tensors.float64`) and cast last. `t` has no
    unit and runs from `t_min` to `t_max`, at most 1, growing with noise.

    A schedule provides `schedule.preserving` if exp(-B/2) may serve as a signal rate (VP, sub-VP).
    """

    @abstractmethod
    def rate(self, t: Tensor) -> Tensor:
        """beta(t) = dB/dt."""

    @abstractmethod
    def integral(self, t: Tensor) -> Tensor:
        """B(t), accurate to relative precision down to t = 1e-6."""

    @abstractmethod
    def time(self, integral: Tensor) -> Tensor:
        """The t at which B(t) = `integral`."""

    @property
    def t_min(self) -> float:
        """Where sampling stops being meaningful: 0 where B(0) > 0, else 1e-3."""
        return 1e-3

    @property
    def t_max(self) -> float:
        """The end of the schedule, where the prior stands in for the marginal."""
        return 1.0
