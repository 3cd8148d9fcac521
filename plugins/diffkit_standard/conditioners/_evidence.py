"""log p(y | x_t) for a linear measurement y = A x_0 + s_y n, and its gradient, by one backward pass.

With D = E[x_0 | x_t], J = dD/dx_t and V standing for the covariance of x_0 given x_t, up to a constant

    log p(y | x_t) = -r^T M^-1 r / 2,   r = y - A D,   M = s_y^2 I + A V A^T,
    grad log p(y | x_t) = J^T A^T M^-1 r                     (M held fixed).

M^-1 r comes from conjugate gradients, sample by sample: a sample's answer does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs
import torch
from torch import Tensor

from diffkit.interfaces.model import Model
from diffkit.interfaces.operator import Operator
from diffkit.interfaces.sde import GaussianSDE
from diffkit.tensors import expand

__all__ = ["Evidence", "Guidance", "Measurement", "clean_of", "conjugate_gradients", "evidence"]

Guidance = Literal["mmps", "pigdm", "dps"]

_ASTRAY = 10.0
"""How much larger than at the start a residual of the conjugate gradients may become."""


@attrs.frozen(kw_only=True, eq=False)
class Measurement:
    """y = A x_0 + s_y n, for the samples of one batch.

    Args:
        operator: A.
        y: (B, ...), measured.
        noise: s_y, in the units of y.
        shape: of one sample.
    """

    operator: Operator
    y: Tensor
    noise: float
    shape: tuple[int, ...]

    def adjoint(self, v: Tensor) -> Tensor:
        return self.operator.adjoint(v, self.shape)

    def pinv(self, v: Tensor) -> Tensor:
        return self.operator.pinv(v, self.shape)


@attrs.frozen(kw_only=True, eq=False)
class Evidence:
    """What a measurement says of x_t.

    Args:
        clean: D(x_t), (B, ...).
        log_p: (B,), up to a constant that is the same for every x_t.
        gradient: (B, ...), with respect to x_t.
    """

    clean: Tensor
    log_p: Tensor
    gradient: Tensor


def evidence(
    denoise: Callable[[Tensor], Tensor],
    measurement: Measurement,
    sde: GaussianSDE,
    x: Tensor,
    t: Tensor,
    covariance: Literal["mmps", "pigdm"],
    iterations: int,
) -> Evidence:
    """The evidence at x_t.

    Args:
        denoise: x -> D(x, t).
        t: 0-d or (B,).
        covariance: V = (sigma^2 / alpha) J (mmps: Tweedie's, true for any data) or
            sigma^2 / (alpha^2 + sigma^2) I (pigdm: that of standard-normal data).
        iterations: of the conjugate gradients; mmps takes a backward pass for each.
    """
    t = t.to(torch.float64)
    alpha, sigma = expand(sde.alpha(t), x), expand(sde.sigma(t), x)
    with torch.enable_grad():
        point = x.detach().requires_grad_(True)
        clean = denoise(point)

    def pulled_back(v: Tensor) -> Tensor:
        """J^T v."""
        if not clean.requires_grad:
            return torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(clean, point, v.to(clean.dtype), retain_graph=True)
        return gradient

    def spread(v: Tensor) -> Tensor:
        """V v."""
        if covariance == "mmps":
            return sigma**2 / alpha * pulled_back(v)
        return sigma**2 / (alpha**2 + sigma**2) * v

    def system(u: Tensor) -> Tensor:
        return measurement.noise**2 * u + measurement.operator.apply(spread(measurement.adjoint(u)))

    with torch.no_grad():
        residual = measurement.y - measurement.operator.apply(clean.detach())
        solved = conjugate_gradients(system, residual, iterations)
        gradient = pulled_back(measurement.adjoint(solved))
        log_p = -0.5 * (residual * solved).flatten(1).sum(1)
    return Evidence(clean=clean.detach(), log_p=log_p, gradient=gradient)


def conjugate_gradients(system: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> Tensor:
    """u with M u = b for a symmetric M >= 0, sample by sample, (B, ...).

    A sample rests once its residual is below sqrt(eps) |b|, or before the step that M would make in a
    direction without positive curvature, or to a residual of more than 10 |b|: the Jacobian of a network is
    not quite symmetric, and on such a system the iteration may run away.

    Source: Hestenes and Stiefel 1952, J. Res. NBS 49, section 3.
    """
    u = torch.zeros_like(b)
    residual, direction = b, b
    power = start = _dot(b, b)
    moving = power > 0.0
    for _ in range(iterations):
        image = system(direction)
        curvature = _dot(direction, image)
        moving = moving & (curvature > 0.0)
        step = torch.where(moving, power / torch.where(moving, curvature, 1.0), 0.0)
        further = residual - expand(step, b) * image
        fresh = _dot(further, further)
        moving = moving & (fresh <= _ASTRAY**2 * start)
        step = torch.where(moving, step, 0.0)
        u, residual = u + expand(step, b) * direction, further
        direction = residual + expand(fresh / torch.where(moving, power, 1.0), b) * direction
        power = fresh
        moving = moving & (power > torch.finfo(b.dtype).eps * start)
        if not bool(moving.any()):
            break
    return u


def clean_of(model: Model, sde: GaussianSDE, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
    """D(x, t), from a model that offers a denoiser or a score."""
    if "denoise" in model.offers:
        return model.denoise(x, t, label)
    variance = expand(sde.sigma(t) ** 2, x)
    return (x + variance * model.score(x, t, label)) / expand(sde.alpha(t), x)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)
