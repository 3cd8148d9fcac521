"""The operator: a linear measurement of a sample."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from diffkit.component import Component

__all__ = ["Operator"]


class Operator(Component):
    """A linear map A from samples to measurements: in-painting, super-resolution, blur, grey.

    `<A x, y> = <x, A* y>` and `A A+ A = A` hold to the precision of the dtype.
    """

    @abstractmethod
    def measured_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one measurement, from that of one sample; raises `DataError` if it does not fit."""

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """A x, from (B, *shape) to (B, *measured_shape)."""

    @abstractmethod
    def adjoint(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A* y, back to (B, *shape)."""

    @abstractmethod
    def pinv(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A+ y (Moore-Penrose), back to (B, *shape)."""
