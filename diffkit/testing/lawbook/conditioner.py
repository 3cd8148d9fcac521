"""The laws of a conditioner, tried on samples of shape (1, 8, 8) with an exact model of three classes.

What it takes from a data set it takes from three examples of that shape. That an approximate one bends
samples to nearly the right law is its own business: held against an exact posterior in its tests.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, cast, final

import attrs
import numpy as np
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
    sde: GaussianSDE, particles: int = 1, dtype: torch.dtype = torch.float64, count: int = 4
) -> tuple[Problem, Tensor, Tensor]:
    """A bare problem of `count` samples, a time in the middle, and a state at that time."""
    index = torch.arange(count).repeat_interleave(particles)
    t = torch.tensor(0.5 * (sde.t_min + sde.t_max), dtype=torch.float64)
    x = (
        flat_mixture(64)
        .draw_at(sde, t, Noise(seed=0, index=torch.arange(count)).split(particles), _SHAPE)
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


def _ends(sde: GaussianSDE, *conditioners: Conditioner) -> SampleResult:
    """Enough samples that each of three classes is asked for several times."""
    return sample(
        _model(sde),
        sampler=_SAMPLER,
        steps=_STEPS,
        shape=(24, *_SHAPE),
        conditioners=conditioners,
        dtype=torch.float64,
    )


def _at_strength(conditioner: Conditioner, value: float) -> Conditioner | None:
    """The conditioner at another strength, at all times; None where it has no such field."""
    known = settings(type(conditioner)).keys()
    fields = {"strength", "scale"} & known
    if not fields:
        return None
    changes: dict[str, Any] = dict.fromkeys(fields, value) | (
        {"interval": None} if "interval" in known else {}
    )
    changed: Conditioner = attrs.evolve(cast("Any", conditioner), **changes)
    return changed


def _bent(conditioner: Conditioner, sde: GaussianSDE, bare: SampleResult) -> SampleResult:
    """Samples under the conditioner; at strength 1 where its own, which may be 0, changes nothing."""
    result = _ends(sde, conditioner)
    strong = _at_strength(conditioner, 1.0) if torch.equal(result.x, bare.x) else None
    return result if strong is None else _ends(sde, strong)


def _observed(conditioner: Conditioner, index: Tensor) -> tuple[Tensor, Tensor]:
    """What was observed of each sample, and where, (B, *shape)."""
    if not {"observed", "mask"} <= settings(type(conditioner)).keys():
        raise NotApplicable("it has no fields `observed` and `mask`")
    found = []
    for field in ("observed", "mask"):
        given = getattr(conditioner, field)
        if not isinstance(given, (Tensor, np.ndarray)) or given.shape[-3:] != _SHAPE:
            raise NotApplicable("`observed` and `mask` are no arrays of samples once it has the data")
        rows = torch.as_tensor(given).reshape(-1, *_SHAPE)
        found.append(rows[index % len(rows)])
    observed, mask = found[0].to(torch.float64), found[1].bool()
    if not bool(mask.any()):
        raise NotApplicable("its mask hides every element")
    return observed, mask


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
    off = _at_strength(conditioner, 0.0)
    if off is None:
        raise NotApplicable("it has no field `strength` or `scale`")
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


def asked_class_favoured(conditioner: Conditioner) -> None:
    """Of the samples asked for a class, the mean of log p(class | x_0) by the exact classifier is larger than
    without the conditioner, or all are of the class: guidance goes to the class that is recorded."""
    for name, sde in processes_for(conditioner):
        bare = _ends(sde)
        bent = _bent(conditioner, sde, bare)
        asked = bent.label.clamp(min=0)[:, None]
        if bool((bent.label < 0).all()):
            raise NotApplicable("it asks for no class")
        level = torch.tensor(sde.t_min, dtype=torch.float64)
        before, after = (_model(sde).logits(x, level).log_softmax(1) for x in (bare.x, bent.x))
        for label in sorted(set(bent.label.tolist()) - {-1}):
            rows = bent.label == label
            gain = float((after - before).gather(1, asked)[rows].mean())
            hits = int((after[rows].argmax(1) == label).sum())
            ensure(
                gain > 0.0 or hits == int(rows.sum()),
                f"on {name}, of {int(rows.sum())} samples asked for class {label}, {hits} are of it, and "
                f"log p({label} | x_0) changes by {gain:.3g} in the mean",
            )


def observed_kept(conditioner: Conditioner) -> None:
    """Where `mask` is 1, clean sample i is row i of `observed` (modulo their number), bit by bit."""
    for name, sde in processes_for(conditioner):
        bare = _ends(sde)
        observed, mask = _observed(conditioner, bare.index)
        off = (_bent(conditioner, sde, bare).x - observed)[mask].abs()
        ensure((off == 0.0).all(), f"on {name} an observed element is {float(off.max()):.3g} off")


def observed_noised(conditioner: Conditioner) -> None:
    """An observed part that is put in between steps follows the marginal, N(alpha_s y, sigma_s^2): mean and
    variance of (x_s - alpha_s y) / sigma_s are 0 and 1 within five standard errors."""
    for name, sde in processes_for(conditioner):
        problem, x, s = _state(sde, conditioner.particles, count=64)
        observed, mask = _observed(conditioner, problem.index)
        t = torch.tensor(sde.t_max, dtype=torch.float64)
        noise = Noise(seed=1, index=torch.arange(64)).split(conditioner.particles)
        _, memory = conditioner.after_step(problem, None, x, None, t, None, noise.stream("start"))
        put, other = (
            conditioner.after_step(problem, x, x_s, t, s, memory, noise)[0][mask] for x_s in (x, x + 1.0)
        )
        if not torch.allclose(put, other, rtol=0.0, atol=1e-9):
            raise NotApplicable("it leaves the observed part to the sampler, up to the last step")
        z = (put - sde.alpha(s) * observed[mask]) / sde.sigma(s)
        mean, variance, count = float(z.mean()), float(z.square().mean()), z.numel()
        ensure(
            abs(mean) < 5.0 * count**-0.5 and abs(variance - 1.0) < 5.0 * (2.0 / count) ** 0.5,
            f"on {name} the mean is {mean:.3g} and the variance {variance:.3g}, of {count} elements",
        )


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
        asked_class_favoured,
        observed_kept,
        observed_noised,
    )
)
