"""The density that a model's probability flow gives to data.

With x~ = x / alpha_t and u = log(sigma_t / alpha_t) the flow, and the density along it, are

    dx~/du = x~ - D(alpha_t x~, t),
    log p(x~(u_0)) = log N(x~(u_1); 0, e^(2 u_1)) + int_{u_0}^{u_1} div(x~ - D) du,

for every Gaussian process. The divergence is the sum of v^T J v over the unit vectors v, or the mean over
random v with E v v^T = 1, one integral for each of them.

Source: Song et al. 2021, arXiv 2011.13456, appendix D.2; Karras et al. 2022, arXiv 2206.00364, eq. 1 and 4,
for the variables; Hutchinson 1990, "A stochastic estimator of the trace of the influence matrix".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import attrs
import torch
from torch import Tensor

from diffkit import ode
from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import GaussianSDE, ScheduledSDE, bisect
from diffkit.ode import State
from diffkit.progress import Watch
from diffkit.tensors import expand, take
from diffkit_standard.metrics._likelihood import denoiser

__all__ = ["FlowDensity", "end_time"]

_ROWS = 256  # copies of a batch go through the model together up to so many rows; beyond, one by one


@attrs.frozen(kw_only=True, eq=False, slots=False)
class FlowDensity:
    """The density of a model at its least noisy level.

    Args:
        model: offers `denoise` or `score`.
        sde: the process.
        sigma_min: the noise rate at which the flow ends, where the process reaches it.
        tolerance: relative and absolute, of x~ and of the integral a dimension, each sample by itself.
    """

    model: Model
    sde: GaussianSDE
    sigma_min: float
    tolerance: float

    @cached_property
    def t_min(self) -> float:
        """The time at which the flow ends."""
        return end_time(self.sde, self.sigma_min)

    def log_density(self, x: Tensor, label: Tensor | None = None, probes: Tensor | None = None) -> Tensor:
        """log p(x), float64 nats: (B, 1) with the exact divergence, (B, k) with k probes, an estimate each.

        Args:
            x: (B, ...); the model is asked in its dtype.
            label: (B,), for a model that takes labels.
            probes: (k, B, ...), of mean 0 and covariance 1; None = exact, at as many gradients of the model
                as x has elements.

        Raises:
            RunError: the solver cannot hold its tolerance, as where the model gives NaN.
        """
        size = x[0].numel()
        log_snr = self.sde.log_snr(torch.tensor([self.t_min, self.sde.t_max], dtype=torch.float64))
        start, end = (-0.5 * log_snr).unbind()
        integrals = x.new_zeros((len(x), 1 if probes is None else len(probes)), dtype=torch.float64)
        slopes = self._slopes(x, label, probes)
        state = (x.detach().to(torch.float64), integrals)
        with Watch("likelihood", 100, "percent of the flow") as watch:

            def followed(u: Tensor, state: State, rows: Tensor) -> State:
                watch.at(int(100.0 * (u.min() - start) / (end - start)))
                return slopes(u, state, rows)

            tolerance = self.tolerance
            noise, integrals = ode.adaptive(followed, state, start, end, rtol=tolerance, atol=tolerance)
        standard = noise.flatten(1) * torch.exp(-end).to(noise.device)
        prior = -0.5 * standard.square().sum(1) - size * (0.5 * math.log(2.0 * math.pi) + float(end))
        return prior[:, None] + size * integrals

    def _slopes(
        self, x: Tensor, label: Tensor | None, probes: Tensor | None
    ) -> Callable[[Tensor, State, Tensor], State]:
        """dx~/du and its divergence a dimension."""
        size = x[0].numel()
        if probes is None:
            units = torch.eye(size, dtype=x.dtype, device=x.device).reshape(size, 1, *x.shape[1:])

        def slopes(u: Tensor, state: State, rows: Tensor) -> State:
            times = self.sde.time_of(-2.0 * u).clamp(self.t_min, self.sde.t_max)
            classes = None if label is None else take(label, rows)
            directions = units.expand(-1, len(rows), *x.shape[1:]) if probes is None else probes[:, rows]
            slope, forms = self._forms(state[0].to(x.dtype), times, classes, directions)
            total = forms.sum(1, keepdim=True) if probes is None else forms
            return slope.to(torch.float64), total / size

        return slopes

    @torch.enable_grad()
    def _forms(self, x: Tensor, t: Tensor, label: Tensor | None, directions: Tensor) -> tuple[Tensor, Tensor]:
        """f(x) = x~ - D for x~ = `x`, and v^T J v in float64, (n, k), for the directions (k, n, ...)."""
        count, number = len(x), len(directions)
        copies = min(max(1, _ROWS // count), number)
        point = x.detach().repeat(copies, *(1,) * (x.ndim - 1)).requires_grad_(True)
        times, label = t.repeat(copies), None if label is None else label.repeat(copies)
        denoise = denoiser(self.model, self.sde, label)
        slope = point - denoise(expand(self.sde.alpha(times), point) * point, times)
        forms = []
        for block in torch.split(directions, copies):
            v = block.reshape(-1, *x.shape[1:])
            (gradient,) = torch.autograd.grad((slope[: len(v)] * v).sum(), point, retain_graph=True)
            products = (gradient[: len(v)] * v).flatten(1).to(torch.float64).sum(1)
            forms.append(products.reshape(-1, count))
        return slope[:count].detach(), torch.cat(forms).T


def end_time(sde: GaussianSDE, sigma_min: float) -> float:
    """The t where sigma is `sigma_min`; where the process does not go so low, its least noisy time."""
    # A schedule is a formula down to t = 0, below the t_min that suits samplers.
    low = 0.0 if isinstance(sde, ScheduledSDE) else sde.t_min
    target = torch.tensor(sigma_min, dtype=torch.float64)
    if float(sde.sigma(torch.tensor(low, dtype=torch.float64))) >= sigma_min:
        return low
    return float(bisect(sde.sigma, target, low, sde.t_max))
