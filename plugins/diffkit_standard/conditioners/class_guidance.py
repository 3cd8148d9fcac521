"""D = D_u + w (D_c - D_u): classifier-free guidance towards a class."""

from __future__ import annotations

from typing import ClassVar, Literal, final

import attrs
from torch import Tensor

from diffkit.component import Requirement
from diffkit.interfaces.conditioner import Conditioner, Exactness
from diffkit.interfaces.model import Model
from diffkit.problem import Problem
from diffkit.selection import Selection
from diffkit.tensors import expand
from diffkit_standard.conditioners._labels import Labels, asked, label_field, out_of_range
from diffkit_standard.conditioners._scale import (
    Interval,
    Scale,
    interval_field,
    scale_at,
    scale_field,
    values,
)


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

    label: Labels = label_field()
    scale: Scale = scale_field("0 unconditional, 1 conditional, above 1 guided")
    interval: Interval = interval_field()

    @property
    def exactness(self) -> Exactness:
        given = values(self.scale)
        plain = given == {1.0} or (given == {0.0} and self.interval is None)
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
        return (labels,) if values(self.scale) == {1.0} else (labels, unconditional)

    def refusals(self, selection: Selection) -> tuple[tuple[str, str], ...]:
        return out_of_range(self.label, selection.classes, "class-guidance.label")

    def labels(self, index: Tensor, classes: int | None) -> Tensor:
        return asked(self.label, index, classes, "class-guidance.label")

    def wrap(self, model: Model, problem: Problem) -> Model:
        return _Guided(model, self, self.labels(problem.index, model.classes))

    def scale_at(self, t: Tensor) -> Tensor:
        """w at the times t, of t's shape."""
        return scale_at(self.scale, self.interval, t, outside=1.0)


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
