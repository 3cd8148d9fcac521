"""The only sampling loop: a generator of steps that the caller can watch, stop and cut into chunks.

Time and the meaning of `steps`: with `stop=None` the result is clean data; n steps are n - 1
intervals from `start` down to the process's t_min, which the sampler makes, and one denoiser call,
which the loop makes, so that no sampler ever meets sigma = 0. With an explicit `stop`, n steps are n
intervals and the result is x at that time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from diffkit import sharding
from diffkit.errors import ConfigError, IncompatibleError, RunError
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.sampling_run import DEFAULT_SAMPLER, Denoiser, SamplingRun, Times
from diffkit.tensors import Device, expand, per_sample_norm

__all__ = ["SampleResult", "SampleStep", "encode", "sample", "sample_steps"]

_CHUNK = 64
_UNDONE, _UNDOING = 1e-4, 100  # how near a clean example is met, relative to its size, and in how many trials


@attrs.frozen(kw_only=True, eq=False)
class SampleStep:
    """One state of the loop.

    Args:
        number: 0 for the start, then the moves made so far.
        total: how many moves the run has.
        t: the time left, None at the start.
        s: the time reached; None = clean.
        x: the state, (B, ...).
        calls: (B,) int64, forward passes so far.
        index: (B,) int64, global sample indices.
    """

    number: int
    total: int
    t: Tensor | None
    s: Tensor | None
    x: Tensor
    calls: Tensor
    index: Tensor


@attrs.frozen(kw_only=True, eq=False)
class SampleResult:
    """What sampling gives.

    Args:
        x: (N, ...) samples.
        nfe: forward passes of the model handed in, for one sample; the largest over samples.
        nfe_per_sample: (N,) int64.
        index: (N,) int64, global sample indices.
        label: (N,) int64, the class each sample was asked for, -1 = none.
        times: the run's times, None = clean.
        trajectory: (moves + 1, N, ...), where asked for, from the start to `x`.
    """

    x: Tensor
    nfe: int
    nfe_per_sample: Tensor
    index: Tensor
    label: Tensor
    times: Times
    trajectory: Tensor | None = None


def sample(
    model: Denoiser | None = None,
    *,
    score: Callable[[Tensor, Tensor], Tensor] | None = None,
    sde: Any = None,
    sampler: Any = DEFAULT_SAMPLER,
    steps: int | None = None,
    shape: Sequence[int] | None = None,
    seed: int = 0,
    x_init: Tensor | None = None,
    grid: Any = None,
    start: float | None = None,
    stop: float | None = None,
    conditioners: Sequence[Any] = (),
    first: int = 0,
    batch_size: int | None = None,
    trajectory: bool = False,
    dtype: torch.dtype | None = None,
    device: Device = None,
    on_step: Callable[[SampleStep], None] | None = None,
) -> SampleResult:
    """Draws samples.

    Args:
        model: a `Model`, or a callable `(x, t) -> x0_hat`.
        score: instead of `model`, a callable `(x, t) -> grad_x log p_t(x)`.
        sde, sampler, grid, conditioners: a name, a mapping or an object each. By default the model's
            own process, `adams`, and the sampler's own grid.
        steps: denoiser calls of a one-call sampler.
        shape: (N, ...) of all samples; by default that of `x_init`.
        seed: of every random number; torch's global generator is neither read nor moved.
        x_init: (N, ...) the state at level `start`, instead of the prior's.
        start, stop: times; by default the process's t_max, and clean.
        first: global index of the first sample.
        batch_size: samples computed together, 64 by default. Work is cut at its multiples of the global
            index and dealt to the processes of a running `torch.distributed` group; every process
            returns the whole.
        trajectory: keep the state after every move.
        dtype, device: of the samples; by default those of `x_init`, else torch's and the model's.
        on_step: called with every `SampleStep` of every chunk this process computes.

    Raises:
        ComponentError, ConfigError: an unknown component or a value out of range.
        IncompatibleError: a combination that cannot work, with the reason and the remedy.
    """
    run = SamplingRun.build(
        model, score, sde, sampler, steps, grid, start, stop, conditioners, seed, x_init, dtype, device
    )
    whole = _whole_shape(shape, x_init, run)
    index = torch.arange(first, first + whole[0])
    size = _CHUNK if batch_size is None else batch_size
    if size < 1:
        raise ConfigError(f"batch_size is {size}", "at least 1 sample computed together")
    states = len(run.moves()[0]) + 1 if trajectory else 0
    x = torch.empty(whole, dtype=run.dtype, device=run.device)
    path = torch.empty((whole[0], states, *whole[1:]), dtype=run.dtype, device=run.device)
    calls = torch.empty(whole[0], dtype=torch.int64, device=run.device)
    cuts = sharding.chunks(first, whole[0], size)
    for cut in sharding.own(cuts):
        for step in _loop(run, index[cut], whole[1:], None if x_init is None else x_init[cut]):
            if trajectory:
                path[cut, step.number] = step.x
            if on_step is not None:
                on_step(step)
        x[cut], calls[cut] = step.x, step.calls
    for computed in (x, path, calls):
        sharding.share(computed, cuts)
    return SampleResult(
        x=x,
        nfe=int(calls.max()),
        nfe_per_sample=calls.cpu(),
        index=index,
        label=run.labels(index),
        times=run.times,
        trajectory=path.transpose(0, 1) if trajectory else None,
    )


def sample_steps(
    model: Denoiser | None = None,
    *,
    score: Callable[[Tensor, Tensor], Tensor] | None = None,
    sde: Any = None,
    sampler: Any = DEFAULT_SAMPLER,
    steps: int | None = None,
    shape: Sequence[int] | None = None,
    seed: int = 0,
    x_init: Tensor | None = None,
    grid: Any = None,
    start: float | None = None,
    stop: float | None = None,
    conditioners: Sequence[Any] = (),
    first: int = 0,
    dtype: torch.dtype | None = None,
    device: Device = None,
) -> Iterator[SampleStep]:
    """The loop itself, on one batch: the start, then the state after every move. As `sample`."""
    run = SamplingRun.build(
        model, score, sde, sampler, steps, grid, start, stop, conditioners, seed, x_init, dtype, device
    )
    whole = _whole_shape(shape, x_init, run)
    return _loop(run, torch.arange(first, first + whole[0]), whole[1:], x_init)


@torch.no_grad()
def encode(
    model: Denoiser | None = None,
    *,
    score: Callable[[Tensor, Tensor], Tensor] | None = None,
    sde: Any = None,
    x: Tensor,
    sampler: Any = DEFAULT_SAMPLER,
    steps: int | None = None,
    grid: Any = None,
    start: float | None = None,
    stop: float | None = None,
    conditioners: Sequence[Any] = (),
    first: int = 0,
) -> Tensor:
    """Data to noise along the probability flow: `sample(x_init=encode(x))` gives x back.

    Args:
        x: (N, ...) clean data, or the state at level `start` where that is given.
        start, stop: times, start < stop; by default clean, and the process's t_max.
        first: global index of the first sample, for conditioners that go by it.
        Others as for `sample`; the sampler must be deterministic.

    Raises:
        RunError: clean data that the model's last denoising cannot give, to 1e-4 of their size.
        And as `sample`.
    """
    run = SamplingRun.build(
        model, score, sde, sampler, steps, grid, stop, start, conditioners, 0, x, None, None
    )
    if run.sampler.stochastic:
        raise IncompatibleError(
            f"{type(run.sampler).__name__} draws noise in every step",
            "a deterministic sampler, whose path can be followed back",
            "use adams, ddim, dpm-solver++, exponential-integrator or probability-flow without noise",
        )
    upwards = [time for time in reversed(run.times) if time is not None]
    index, x = torch.arange(first, first + len(x)), x.to(run.device)
    problem = Problem.build(run.model, run.sde, tuple(upwards), index, x, run.conditioners)
    if start is None:
        x = _undo_final_denoise(problem, x, upwards[0])
    noise = Noise(seed=0, index=index)
    carry = None
    for t, s in itertools.pairwise(upwards):
        x, carry = run.sampler.step(problem, x, t, s, carry, noise)
    return x


@torch.no_grad()
def _loop(
    run: SamplingRun, index: Tensor, shape: Sequence[int], x_init: Tensor | None
) -> Iterator[SampleStep]:
    noise = Noise(seed=run.seed, index=index)
    if run.particles > 1:
        noise = noise.split(run.particles)
    if x_init is None:
        x = run.sde.prior((len(noise.index), *shape), noise.stream("prior"), run.dtype, run.device)
    else:
        x = x_init.repeat_interleave(run.particles, dim=0) if run.particles > 1 else x_init
    x = x.to(dtype=run.dtype, device=run.device)
    problem = Problem.build(run.model, run.sde, run.times, noise.index, x, run.conditioners, run.sampler)
    moves, owner = run.moves()
    memories: list[Any] = [None] * len(run.conditioners)

    def conditioned(
        number: int, t: Tensor | None, s: Tensor | None, x_t: Tensor | None, x_s: Tensor
    ) -> Tensor:
        for place, conditioner in enumerate(run.conditioners):
            stream = noise.stream("conditioner", place, number)
            x_s, memories[place] = conditioner.after_step(problem, x_t, x_s, t, s, memories[place], stream)
        return x_s

    def told(number: int, t: Tensor | None, s: Tensor | None, x: Tensor) -> SampleStep:
        """The state as it is told: of each sample its first particle, with the calls of all."""
        calls = problem.calls.reshape(-1, run.particles).sum(1)
        x = x[:: run.particles]
        return SampleStep(number=number, total=len(moves), t=t, s=s, x=x, calls=calls, index=index)

    x = conditioned(0, None, run.times[0], None, x)
    yield told(0, None, run.times[0], x)
    carry: Any = None
    for number, (origin, target) in enumerate(moves, start=1):
        t, s = run.times[origin], run.times[target]
        assert t is not None  # no move starts from clean data
        if target < origin:
            assert s is not None
            assert owner is not None
            x, carry = _renoised(problem, x, t, s, noise.stream("conditioner", owner, "up", number)), None
        else:
            x_t = x
            if s is None:
                x = problem.denoise(x_t, t)
            else:
                x, carry = run.sampler.step(problem, x_t, t, s, carry, noise.stream("sampler", number))
            bent = conditioned(number, t, s, x_t, x)
            x, carry = bent, carry if bent is x else None
        yield told(number, t, s, x)


def _renoised(problem: Problem, x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
    """From the less noisy t up to s: x_s = (alpha_s / alpha_t) x_t + sigma_{s|t} z."""
    factor, deviation = problem.gaussian.transition(s, t)
    return expand(factor, x) * x + expand(deviation, x) * noise.normal_like(x)


def _undo_final_denoise(problem: Problem, x_0: Tensor, t: Tensor) -> Tensor:
    """The x with D(x, t) = x_0, by the iteration x <- x + alpha_t (x_0 - D(x, t)), sample by sample."""
    alpha_t, size = expand(problem.gaussian.alpha(t), x_0), math.sqrt(x_0[0].numel())
    least = size * float(problem.gaussian.sigma(t))
    tolerance = _UNDONE * per_sample_norm(x_0).clamp(min=least)
    x, off = alpha_t * x_0, torch.full_like(tolerance, torch.inf)
    for _ in range(_UNDOING):
        missing, before = x_0 - problem.denoise(x, t), off
        off = per_sample_norm(missing)
        # Near enough, it goes on while it still comes much nearer.
        unfinished = ~((off <= tolerance) & ((off <= 1e-2 * tolerance) | (off > 0.5 * before)))
        if not bool(unfinished.any()):
            return x
        x = x + expand(unfinished.to(x.dtype), x) * alpha_t * missing
    far = float((off / size).max())
    raise RunError(
        f"{int(unfinished.sum())} of {len(x)} examples cannot be encoded: after {_UNDOING} iterations, what "
        f"should be denoised to them ends up to {far:.2g} (root mean square) away",
        "examples that the model could have made",
        "Give examples like those it was trained on, drop a strong guidance, or encode from a level: "
        "x=renoise(x, sde=..., t=t), start=t",
    )


def _whole_shape(shape: Sequence[int] | None, x_init: Tensor | None, run: SamplingRun) -> tuple[int, ...]:
    if shape is None and x_init is None:
        raise ConfigError("neither shape nor x_init was given", "shape=(N, ...), all samples together")
    whole = tuple(x_init.shape) if shape is None and x_init is not None else tuple(shape or ())
    if x_init is not None and whole != tuple(x_init.shape):
        raise ConfigError(f"shape is {whole} and x_init has {tuple(x_init.shape)}", "the same shape twice")
    if not whole or whole[0] < 1:
        raise ConfigError(f"shape is {whole}", "a shape (N, ...) with at least one sample")
    return whole
