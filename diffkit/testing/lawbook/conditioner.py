"""The laws of a conditioner, tried on samples of shape (1, 8, 8) with an exact model of three classes.

What it takes from a data set it takes from three examples of that shape. That an approximate one bends
samples to nearly the right law is its own business: held against an exact posterior in its tests.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, cast, final

import attrs
import torch
from torch import Tensor

from diffkit import registry
from diffkit.interfaces.conditioner import Conditioner
from diffkit.interfaces.dataset import Dataset, DataSpec, Examples, SplitName
from diffkit.interfaces.sde import GaussianSDE
from diffkit.noise import Noise
from diffkit.problem import Problem
from diffkit.sampling import SampleResult, sample
from diffkit.structure import settings
from diffkit.testing.exact import LabelledModel
from diffkit.testing.lawbook.base import Law, NotApplicable, book_of, ensure, ensure_close
from diffkit.testing.lawbook.partners import flat_mixture, processes_for

__all__ = ["LAWS"]

_SHAPE = (1, 8, 8)
_STEPS = 5
_SAMPLER = {"name": "ddim", "eta": 1.0}
"""A Gaussian transition in every step, which no conditioner refuses."""


def _model(sde: GaussianSDE) -> LabelledModel:
    return LabelledModel(problem=flat_mixture(64), sde=sde)


def _state(
    sde: GaussianSDE, particles: int = 1, dtype: torch.dtype = torch.float64
) -> tuple[Problem, Tensor, Tensor]:
    """A bare problem of four samples, a time in the middle, and a state at that time."""
    index = torch.arange(4).repeat_interleave(particles)
    t = torch.tensor(0.5 * (sde.t_min + sde.t_max), dtype=torch.float64)
    x = (
        flat_mixture(64)
        .draw_at(sde, t, Noise(seed=0, index=torch.arange(4)).split(particles), _SHAPE)
        .to(dtype)
    )
    times = (
        torch.tensor(sde.t_max, dtype=torch.float64),
        t,
        torch.tensor(sde.t_min, dtype=torch.float64),
        None,
    )
    sampler = registry.create("sampler", _SAMPLER)
    return Problem.build(_model(sde), sde, times, index, x, sampler=sampler), x, t


@final
@attrs.frozen(kw_only=True)
class _Three(Dataset):
    """Three draws from the law that the model knows."""

    def spec(self) -> DataSpec:
        return DataSpec(shape=_SHAPE, classes=3)

    def load(self, split: SplitName) -> Examples:
        raw = flat_mixture(64).draw(Noise(seed=11, index=torch.arange(3)), _SHAPE)
        return Examples(raw=raw, label=torch.arange(3))


def _sampled(conditioner: Conditioner, *, seed: int = 0, batch_size: int = 64) -> SampleResult:
    _, sde = processes_for(conditioner)[0]
    return sample(
        _model(sde),
        sampler=_SAMPLER,
        steps=_STEPS,
        shape=(6, *_SHAPE),
        seed=seed,
        conditioners=[conditioner],
        batch_size=batch_size,
        dtype=torch.float64,
    )


def _on_prepared(law: Law) -> Callable[[Conditioner], None]:
    """The law's check, on a conditioner that has had what it takes from the data set."""
    return lambda conditioner: law.check(conditioner.prepared(_Three()))


def model_kept(conditioner: Conditioner) -> None:
    """wrap(model) offers what the model can give, finite, in the shape and dtype of x, t 0-d or (B,)."""
    for name, sde in processes_for(conditioner):
        for dtype in (torch.float32, torch.float64):
            problem, x, t = _state(sde, dtype=dtype)
            wrapped = conditioner.wrap(problem.model, problem)
            added = wrapped.offers - problem.model.offers - {"denoise", "score"}
            ensure(not added, f"on {name} the wrapped model claims {sorted(added)}")
            for time in (t, t.expand(len(x))):
                for offer in sorted(wrapped.offers & {"denoise", "score"}):
                    result = wrapped.denoise(x, time) if offer == "denoise" else wrapped.score(x, time)
                    ensure(
                        result.shape == x.shape and result.dtype == dtype,
                        f"on {name}, {offer} of {dtype} {tuple(x.shape)} is {result.dtype} "
                        f"{tuple(result.shape)}",
                    )
                    ensure(result.isfinite().all(), f"on {name}, {offer} is not finite")


def after_step_is_pure(conditioner: Conditioner) -> None:
    """after_step keeps shape and dtype, writes to none of its arguments, and is a function of them alone."""
    for name, sde in processes_for(conditioner):
        problem, x_t, t = _state(sde, conditioner.particles)
        stop = torch.tensor(sde.t_min, dtype=torch.float64)
        noise = Noise(seed=1, index=torch.arange(4)).split(conditioner.particles)
        _, memory = conditioner.after_step(problem, None, x_t, None, t, None, noise.stream("start"))
        x_s = 0.9 * x_t
        kept = x_t.clone(), x_s.clone()
        for s in (stop, None):
            first, _ = conditioner.after_step(problem, x_t, x_s, t, s, memory, noise)
            again, _ = conditioner.after_step(problem, x_t, x_s, t, s, memory, noise)
            ensure(torch.equal(first, again), f"on {name} two calls differ")
            ensure(
                first.shape == x_s.shape and first.dtype == x_s.dtype,
                f"on {name} it gave {first.dtype} {tuple(first.shape)}",
            )
        same = torch.equal(kept[0], x_t) and torch.equal(kept[1], x_s)
        ensure(same, f"on {name} it wrote to a state that it was given")


def plan_is_a_path(conditioner: Conditioner) -> None:
    """Moves start at position 0, end at the last, join end to start, never stay, nor leave clean data."""
    for count in (1, 2, 5, 30):
        noisy = torch.linspace(1.0, 0.01, count, dtype=torch.float64)
        for times in ((*noisy,), (*noisy, None)):
            if len(times) < 2:
                continue
            moves = list(conditioner.plan(times))
            ensure(len(moves) > 0, f"there is no move among {len(times)} times")
            ensure(moves[0][0] == 0, f"it starts at position {moves[0][0]}")
            ensure(moves[-1][1] == len(times) - 1, f"it ends at position {moves[-1][1]} of {len(times)}")
            for (_, end), (begin, _) in itertools.pairwise(moves):
                ensure(end == begin, f"a move ends at {end} and the next starts at {begin}")
            for begin, end in moves:
                inside = 0 <= begin < len(times) and 0 <= end < len(times) and begin != end
                ensure(inside, f"there is a move from {begin} to {end} among {len(times)} times")
                ensure(times[begin] is not None, "a move starts from clean data")


def labels_in_range(conditioner: Conditioner) -> None:
    """labels(index, K) is None or (B,) int64 in [-1, K), and depends on each index alone."""
    index = torch.arange(100, 112)
    labels = conditioner.labels(index, 3)
    if labels is None:
        return
    ensure(
        labels.shape == index.shape and labels.dtype == torch.int64,
        f"it is {labels.dtype} {tuple(labels.shape)}",
    )
    ensure(((labels >= -1) & (labels < 3)).all(), f"labels are {labels.tolist()}, of 3 classes")
    alone = conditioner.labels(index[5:6], 3)
    ensure(alone is not None and torch.equal(alone, labels[5:6]), "a sample alone is asked for another class")


def declarations(conditioner: Conditioner) -> None:
    """exactness is exact, asymptotic or approximate, and particles at least 1."""
    known = ("exact", "asymptotic", "approximate")
    ensure(conditioner.exactness in known, f"exactness is {conditioner.exactness!r}")
    ensure(conditioner.particles >= 1, f"particles is {conditioner.particles}")


def seeded(conditioner: Conditioner) -> None:
    """A run is a function of its seed: same bits again, torch's global generator neither read nor moved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = _sampled(conditioner).x
        ensure(torch.equal(before, torch.get_rng_state()), "the global generator was moved")
        torch.manual_seed(2)
        ensure(torch.equal(first, _sampled(conditioner).x), "two runs of one seed differ")


def batch_invariance(conditioner: Conditioner) -> None:
    """Sample i of a batch is sample i alone, to 1e-9 in float64; its label too."""
    whole, alone = _sampled(conditioner), _sampled(conditioner, batch_size=1)
    ensure_close(alone.x, whole.x, 1e-9 * (1.0 + whole.x.abs()), "a sample computed alone")
    ensure(torch.equal(alone.label, whole.label), "a label differs")


def honest_nfe(conditioner: Conditioner) -> None:
    """result.nfe_per_sample adds up to the forward passes that the model itself counts."""
    for name, sde in processes_for(conditioner):
        model = _model(sde)
        result = sample(
            model,
            sampler=_SAMPLER,
            steps=_STEPS,
            shape=(3, *_SHAPE),
            conditioners=[conditioner],
            dtype=torch.float64,
        )
        total = int(result.nfe_per_sample.sum())
        ensure(total == model.passes, f"on {name} {total} were reported, {model.passes} were made")


def zero_strength(conditioner: Conditioner) -> None:
    """With strength 0 (or a scale of 0) samples are those of no conditioner, bit by bit."""
    known = settings(type(conditioner)).keys()
    fields = {"strength", "scale"} & known
    if not fields:
        raise NotApplicable("it has no field `strength` or `scale`")
    changes: dict[str, Any] = dict.fromkeys(fields, 0.0) | ({"interval": None} if "interval" in known else {})
    off: Conditioner = attrs.evolve(cast("Any", conditioner), **changes)
    for name, sde in processes_for(conditioner):
        given: dict[str, Any] = {
            "sampler": _SAMPLER,
            "steps": _STEPS,
            "shape": (3, *_SHAPE),
            "dtype": torch.float64,
        }
        plain, bent = sample(_model(sde), **given), sample(_model(sde), conditioners=[off], **given)
        ensure(torch.equal(plain.x, bent.x), f"on {name} samples differ from those without it")


def exact_where_declared(conditioner: Conditioner) -> None:
    """Where exactness is `exact`, the wrapped D is E[x_0 | x_t, class asked for], or E[x_0 | x_t] of all."""
    if conditioner.exactness != "exact":
        raise NotApplicable(f"it declares itself {conditioner.exactness}")
    for name, sde in processes_for(conditioner):
        problem, x, t = _state(sde)
        wrapped, asked = conditioner.wrap(problem.model, problem), conditioner.labels(problem.index, 3)
        ensure("denoise" in wrapped.offers, f"on {name} the wrapped model gives no denoiser")
        got = wrapped.denoise(x, t)
        whole = (got - _model(sde).denoise(x, t)).abs().max()
        classes = whole if asked is None else (got - _model(sde).denoise(x, t, asked)).abs().max()
        off = float(torch.minimum(whole, classes))
        ensure(off <= 1e-9, f"on {name} it is {off:.3g} away from both")


LAWS = tuple(
    attrs.evolve(law, check=_on_prepared(law))
    for law in book_of(
        "conditioner",
        model_kept,
        after_step_is_pure,
        plan_is_a_path,
        labels_in_range,
        declarations,
        seeded,
        batch_invariance,
        honest_nfe,
        zero_strength,
        exact_where_declared,
    )
)
