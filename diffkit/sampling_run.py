"""A sampling run before its first step: components made and checked, times and moves laid out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from diffkit import compatibility, registry
from diffkit.errors import ConfigError, IncompatibleError
from diffkit.interfaces.conditioner import Conditioner, Move
from diffkit.interfaces.grid import Grid
from diffkit.interfaces.model import Model
from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.sde import SDE, GaussianSDE
from diffkit.problem import Formula
from diffkit.tensors import Device

__all__ = ["DEFAULT_SAMPLER", "Denoiser", "SamplingRun", "Times", "as_model", "process_of"]

Denoiser = Model | Callable[[Tensor, Tensor], Tensor]
Times = tuple[Tensor | None, ...]

DEFAULT_SAMPLER = "adams"


@attrs.frozen(kw_only=True, eq=False)
class SamplingRun:
    """Everything a chunk needs, checked."""

    model: Model
    sde: SDE
    sampler: Sampler
    times: Times
    conditioners: tuple[Conditioner, ...]
    seed: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def build(
        cls,
        model: Denoiser | None,
        score: Callable[[Tensor, Tensor], Tensor] | None,
        sde: Any,
        sampler: Any,
        steps: int | None,
        grid: Any,
        start: float | None,
        stop: float | None,
        conditioners: Sequence[Any],
        seed: int,
        x_init: Tensor | None,
        dtype: torch.dtype | None,
        device: Device,
    ) -> SamplingRun:
        known = as_model(model, score)
        process: SDE = process_of(known, sde)
        method: Sampler = registry.create("sampler", sampler)
        placement: Grid = registry.create("grid", method.default_grid if grid is None else grid)
        several = isinstance(conditioners, Sequence) and not isinstance(conditioners, str)
        listed = conditioners if several else (conditioners,)
        bends = tuple(registry.create("conditioner", each) for each in listed)
        chosen = (process, method, placement, *bends)
        compatibility.require(
            compatibility.Selection.of(*chosen, model=known.provides, steps=steps, classes=known.classes)
        )
        if start is not None and x_init is None:
            raise ConfigError(
                f"start={start} was given without x_init",
                "the state at that level, (N, ...)",
                "pass x_init=sde.perturb(x_0, t, eps), or leave start out to begin at the prior",
            )
        if x_init is not None:
            dtype, device = dtype or x_init.dtype, device or known.device or x_init.device
        return cls(
            model=known,
            sde=process,
            sampler=method,
            times=_times(process, method, placement, steps, start, stop),
            conditioners=bends,
            seed=seed,
            dtype=dtype or torch.get_default_dtype(),
            device=torch.device(device or known.device or "cpu"),
        )

    @property
    def particles(self) -> int:
        return math.prod(conditioner.particles for conditioner in self.conditioners)

    def labels(self, index: Tensor) -> Tensor:
        """(N,) the class each sample is asked for; the last conditioner that asks decides."""
        result = torch.full_like(index, -1)
        for conditioner in self.conditioners:
            asked = conditioner.labels(index, self.model.classes)
            result = result if asked is None else asked
        return result

    def moves(self) -> tuple[Sequence[Move], int | None]:
        """The moves, and which conditioner's plan they are (None = nobody changed it)."""
        natural = list(itertools.pairwise(range(len(self.times))))
        planned, owner = natural, None
        for number, conditioner in enumerate(self.conditioners):
            plan = [(origin, target) for origin, target in conditioner.plan(self.times)]
            if plan != natural:
                if owner is not None:
                    raise IncompatibleError(
                        f"{type(self.conditioners[owner]).__name__} and {type(conditioner).__name__} "
                        "both change the order of the steps",
                        "at most one conditioner of a run that does",
                        "leave one of them out",
                    )
                planned, owner = plan, number
        return planned, owner


def as_model(model: Denoiser | None, score: Callable[[Tensor, Tensor], Tensor] | None) -> Model:
    """A denoiser or a score, whichever is given, as a model."""
    if (model is None) == (score is None):
        given = "both a model and a score were" if score is not None else "neither a model nor a score was"
        raise ConfigError(
            f"{given} given",
            "exactly one of them",
            "pass a denoiser `(x, t) -> x0_hat` first, or score= a function `(x, t) -> grad log p_t(x)`",
        )
    if score is not None:
        return Formula(score, "score")
    if isinstance(model, Model):
        return model
    if not callable(model):
        raise ConfigError(f"{type(model).__name__} is not a model", "a Model, or a callable (x, t) -> x0_hat")
    return Formula(model)


def process_of(model: Model, sde: Any) -> SDE:
    """The process by name, mapping or object, or the model's own; of the two, both must be the same."""
    own = model.sde
    if sde is None:
        if own is None:
            raise ConfigError(
                "no process was given, and the model does not bring its own",
                "the process the model was made for",
                'pass sde="vp" or another one listed by `diffkit list sde`',
            )
        return own
    process: SDE = registry.create("sde", sde)
    if own is not None and process != own:
        raise IncompatibleError(
            f"the model was trained on {own} and cannot be sampled with {process}",
            "one process in training and in sampling: the network has learnt its noise levels",
            "leave sde= out, or train a model on the other process",
        )
    return process


def _times(
    sde: SDE, sampler: Sampler, grid: Grid, steps: int | None, start: float | None, stop: float | None
) -> Times:
    begin = sde.t_max if start is None else float(start)
    end = sde.t_min if stop is None else float(stop)
    if not sde.t_min <= end <= begin <= sde.t_max or (begin == end and stop is not None):
        raise ConfigError(
            f"sampling was asked to go from t = {begin:g} to t = {end:g}",
            f"t_max = {sde.t_max:g} >= start > stop >= t_min = {sde.t_min:g} for {type(sde).__name__}",
            "choose start and stop inside the process's range",
        )
    if steps is not None and (not isinstance(steps, int) or steps < 1):
        raise ConfigError(f"steps is {steps}", "a whole number, at least one step")
    clean = stop is None and isinstance(sde, GaussianSDE)
    intervals = (sampler.default_steps if steps is None else steps) - clean
    if steps is None and sampler.adaptive:
        intervals = 1
    if intervals == 0 or begin == end:
        return (torch.tensor(begin, dtype=torch.float64), None)
    placed = grid.times(sde, intervals, begin, end).to(dtype=torch.float64, device="cpu")
    return (*placed.unbind(), None) if clean else placed.unbind()
