"""How far samples lie from the nearest training example, beside the same for held-out examples.

    d(x) = min_i |x - y_i| / sqrt(F),   y_i all training examples, F elements

A model that has learnt the law stays as far from its training data as fresh data do; one that copies them
comes nearer.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, final

import attrs
import torch
from attrs.validators import ge
from torch import Tensor

from diffkit.batch import Batch
from diffkit.component import parameter
from diffkit.errors import DataError
from diffkit.interfaces.metric import Measurement, Metric, MetricContext
from diffkit.noise import Noise
from diffkit_standard.metrics._kept import Kept, squared_distances
from diffkit_standard.metrics._proportions import wilson_error

__all__ = ["NearestTraining"]

_ROWS = 1024
_LEVEL = 0.01


@attrs.frozen(kw_only=True, eq=False)
class _State:
    context: MetricContext
    samples: Kept | None = None
    held_out: Kept | None = None
    training: tuple[Tensor, ...] = ()


@final
@attrs.frozen(kw_only=True)
class NearestTraining(Metric):
    """The mean root-mean-square distance of samples to the nearest training example, and its standard error.

    In the details: `floor`, the same of held-out examples; `ratio` of the two; and `copies`, the share of
    samples nearer to the training data than all but one in a hundred held-out examples: about 0.01 where
    nothing is copied. Neither small nor large values are better: near the floor is right. Every training
    example is looked at, in chunks; they are held in memory as they come (four bytes an element).

    Raises:
        DataError: fewer than two samples, held-out or training examples, values that are not finite.
    """

    source: ClassVar[str] = "Meehan et al. 2020, arXiv 2004.05675, section 2 (its three samples)"

    view: Literal["pixels", "features"] = parameter(
        "in which distances are taken: the examples themselves, or the run's features", "pixels"
    )
    cap: int = parameter(
        "samples, and held-out examples, that are looked at; the rest are left out", 10_000, validator=ge(2)
    )

    @property
    def needs(self) -> frozenset[str]:
        view = {"features"} if self.view == "features" else set()
        return frozenset({"reference", "held-out", *view})

    def start(self, context: MetricContext) -> _State:
        return _State(context=context)

    def update(self, state: _State, batch: Batch, noise: Noise) -> _State:
        seen = batch.x.flatten(1) if self.view == "pixels" else batch.features
        if seen is None:
            raise TypeError("nearest-training was asked for features; the batch has none")
        if batch.source == "reference":
            return attrs.evolve(state, training=(*state.training, seen.detach().cpu()))
        new = Kept.of(seen, batch.index, self.cap)
        if batch.source == "held-out":
            return attrs.evolve(state, held_out=_add(state.held_out, new))
        return attrs.evolve(state, samples=_add(state.samples, new))

    def merge(self, a: _State, b: _State) -> _State:
        return attrs.evolve(
            a,
            samples=_add(a.samples, b.samples),
            held_out=_add(a.held_out, b.held_out),
            training=a.training + b.training,
        )

    def finish(self, state: _State) -> Measurement:
        count = sum(map(len, state.training))
        if state.samples is None or state.held_out is None or count < 2:
            raise DataError(
                f"nearest-training: {_number(state.samples)} samples, {_number(state.held_out)} held-out and "
                f"{count} training examples",
                "at least two of each",
                "Raise `evaluation.count`, or give a data set with a test split",
            )
        samples = _nearest(state.samples.checked(2, "nearest-training (samples)"), state.training)
        held_out = _nearest(state.held_out.checked(2, "nearest-training (held-out)"), state.training)
        value, error = _mean(samples)
        floor, floor_error = _mean(held_out)
        hits = int((samples < held_out.quantile(_LEVEL)).sum())
        details = {
            "features": state.context.features if self.view == "features" else None,
            "reference": state.context.reference,
            "reference_count": count,
            "floor": {"value": floor, "error": floor_error, "count": len(held_out)},
            "ratio": value / floor if floor > 0.0 else None,
            "copies": {
                "value": hits / len(samples),
                "error": wilson_error(hits, len(samples)),
                "level": _LEVEL,
            },
            "compared": {"samples": len(samples), "held-out": len(held_out)},
        }
        return Measurement(value=value, error=error, count=state.samples.seen, details=details)


def _add(a: Kept | None, b: Kept | None) -> Kept | None:
    if a is None or b is None:
        return a or b
    return a.merge(b)


def _number(side: Kept | None) -> int:
    return 0 if side is None else side.seen


def _nearest(points: Tensor, training: tuple[Tensor, ...]) -> Tensor:
    """d(x) of every point (N, F): (N,) in float64."""
    best = torch.full((len(points),), torch.inf, dtype=torch.float64)
    match = torch.zeros_like(points)
    for block in training:
        candidates = block.to(torch.float64)
        if not torch.isfinite(candidates).all():
            raise DataError("nearest-training: the training examples hold NaN or infinite values")
        for rows in torch.split(torch.arange(len(points)), _ROWS):
            least, place = squared_distances(points[rows], candidates).min(1)
            closer = least < best[rows]
            best[rows[closer]] = least[closer]
            match[rows[closer]] = candidates[place[closer]]
    # Once more by the difference, which is exactly zero for a copy.
    return (points - match).square().mean(1).sqrt()


def _mean(distances: Tensor) -> tuple[float, float]:
    return float(distances.mean()), float(distances.std()) / math.sqrt(len(distances))
