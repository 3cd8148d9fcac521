"""A sampler is a pure function: of its state, its carry and its noise, and of nothing else."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import torch
from torch import Tensor

from diffkit.interfaces.model import Model
from diffkit.interfaces.sampler import Sampler
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.sampling import SampleResult, SampleStep, sample, sample_steps
from diffkit.testing.impulses import Impulses
from diffkit.testing.lawbook.base import NotApplicable, ensure, ensure_close
from diffkit.testing.lawbook.partners import Watched, exact_model, flat_mixture, partners_for

__all__ = [
    "batch_invariance",
    "deterministic_means_seedless",
    "global_random_state",
    "honest_nfe",
    "input_untouched",
    "reentrant",
    "same_seed_same_bits",
    "shapes_and_dtypes",
    "thread_safe",
    "transition_is_the_step",
]

_STEPS = 6


def _sampled(
    sampler: Sampler,
    *,
    shape: tuple[int, ...] = (4, 3),
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    batch_size: int | None = None,
    x_init: Tensor | None = None,
    on_step: Callable[[SampleStep], None] | None = None,
) -> SampleResult:
    _, sde = partners_for(sampler)[0]
    model = exact_model(flat_mixture(int(torch.tensor(shape[1:]).prod())), sde)
    steps = None if sampler.adaptive else _STEPS
    return sample(
        model,
        sampler=sampler,
        steps=steps,
        shape=shape,
        seed=seed,
        dtype=dtype,
        batch_size=batch_size,
        x_init=x_init,
        on_step=on_step,
    )


def input_untouched(sampler: Sampler) -> None:
    """step(x) does not write to x, nor to the carry it was given."""
    for _, sde in partners_for(sampler):
        start = torch.linspace(sde.t_max, 0.5 * (sde.t_min + sde.t_max), 5, dtype=torch.float64)
        noise = Noise(seed=0, index=torch.arange(4))
        x = noise.stream("x").normal((4, 3), dtype=torch.float64)
        problem = Problem.build(exact_model(flat_mixture(3), sde), sde, start.unbind(), noise.index, x)
        carry, kept = None, []
        for number in range(4):
            kept += [(tensor, tensor.clone()) for tensor in (x, *_tensors(carry))]
            x, carry = sampler.step(problem, x, start[number], start[number + 1], carry, noise.stream(number))
        ensure(
            all(torch.equal(now, before) for now, before in kept), "a state changed after it was handed in"
        )


def _tensors(carry: Any) -> Iterator[Tensor]:
    """Every tensor in a carry, at any depth."""
    if isinstance(carry, Tensor):
        yield carry
    elif isinstance(carry, Mapping):
        yield from _tensors(tuple(carry.values()))
    elif isinstance(carry, (tuple, list)):
        for each in carry:
            yield from _tensors(each)
    elif attrs.has(type(carry)):
        yield from _tensors(tuple(getattr(carry, field.name) for field in attrs.fields(type(carry))))


def global_random_state(sampler: Sampler) -> None:
    """Torch's global generator is neither read nor moved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = _sampled(sampler).x
        ensure(torch.equal(before, torch.get_rng_state()), "the global generator was moved")
        torch.manual_seed(2)
        ensure(torch.equal(first, _sampled(sampler).x), "the global generator was read")


def same_seed_same_bits(sampler: Sampler) -> None:
    """x(seed) = x(seed), bit by bit; other seeds give other samples."""
    first, again, other = (_sampled(sampler, seed=seed).x for seed in (5, 5, 6))
    ensure(torch.equal(first, again), f"two runs differ by {float((first - again).abs().max()):.3g}")
    ensure(not torch.equal(first, other), "two seeds gave the same samples")


def deterministic_means_seedless(sampler: Sampler) -> None:
    """Declared deterministic: from one x_init, every seed gives the same bits; declared stochastic: not."""
    x_init = torch.linspace(-1.0, 1.0, 12, dtype=torch.float64).reshape(4, 3)
    first, other = (_sampled(sampler, seed=seed, x_init=x_init).x for seed in (5, 6))
    same = torch.equal(first, other)
    ensure(same != sampler.stochastic, f"stochastic is {sampler.stochastic}, and two seeds agree: {same}")
    declared = "sampler.stochastic" if sampler.stochastic else "sampler.deterministic"
    pace = "sampler.adaptive" if sampler.adaptive else "sampler.fixed-steps"
    for capability in (declared, pace):
        ensure(capability in sampler.provides, f"{capability} is missing from what it provides")


def batch_invariance(sampler: Sampler) -> None:
    """Sample i of a batch of 64 is sample i alone, to 1e-9 in float64."""
    whole = _sampled(sampler, shape=(12, 3), batch_size=64).x
    alone = _sampled(sampler, shape=(12, 3), batch_size=1).x
    ensure_close(alone, whole, 1e-9 * (1.0 + whole.abs()), "a sample computed alone")


def reentrant(sampler: Sampler) -> None:
    """One object serves two runs at once: interleaved, they give what each gives by itself."""
    _, sde = partners_for(sampler)[0]
    model = exact_model(flat_mixture(3), sde)
    steps = None if sampler.adaptive else _STEPS

    def run(seed: int) -> list[Tensor]:
        return [step.x for step in sample_steps(model, sampler=sampler, steps=steps, shape=(4, 3), seed=seed)]

    alone = [run(seed)[-1] for seed in (1, 2)]
    pair = [sample_steps(model, sampler=sampler, steps=steps, shape=(4, 3), seed=seed) for seed in (1, 2)]
    together = list(zip(*pair, strict=True))[-1]
    for expected, step in zip(alone, together, strict=True):
        ensure(torch.equal(expected, step.x), "a run differs when another one is interleaved with it")


def thread_safe(sampler: Sampler) -> None:
    """One object serves two threads that meet at every call of the model: each gives what it gives alone."""
    _, sde = partners_for(sampler)[0]
    model = exact_model(flat_mixture(3), sde)
    steps = None if sampler.adaptive else _STEPS
    meeting = threading.Barrier(2, timeout=10.0)

    def meet() -> None:
        with contextlib.suppress(threading.BrokenBarrierError):  # the other one is done
            meeting.wait()

    def run(given: Model, seed: int) -> Tensor:
        try:
            return sample(given, sampler=sampler, steps=steps, shape=(4, 3), seed=seed).x
        finally:
            meeting.abort()

    alone = [run(model, seed) for seed in (1, 2)]
    meeting.reset()
    watched = Watched(model, called=meet)
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(contextvars.copy_context().run, run, watched, seed) for seed in (1, 2)]
        together = [job.result() for job in jobs]
    for expected, x in zip(alone, together, strict=True):
        ensure(torch.equal(expected, x), "a run differs when another thread uses the object meanwhile")


def honest_nfe(sampler: Sampler) -> None:
    """result.nfe = the forward passes that the model itself counts, one sample at a time."""
    for name, sde in partners_for(sampler):
        model = Watched(exact_model(flat_mixture(3), sde))
        steps = None if sampler.adaptive else _STEPS
        result = sample(model, sampler=sampler, steps=steps, shape=(1, 3), dtype=torch.float64)
        ensure(result.nfe == model.passes, f"on {name} {result.nfe} were reported, {model.passes} were made")
        model = Watched(exact_model(flat_mixture(3), sde))
        result = sample(model, sampler=sampler, steps=steps, shape=(5, 3), dtype=torch.float64)
        total = int(result.nfe_per_sample.sum())
        ensure(total == model.passes, f"on {name} a batch reported {total} in all, {model.passes} were made")


def shapes_and_dtypes(sampler: Sampler) -> None:
    """Samples of any rank, (2,), (1, 64), (3, 4, 4), in float32 and float64, come out finite and as asked
    for; float32 agrees with float64."""
    for inner in ((2,), (1, 64), (3, 4, 4)):
        for dtype in (torch.float32, torch.float64):
            steps: list[SampleStep] = []
            x = _sampled(sampler, shape=(2, *inner), dtype=dtype, on_step=steps.append).x
            seen = {step.x.dtype for step in steps}
            ensure(seen == {dtype}, f"asked for {dtype}, steps gave {', '.join(map(str, seen))}")
            what = f"{x.dtype} of {tuple(x.shape)}, asked for {dtype} of {(2, *inner)}"
            ensure(x.dtype == dtype and x.shape == (2, *inner), f"it gave {what}")
            ensure(x.isfinite().all(), f"samples are not finite: {what}")
    single, double = (_sampled(sampler, dtype=dtype).x for dtype in (torch.float32, torch.float64))
    ensure_close(single, double, 2e-3 * (1.0 + double.abs()), "a float32 sample")


def transition_is_the_step(sampler: Sampler) -> None:
    """x_s = mean + deviation z, with mean and deviation as `transition` gives them."""
    if "sampler.transition" not in sampler.provides:
        raise NotApplicable("its step is not declared to be one Gaussian transition")
    for name, sde in partners_for(sampler):
        times = torch.linspace(sde.t_max, 0.5 * (sde.t_min + sde.t_max), 4, dtype=torch.float64)
        index = torch.arange(2)
        x = Noise(seed=0, index=index).normal((2, 3), dtype=torch.float64)
        problem = Problem.build(exact_model(flat_mixture(3), sde), sde, times.unbind(), index, x)
        carry = None
        for number in range(3):
            t, s = times[number], times[number + 1]
            mean, deviation = sampler.transition(problem, x, t, s, carry)
            noise = Noise(seed=1, index=index).stream(number)
            moved, new_carry = sampler.step(problem, x, t, s, carry, noise)
            still, _ = sampler.step(problem, x, t, s, carry, Impulses(seed=0, index=index))
            what = f"on {name}, step {number + 1}"
            ensure_close(still, mean, 1e-9 * (1.0 + mean.abs()), f"{what}: the step without noise")
            spread = (moved - mean) / noise.normal_like(x) if bool((deviation > 0).any()) else 0.0 * x
            wide = deviation.reshape(-1, 1).expand_as(x) if deviation.ndim else deviation.expand_as(x)
            ensure_close(spread, wide, 1e-6 * (1.0 + wide.abs()), f"{what}: the noise's factor")
            x, carry = moved, new_carry
