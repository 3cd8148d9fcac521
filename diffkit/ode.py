"""Runge-Kutta methods for dy/dt = f(t, y): any tuple of tensors as the state, both directions.

Fixed steps: Euler, Heun, and the classical fourth-order method. Adaptive: Dormand and Prince 1980,
"A family of embedded Runge-Kutta formulae", order 5(4), each sample with steps of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffkit.errors import RunError
from diffkit.tensors import expand

__all__ = ["METHODS", "State", "adaptive", "fixed"]

State = tuple[Tensor, ...]

METHODS: dict[str, tuple[int, tuple[float, ...], tuple[tuple[float, ...], ...], tuple[float, ...]]] = {
    "euler": (1, (0.0,), ((),), (1.0,)),
    "heun": (2, (0.0, 1.0), ((), (1.0,)), (0.5, 0.5)),
    "rk4": (4, (0.0, 0.5, 0.5, 1.0), ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
"""Order, nodes, matrix and weights of each fixed-step method."""

_NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_MATRIX = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""Fifth-order weights minus fourth-order ones."""

_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 5.0
_MOST_STEPS = 100_000


def fixed(f: Callable[[Tensor, State], State], y: State, t: Tensor, s: Tensor, method: str) -> State:
    """y(s) from y(t) by one step of `euler`, `heun` or `rk4`; t and s are 0-d."""
    _, nodes, matrix, weights = METHODS[method]
    h = s - t
    slopes: list[State] = []
    for node, row in zip(nodes, matrix, strict=True):
        slopes.append(f(s if node == 1.0 else t + node * h, _advance(y, h, row, slopes)))
    return _advance(y, h, weights, slopes)


def adaptive(
    f: Callable[[Tensor, State, Tensor], State],
    y: State,
    t: Tensor,
    s: Tensor,
    *,
    rtol: float,
    atol: float,
) -> State:
    """y(s) from y(t), each sample to its own tolerance.

    Args:
        f: `(times (n,), state of n rows, rows (n,)) -> slopes`, for the rows that still move.
        y: tensors of shape (B, ...).
        t, s: 0-d times.
        rtol, atol: a step is kept when the largest, over the tensors of the state, of the RMS of
            error / (atol + rtol max(abs y)) is at most 1.

    Raises:
        RunError: the step size underflowed, or a sample took more than 100,000 steps.
    """
    batch, device = len(y[0]), y[0].device
    span = (s - t).to(torch.float64)
    position = torch.zeros(batch, dtype=torch.float64, device=device)  # 0 at t, 1 at s
    y = tuple(part.clone() for part in y)
    every = torch.arange(batch, device=device)
    slope = tuple(part.clone() for part in f(_clock(t, span, position), y, every))
    size = _first_size(y, slope, span, rtol, atol)
    for _ in range(_MOST_STEPS):
        rows = every[position < 1.0]
        if len(rows) == 0:
            return y
        step = torch.minimum(size[rows], 1.0 - position[rows])
        if bool((step < 1e-14).any()):
            raise RunError(
                "the adaptive solver's step size shrank to nothing",
                "the right-hand side is finite and not infinitely stiff",
                "loosen the tolerance, or look for NaN in the model's output",
            )
        here = tuple(part[rows] for part in y)
        slopes = [tuple(part[rows] for part in slope)]
        h = step * span.to(device)
        stage = here
        for node, row in zip(_NODES[1:], _MATRIX[1:], strict=True):
            stage = _advance(here, h, row, slopes)
            slopes.append(f(_clock(t, span, position[rows] + node * step), stage, rows))
        error = _scaled_error(here, stage, h, slopes, rtol, atol)
        factor = (_SAFETY * error.clamp(min=1e-10) ** -0.2).clamp(_SHRINK, _GROW)
        size[rows] = step * torch.where(error.isfinite(), factor, _SHRINK)
        kept = error <= 1.0
        done = rows[kept]
        ended = step[kept] >= 1.0 - position[done]
        position[done] = torch.where(ended, 1.0, position[done] + step[kept])
        for part, new in zip(y, stage, strict=True):
            part[done] = new[kept]
        for part, new in zip(slope, slopes[-1], strict=True):
            part[done] = new[kept]  # first same as last: the next step's first slope
    raise RunError(
        f"the adaptive solver took more than {_MOST_STEPS:,} steps",
        "a tolerance that the precision of the numbers allows",
        "loosen rtol and atol, or compute in float64",
    )


def _advance(y: State, h: Tensor, weights: tuple[float, ...], slopes: list[State]) -> State:
    """y + h sum_i w_i k_i."""
    moved = []
    for number, part in enumerate(y):
        total = part
        for weight, slope in zip(weights, slopes, strict=False):
            if weight:
                total = total + expand(h * weight, part) * slope[number]
        moved.append(total)
    return tuple(moved)


def _clock(t: Tensor, span: Tensor, position: Tensor) -> Tensor:
    return t.to(position) + span.to(position) * position


def _scaled_error(y: State, new: State, h: Tensor, slopes: list[State], rtol: float, atol: float) -> Tensor:
    zero = tuple(torch.zeros_like(part) for part in y)
    errors = _advance(zero, h, _ERROR, slopes)
    norms = []
    for part, end, error in zip(y, new, errors, strict=True):
        scale = atol + rtol * torch.maximum(part.abs(), end.abs())
        norms.append(_rms(error / scale))
    return torch.stack(norms).amax(0)


def _first_size(y: State, slope: State, span: Tensor, rtol: float, atol: float) -> Tensor:
    """A first step, as a share of the span, that moves each sample by a hundredth of its scale."""
    sizes = []
    for part, rate in zip(y, slope, strict=True):
        scale = atol + rtol * part.abs()
        sizes.append(0.01 * _rms(part / scale) / (_rms(rate / scale) * span.abs().to(part.device)))
    guess = torch.stack(sizes).nan_to_num(nan=1e-3, posinf=1.0)
    return guess.amin(0).clamp(1e-6, 1.0)


def _rms(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1).to(torch.float64).square().mean(1).sqrt()
