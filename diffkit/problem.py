"""What a sampler is given: a model, a process, and everything that follows from the two.

A trained network, a pre-trained checkpoint and an exact formula look the same here. Whatever the
model offers, the problem gives posterior mean D, score, noise and velocity, by

    score = (alpha D - x) / sigma^2,   eps = (x - alpha D) / sigma,   dx/dt = alpha' D + sigma' eps.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from diffkit.errors import ConfigError, IncompatibleError
from diffkit.interfaces.conditioner import Conditioner
from diffkit.interfaces.model import Model
from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.tensors import expand, take

__all__ = ["CountedModel", "Formula", "Problem"]


class Formula(Model):
    """A bare callable `(x, t)` as a model: a denoiser, or a score (a force field)."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], offer: str = "denoise") -> None:
        self._function = function
        self.offers = frozenset({offer})
        parameters = function.parameters() if isinstance(function, torch.nn.Module) else iter(())
        first = next(parameters, None)
        self.device = None if first is None else first.device

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self._call("denoise", x, t)

    def score(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self._call("score", x, t)

    def _call(self, offer: str, x: Tensor, t: Tensor) -> Tensor:
        if offer not in self.offers:
            raise self._missing(offer)
        return self._function(x, t if t.ndim == 0 else t.to(x.device))


class CountedModel(Model):
    """A model that counts the rows it is asked about, whoever asks."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.offers = model.offers
        self.classes = model.classes
        self.capabilities = model.capabilities
        self.sde = model.sde
        self.device = model.device
        self.rows = 0

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        self.rows += len(x)
        return self._model.denoise(x, t, label)

    def score(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        self.rows += len(x)
        return self._model.score(x, t, label)

    def energy(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return self._model.energy(x)

    def logits(self, x: Tensor, t: Tensor) -> Tensor:
        return self._model.logits(x, t)


@attrs.frozen(kw_only=True, eq=False)
class Problem:
    """One batch's sampling problem.

    Args:
        model: the model as the conditioners changed it.
        sde: the process.
        times: the run's times, 0-d float64, on the CPU; a last None stands for clean data.
        index: (B,) int64, global sample indices.
        shape: (B, ...), of the state.
        dtype, device: of the state.
        counted: the model handed in, innermost.
        conditioners: those that wrapped it, from the inside out.
        sampler: that moves the state, for conditioners that go by its transitions.
        calls: (B,) int64, forward passes of the model handed in, sample by sample; kept up to date.
        rows: which rows of the whole batch these are; None = all.
    """

    model: Model
    sde: SDE
    times: tuple[Tensor | None, ...]
    index: Tensor
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    counted: CountedModel
    conditioners: tuple[Conditioner, ...] = ()
    sampler: Sampler | None = None
    calls: Tensor
    rows: Tensor | None = None

    @classmethod
    def build(
        cls,
        model: Model,
        sde: SDE,
        times: tuple[Tensor | None, ...],
        index: Tensor,
        state: Tensor,
        conditioners: tuple[Conditioner, ...] = (),
        sampler: Sampler | None = None,
    ) -> Problem:
        """The problem of sampling `state`'s batch, the model wrapped by every conditioner."""
        counted = CountedModel(model)
        bare = cls(
            model=counted,
            sde=sde,
            times=times,
            index=index,
            shape=tuple(state.shape),
            dtype=state.dtype,
            device=state.device,
            counted=counted,
            conditioners=conditioners,
            sampler=sampler,
            calls=torch.zeros(len(state), dtype=torch.int64),
        )
        return bare._wrapped()

    @property
    def gaussian(self) -> GaussianSDE:
        """The process, where it is a Gaussian one."""
        if not isinstance(self.sde, GaussianSDE):
            raise IncompatibleError(
                f"{type(self.sde).__name__} has no alpha_t and sigma_t",
                "a Gaussian process, which this method needs",
                "choose sde vp, sub-vp or ve, or a sampler made for the process",
            )
        return self.sde

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """D(x, t) = E[x_0 | x_t = x]."""
        if "denoise" in self.model.offers:
            return self._counting(lambda: self.model.denoise(x, t), x)
        sde = self.gaussian
        return (x + expand(sde.sigma(t) ** 2, x) * self.score(x, t)) / expand(sde.alpha(t), x)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """grad_x log p_t(x)."""
        if "denoise" in self.model.offers:
            sde = self.gaussian
            mean = expand(sde.alpha(t), x) * self.denoise(x, t)
            return (mean - x) / expand(sde.sigma(t) ** 2, x)
        if "score" in self.model.offers:
            return self._counting(lambda: self.model.score(x, t), x)
        return self._counting(lambda: self._force(x), x)

    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        """The noise that the model sees in x."""
        sde = self.gaussian
        if "denoise" in self.model.offers:
            return (x - expand(sde.alpha(t), x) * self.denoise(x, t)) / expand(sde.sigma(t), x)
        return -expand(sde.sigma(t), x) * self.score(x, t)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """dx/dt along the probability flow: alpha' D + sigma' eps."""
        sde = self.gaussian
        if "denoise" in self.model.offers:
            clean = self.denoise(x, t)
            noise = (x - expand(sde.alpha(t), x) * clean) / expand(sde.sigma(t), x)
            return expand(sde.alpha_dot(t), x) * clean + expand(sde.sigma_dot(t), x) * noise
        return sde.drift(x, t) - 0.5 * expand(sde.diffusion(t) ** 2, x) * self.score(x, t)

    def take(self, rows: Tensor) -> Problem:
        """The problem of some rows, for samplers that move each sample at its own pace."""
        whole = rows if self.rows is None else self.rows[rows]
        part = attrs.evolve(
            self,
            model=self.counted,
            index=take(self.index, rows),
            shape=(len(rows), *self.shape[1:]),
            rows=whole,
        )
        return part._wrapped()

    def _wrapped(self) -> Problem:
        problem = self
        for conditioner in self.conditioners:
            problem = attrs.evolve(problem, model=conditioner.wrap(problem.model, problem))
        return problem

    def _counting(self, call: Callable[[], Tensor], x: Tensor) -> Tensor:
        before = self.counted.rows
        result = call()
        if not isinstance(result, Tensor) or result.shape != x.shape:
            raise ConfigError(
                f"the model gave {_described(result)} for an x of shape {tuple(x.shape)}",
                "a tensor of the shape of x",
                "mend the denoiser (or score): it is called as model(x, t) and answers for every sample",
            )
        result = result.to(x.dtype)  # a float64 t may have promoted it
        passes = (self.counted.rows - before) // len(x)
        if self.rows is None:
            self.calls.add_(passes)
        else:
            self.calls[self.rows.to(self.calls.device)] += passes
        return result

    def _force(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            point = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.model.energy(point).sum(), point)
        return -gradient


def _described(result: object) -> str:
    if isinstance(result, Tensor):
        return f"a tensor of shape {tuple(result.shape)}"
    return f"an object of type {type(result).__name__}"
