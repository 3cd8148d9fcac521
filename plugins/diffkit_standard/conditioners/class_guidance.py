"""D = D_u + w (D_c - D_u): classifier-free guidance towards a class."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar, Literal, final

import attrs
import torch
from torch import Tensor

from diffkit.component import Requirement, parameter
from diffkit.errors import ConfigError
from diffkit.interfaces.conditioner import Conditioner, Exactness
from diffkit.interfaces.model import Model
from diffkit.problem import Problem
from diffkit.selection import Selection
from diffkit.tensors import expand

Knots = tuple[tuple[float, float], ...]
"""(t, w), t rising."""


def _ordered(guidance: ClassGuidance, attribute: Any, value: tuple[float, float] | None) -> None:
    if value is not None and not 0.0 <= value[0] < value[1] <= 1.0:
        raise ValueError("an interval is two times, 0 <= low < high <= 1")


def _sensible(guidance: ClassGuidance, attribute: Any, value: float | Knots) -> None:
    knots = value if isinstance(value, tuple) else ((0.0, value),)
    times = [t for t, _ in knots]
    if not knots or any(w < 0.0 for _, w in knots):
        raise ValueError("a scale is at least 0")
    if any(not 0.0 <= t <= 1.0 for t in times) or any(a >= b for a, b in itertools.pairwise(times)):
        raise ValueError("a scale that varies is a list of [t, w] with t rising from 0 to 1 at most")


def _classes(guidance: ClassGuidance, attribute: Any, value: int | tuple[int, ...] | str) -> None:
    given = (value,) if isinstance(value, int) else value
    if value != "each" and (not given or any(not isinstance(each, int) or each < 0 for each in given)):
        raise ValueError("a label is a class, 0 or above; a list holds one at least")


@final
@attrs.frozen(kw_only=True)
class ClassGuidance(Conditioner):
    """Classifier-free guidance of a model trained on labels: D = D_u + w (D_c - D_u).

    w = 1 is the conditional model and w = 0 the unconditional one, each at one network call; any other w
    takes both. (Ho and Salimans count from 0: their w is ours minus 1.) The scale may vary with t: given as
    [t, w] pairs it is linear between them and constant beyond. It may hold in an interval of times only;
    outside it w = 1.

    Source: Ho and Salimans 2022, arXiv 2207.12598, eq. 6; intervals: Kynkaanniemi et al. 2024,
    arXiv 2404.07724.
    """

    source: ClassVar[str] = "Ho and Salimans 2022, arXiv 2207.12598, eq. 6"

    label: int | tuple[int, ...] | Literal["each"] = parameter(
        "the class: one for all, a list taken in turn by global index, or `each`: 0, 1, 2, ... in turn",
        validator=_classes,
    )
    scale: float | Knots = parameter(
        "w: 0 unconditional, 1 conditional, above 1 guided; or a list of [t, w], linear in between",
        1.0,
        validator=_sensible,
    )
    interval: tuple[float, float] | None = parameter(
        "times (low, high) in which `scale` holds; null = all", None, validator=_ordered
    )

    @property
    def exactness(self) -> Exactness:
        plain = self._scales == {1.0} or (self._scales == {0.0} and self.interval is None)
        return "exact" if plain else "approximate"

    @property
    def requires(self) -> tuple[Requirement, ...]:
        labels = Requirement(
            "model.labels",
            "class guidance asks the model for a class, and this one was trained without labels",
            "set training.labels: true and train again, or leave class-guidance out",
        )
        unconditional = Requirement(
            "model.unconditional",
            "a guidance scale other than 1 also needs the unconditional prediction, which only a model "
            "trained with label dropout gives",
            "set training.label_dropout: 0.1 and train again, or scale: 1",
        )
        return (labels,) if self._scales == {1.0} else (labels, unconditional)

    def refusals(self, selection: Selection) -> tuple[tuple[str, str], ...]:
        asked = (self.label,) if isinstance(self.label, int) else self.label
        if selection.classes is None or asked == "each" or max(asked) < selection.classes:
            return ()
        reason = f"class-guidance.label is {self.label}, and there are classes 0 to {selection.classes - 1}"
        return ((reason, "ask for one of these"),)

    def labels(self, index: Tensor, classes: int | None) -> Tensor:
        if self.label == "each":
            if classes is None:
                raise ConfigError(
                    "label: each", "a model that knows its number of classes", "list the labels"
                )
            return index % classes
        wanted = torch.tensor(
            (self.label,) if isinstance(self.label, int) else self.label, device=index.device
        )
        if classes is not None and not bool(((wanted >= 0) & (wanted < classes)).all()):
            raise ConfigError(
                f"class-guidance.label is {self.label}",
                f"classes from 0 to {classes - 1}",
                "`diffkit show dataset NAME` and the model's page tell the classes",
            )
        return wanted[index % len(wanted)]

    def wrap(self, model: Model, problem: Problem) -> Model:
        return _Guided(model, self, self.labels(problem.index, model.classes))

    def scale_at(self, t: Tensor) -> Tensor:
        """w at the times t, of t's shape."""
        scale = (
            _interpolated(self.scale, t) if isinstance(self.scale, tuple) else torch.full_like(t, self.scale)
        )
        if self.interval is None:
            return scale
        low, high = self.interval
        return torch.where((t >= low) & (t <= high), scale, 1.0)

    @property
    def _scales(self) -> set[float]:
        """Every w that is given."""
        return {w for _, w in self.scale} if isinstance(self.scale, tuple) else {self.scale}


def _interpolated(knots: Knots, t: Tensor) -> Tensor:
    """Linear between the knots and constant beyond, of t's shape."""
    scale = torch.full_like(t, knots[0][1])
    for (low, w_low), (high, w_high) in itertools.pairwise(knots):
        share = ((t - low) / (high - low)).clamp(0.0, 1.0)
        # lerp gives the knots' own values exactly, so that a plateau at 0 or 1 keeps its single call.
        between = torch.lerp(t.new_tensor(w_low), t.new_tensor(w_high), share)
        scale = torch.where(t > low, between, scale)
    return scale


class _Guided(Model):
    """The guided model; it offers what the inner one does."""

    def __init__(self, model: Model, guidance: ClassGuidance, label: Tensor) -> None:
        self._model, self._guidance, self._label = model, guidance, label
        self.offers = model.offers & {"denoise", "score"}
        self.classes, self.capabilities, self.device = model.classes, model.capabilities, model.device
        self.sde = model.sde

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self._mixed("denoise", x, t)

    def score(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self._mixed("score", x, t)

    def _mixed(self, offer: Literal["denoise", "score"], x: Tensor, t: Tensor) -> Tensor:
        predict = self._model.denoise if offer == "denoise" else self._model.score
        label = self._label.to(x.device)
        scale = self._guidance.scale_at(t)
        if bool((scale == 1.0).all()):
            return predict(x, t, label)
        if bool((scale == 0.0).all()):
            return predict(x, t, None)
        # Two calls rather than one of twice the rows: an inner wrapper may know its samples by place.
        conditional, unconditional = predict(x, t, label), predict(x, t, None)
        return unconditional + expand(scale, x) * (conditional - unconditional)
