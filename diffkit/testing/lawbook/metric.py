"""The laws of a metric: a figure of the examples, not of the way they were handed over."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import attrs
import torch

from diffkit import compatibility, registry
from diffkit.batch import Batch, Source
from diffkit.errors import DataError
from diffkit.interfaces.dataset import DataSpec
from diffkit.interfaces.metric import Measurement, Metric, MetricContext
from diffkit.noise import Noise
from diffkit.testing.exact import LabelledModel
from diffkit.testing.lawbook.base import NotApplicable, book_of, ensure
from diffkit.testing.lawbook.partners import flat_mixture

__all__ = ["LAWS"]

_SHAPE = (1, 4, 4)
_COUNT = 60
_PROCESSES: list[Any] = ["vp", {"name": "vp", "schedule": {"name": "discrete", "steps": 10, "beta_end": 0.5}}]


def _context(metric: Metric) -> MetricContext:
    """A model of 16 numbers and three classes, by the first process that the metric accepts."""
    candidates = [registry.create("sde", spec) for spec in _PROCESSES]
    found = [compatibility.check(compatibility.Selection.of(sde, metric)) for sde in candidates]
    accepted = [all(finding.status != "refused" for finding in findings) for findings in found]
    if not any(accepted):
        raise NotApplicable(f"it works with no built-in Gaussian process ({found[0][0].reason})")
    sde = candidates[accepted.index(True)]
    return MetricContext(
        model=LabelledModel(problem=flat_mixture(16), sde=sde),
        sde=sde,
        spec=DataSpec(shape=_SHAPE, classes=3, levels=16),
        reference="synthetic",
        features="synthetic",
    )


def _examples(source: Source, count: int = _COUNT) -> Batch:
    """Examples with six features and three classes; the samples differ a little from the rest."""
    index = torch.arange(count)
    noise = Noise(seed=0, index=index).stream(source)
    features = noise.stream("features").normal((count, 6), dtype=torch.float64)
    return Batch(
        x=0.5 * noise.normal((count, *_SHAPE), dtype=torch.float64),
        index=index,
        label=index % 3,
        features=1.2 * features + 0.3 if source == "samples" else features,
        logits=2.0 * noise.stream("logits").normal((count, 3), dtype=torch.float64),
        source=source,
    )


def _rows(batch: Batch, rows: torch.Tensor) -> Batch:
    fields = ("x", "index", "label", "features", "logits")
    taken = {name: getattr(batch, name)[rows] for name in fields if getattr(batch, name) is not None}
    return attrs.evolve(batch, **taken)


def _batches(metric: Metric, size: int, seed: int | None = None) -> list[Batch]:
    """Everything the metric asks for, in batches of `size`, in order or shuffled."""
    sources: list[Source] = ["samples"]
    sources += [source for source in ("reference", "held-out") if source in metric.needs]
    found = []
    for source in sources:
        batch = _examples(source)
        order = torch.arange(_COUNT)
        if seed is not None:
            order = torch.randperm(_COUNT, generator=torch.Generator().manual_seed(seed))
        found += [_rows(batch, order[first : first + size]) for first in range(0, _COUNT, size)]
    return found if seed is None else found[::-1]


def _state(metric: Metric, batches: Sequence[Batch]) -> Any:
    state = metric.start(_context(metric))
    for batch in batches:
        state = metric.update(state, batch, Noise(seed=0, index=batch.index).stream(batch.source))
    return state


def _same(a: Measurement, b: Measurement, what: str) -> None:
    pairs = {"value": (a.value, b.value), "error": (a.error, b.error)}
    for name, (x, y) in pairs.items():
        close = x == y or (x is not None and y is not None and math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-9))
        ensure(close, f"{what}: the {name} is {x}, and was {y}")
    ensure(a.count == b.count, f"{what}: the count is {a.count}, and was {b.count}")


def cut_into_batches(metric: Metric) -> None:
    """The figure does not depend on how the examples are cut into batches."""
    whole = metric.finish(_state(metric, _batches(metric, _COUNT)))
    for size in (1, 7, 32):
        _same(metric.finish(_state(metric, _batches(metric, size))), whole, f"in batches of {size}")


def order_of_batches(metric: Metric) -> None:
    """The figure does not depend on the order of the examples."""
    whole = metric.finish(_state(metric, _batches(metric, _COUNT)))
    for seed in (1, 2):
        _same(metric.finish(_state(metric, _batches(metric, 9, seed))), whole, "shuffled")


def merging(metric: Metric) -> None:
    """merge(state(A), state(B)) is the state of A and B together, in either order."""
    batches = _batches(metric, 13)
    whole = metric.finish(_state(metric, batches))
    for cut in (1, len(batches) // 2):
        a, b = _state(metric, batches[:cut]), _state(metric, batches[cut:])
        _same(metric.finish(metric.merge(a, b)), whole, "merged")
        a, b = _state(metric, batches[:cut]), _state(metric, batches[cut:])
        _same(metric.finish(metric.merge(b, a)), whole, "merged the other way round")


def states_are_values(metric: Metric) -> None:
    """update leaves the state it was given as it was: two futures of one state do not meet."""
    batches = _batches(metric, 20)
    begun = _state(metric, batches[:1])
    expected = metric.finish(_state(metric, batches))
    for _ in range(2):
        state = begun
        for batch in batches[1:]:
            state = metric.update(state, batch, Noise(seed=0, index=batch.index).stream(batch.source))
        _same(metric.finish(state), expected, "a second time from the same state")


def refuses_nan(metric: Metric) -> None:
    """NaN among the examples is a DataError, at the latest in finish."""
    spoilt = [_with_nan(batch) for batch in _batches(metric, _COUNT)]
    try:
        value = metric.finish(_state(metric, spoilt)).value
    except DataError:
        return
    ensure(False, f"examples with NaN gave {value}")


def refuses_one_example(metric: Metric) -> None:
    """One example of each source is a DataError: no figure rests on so little."""
    alone = [_rows(batch, torch.arange(1)) for batch in _batches(metric, _COUNT)]
    try:
        value = metric.finish(_state(metric, alone)).value
    except DataError:
        return
    ensure(False, f"one example gave {value}")


def _with_nan(batch: Batch) -> Batch:
    fields = {name: getattr(batch, name).clone() for name in ("x", "features", "logits")}
    for value in fields.values():
        value[3] = torch.nan
    return attrs.evolve(batch, **fields)


def packing(metric: Metric) -> None:
    """unpack(pack(state of the reference)) is that state, merged with the samples in either order."""
    batches = _batches(metric, 13)
    packed = metric.pack(_state(metric, [batch for batch in batches if batch.source == "reference"]))
    if packed is None:
        raise NotApplicable("it packs no state")
    tensors = {name: tensor.clone() for name, tensor in packed.items()}
    samples = _state(metric, [batch for batch in batches if batch.source != "reference"])
    whole = metric.finish(_state(metric, batches))
    again = metric.unpack(_context(metric), tensors)
    _same(metric.finish(metric.merge(samples, again)), whole, "unpacked")
    _same(metric.finish(metric.merge(again, samples)), whole, "unpacked, merged the other way round")


def best_at_the_reference(metric: Metric) -> None:
    """Samples that are the reference are better, by `higher_is_better`, than with either side moved by three
    deviations; else a side is not looked at, or worse is taken for better."""
    if "reference" not in metric.needs:
        raise NotApplicable("it needs no reference")
    reference, held_out = _examples("reference"), _examples("held-out")
    samples = attrs.evolve(reference, source="samples")
    sign = 1.0 if metric.higher_is_better else -1.0

    def figure(*batches: Batch) -> float:
        given = (*batches, held_out) if "held-out" in metric.needs else batches
        return metric.finish(_state(metric, given)).value

    best = figure(samples, reference)
    for side, moved in (
        ("samples", figure(_moved(samples), reference)),
        ("reference", figure(samples, _moved(reference))),
    ):
        ensure(sign * best > sign * moved, f"it is {best:.6g}, and {moved:.6g} where the {side} moved")


def _moved(batch: Batch) -> Batch:
    """Pixels, features and the first class's logit, three deviations up."""
    assert batch.features is not None
    assert batch.logits is not None
    first = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    return attrs.evolve(
        batch, x=batch.x + 1.5, features=batch.features + 3.0, logits=batch.logits + 6.0 * first
    )


def count_is_of_the_samples(metric: Metric) -> None:
    """`count` is the number of samples, of 40 beside 60 of any other source; where the figure is the model's
    own, at most that of the held-out examples; else the figure seems to rest on more than it does."""
    own = {"model", "held-out"} <= metric.needs
    counted: Source = "held-out" if own else "samples"
    batches = [
        _rows(batch, torch.arange(40)) if batch.source == counted else batch
        for batch in _batches(metric, _COUNT)
    ]
    count = metric.finish(_state(metric, batches)).count
    ensure(2 <= count <= 40 if own else count == 40, f"of 40 {counted} examples it is {count}")


def measurement(metric: Metric) -> None:
    """The value is finite, its error None or finite and >= 0, its details JSON-ready; again the same."""
    found = metric.finish(_state(metric, _batches(metric, 16)))
    ensure(math.isfinite(found.value), f"the value is {found.value}")
    ensure(
        found.error is None or (math.isfinite(found.error) and found.error >= 0.0),
        f"the error is {found.error}",
    )
    ensure(found.count > 0, f"the count is {found.count}")
    json.dumps(found.details)
    _same(metric.finish(_state(metric, _batches(metric, 16))), found, "a second time")


LAWS = book_of(
    "metric",
    measurement,
    cut_into_batches,
    order_of_batches,
    merging,
    packing,
    states_are_values,
    refuses_nan,
    refuses_one_example,
    best_at_the_reference,
    count_is_of_the_samples,
)
