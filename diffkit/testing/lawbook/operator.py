"""The laws of an operator: linear, with its adjoint and its pseudo-inverse."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffkit.errors import InputError
from diffkit.interfaces.operator import Operator
from diffkit.noise import Noise
from diffkit.testing.lawbook.base import NotApplicable, book_of, ensure, ensure_close

__all__ = ["LAWS"]

_SHAPES: tuple[tuple[int, ...], ...] = (
    *((1, 8, 8), (3, 8, 8), (1, 16, 16), (3, 16, 16), (1, 64), (4,)),
    *((1, 8, 12), (3, 16, 8)),  # wide and tall: in a square one, height and width may be confused unseen
)


def _served(operator: Operator) -> list[tuple[int, ...]]:
    """The shapes among those tried that the operator takes."""
    found = []
    for shape in _SHAPES:
        try:
            operator.measured_shape(shape)
        except InputError:
            continue
        found.append(shape)
    if not found:
        raise NotApplicable(f"it takes none of the shapes {_SHAPES}")
    return found


def _normal(shape: tuple[int, ...], draw: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return Noise(seed=0, index=torch.arange(3)).normal((3, *shape), draw=draw, dtype=dtype)


def shapes_and_dtypes(operator: Operator) -> None:
    """A x is (B, *measured_shape), A* y and A+ y are (B, *shape), in the dtype given."""
    for shape in _served(operator):
        measured = operator.measured_shape(shape)
        for dtype in (torch.float32, torch.float64):
            x, y = _normal(shape, dtype=dtype), _normal(measured, dtype=dtype)
            back = (operator.adjoint(y, shape), operator.pinv(y, shape))
            for what, got, wanted in (
                ("A x", operator.apply(x), y),
                ("A* y", back[0], x),
                ("A+ y", back[1], x),
            ):
                right = got.shape == wanted.shape and got.dtype == dtype
                ensure(right, f"{what} for {shape} in {dtype} is {got.dtype} {tuple(got.shape)}")


def linear(operator: Operator) -> None:
    """A(a x + b z) = a A x + b A z, A 0 = 0."""
    for shape in _served(operator):
        x, z = _normal(shape), _normal(shape, 1)
        combined = operator.apply(0.7 * x - 1.9 * z)
        expected = 0.7 * operator.apply(x) - 1.9 * operator.apply(z)
        ensure_close(combined, expected, 1e-10, f"A(0.7 x - 1.9 z) for {shape}")
        zero = operator.apply(torch.zeros_like(x))
        ensure_close(zero, torch.zeros_like(zero), 1e-14, f"A 0 for {shape}")


def adjoint(operator: Operator) -> None:
    """<A x, y> = <x, A* y>."""
    for shape in _served(operator):
        x, y = _normal(shape), _normal(operator.measured_shape(shape), 1)
        left = (operator.apply(x) * y).flatten(1).sum(1)
        right = (x * operator.adjoint(y, shape)).flatten(1).sum(1)
        ensure_close(left, right, 1e-10 * math.prod(shape), f"<A x, y> for {shape}")


def pseudo_inverse(operator: Operator) -> None:
    """A A+ A = A, A+ A A+ = A+, and A A+ and A+ A are symmetric (Moore-Penrose)."""
    for shape in _served(operator):
        x, z = _normal(shape), _normal(shape, 1)
        y, w = _normal(operator.measured_shape(shape), 2), _normal(operator.measured_shape(shape), 3)

        def project(v: Tensor, shape: tuple[int, ...] = shape) -> Tensor:
            return operator.pinv(operator.apply(v), shape)

        def measure(v: Tensor, shape: tuple[int, ...] = shape) -> Tensor:
            return operator.apply(operator.pinv(v, shape))

        A_x, pinv_y = operator.apply(x), operator.pinv(y, shape)
        ensure_close(measure(A_x), A_x, _exactly(A_x), f"A A+ A x for {shape}")
        ensure_close(project(pinv_y), pinv_y, _exactly(pinv_y), f"A+ A A+ y for {shape}")
        _symmetric(project, x, z, f"A+ A for {shape}")
        _symmetric(measure, y, w, f"A A+ for {shape}")


def _symmetric(function: Callable[[Tensor], Tensor], a: Tensor, b: Tensor, what: str) -> None:
    left, right = (function(a) * b).flatten(1).sum(1), (a * function(b)).flatten(1).sum(1)
    ensure_close(left, right, 1e-8 * a[0].numel(), f"<{what} a, b>")


def _exactly(x: Tensor) -> float:
    """1e-8 of the largest value there is."""
    return 1e-8 * max(1.0, float(x.abs().max()))


def batch_independent(operator: Operator) -> None:
    """(A x)_i depends on x_i alone."""
    for shape in _served(operator):
        x = _normal(shape)
        ensure_close(operator.apply(x[1:2]), operator.apply(x)[1:2], 1e-12, f"A x of one sample for {shape}")


LAWS = book_of("operator", shapes_and_dtypes, linear, adjoint, pseudo_inverse, batch_independent)
