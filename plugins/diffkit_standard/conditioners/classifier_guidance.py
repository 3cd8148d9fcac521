"""D = D_0 + w (sigma^2 / alpha) grad_x log p(y | x_t): guidance by a classifier of noised data."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar, final

import attrs
import torch
from torch import Tensor

from diffkit import checkpoint, registry
from diffkit.component import Requirement, parameter
from diffkit.errors import IncompatibleError
from diffkit.interfaces.conditioner import Conditioner, Exactness
from diffkit.interfaces.dataset import Dataset
from diffkit.interfaces.model import Model
from diffkit.interfaces.sde import SDE
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

__all__ = ["ClassifierGuidance"]


@final
@attrs.frozen(kw_only=True)
class ClassifierGuidance(Conditioner):
    """Guidance of any model, trained on labels or not, by a classifier p(y | x_t) of noised data:

        score(x, t) + w grad_x log p(y | x_t = x),   D(x, t) + w (sigma^2 / alpha) grad_x log p(y | x_t = x).

    w = 1 is Bayes' rule: where model and classifier are exact, so are the samples of a class. Above 1 they
    keep to what is most typical of it; w = 0 is the bare model, bit by bit. The scale may vary with t: given
    as [t, w] pairs it is linear between them and constant beyond. It may hold in an interval of times only;
    outside it w = 0. A step costs one pass through the classifier and back, which `nfe` does not count.

    Train a classifier with the objective `classification` on the same data and process, by `diffkit train`.
    """

    source: ClassVar[str] = (
        "Song et al. 2021, arXiv 2011.13456, eq. 14; Dhariwal and Nichol 2021, arXiv 2105.05233, algorithm 1"
    )

    classifier: Path | Model = parameter(
        "the folder of a trained classifier; in Python also a model that offers `logits`"
    )
    label: Labels = label_field()
    scale: Scale = scale_field("0 no guidance, 1 Bayes' rule, above 1 stronger")
    interval: Interval = interval_field()

    @property
    def exactness(self) -> Exactness:
        return "exact" if values(self.scale) == {1.0} and self.interval is None else "approximate"

    @property
    def requires(self) -> tuple[Requirement, ...]:
        return (
            Requirement(
                "sde.gaussian",
                "a classifier of noised data is trained at the rates alpha_t and sigma_t",
                "choose a process with Gaussian marginals, such as vp",
            ),
        )

    def refusals(self, selection: Selection) -> tuple[tuple[str, str], ...]:
        known = self._known
        if not known.classifies:
            remedy = "name a model that was trained with objective: classification"
            return ((f"{known.name} is no classifier", remedy),)
        found = []
        if known.classes is None:
            found.append(("the classifier does not say how many classes it tells apart", "set its `classes`"))
        for sde in selection.all("sde"):
            if known.sde is not None and known.sde != sde:
                reason = f"the classifier was trained on {known.sde}, and the samples come by {sde}"
                found.append((reason, "train the classifier on the model's own process and schedule"))
        for what, own, other in (
            ("a number of classes", known.classes, selection.classes),
            ("examples of a shape", known.shape, selection.shape),
        ):
            if None not in (own, other) and own != other:
                reason = f"the classifier was trained on {what}, {own}, that is not the model's, {other}"
                found.append((reason, "train the classifier on the model's own data"))
        return (*found, *out_of_range(self.label, known.classes, "classifier-guidance.label"))

    def labels(self, index: Tensor, classes: int | None) -> Tensor:
        return asked(self.label, index, self._known.classes, "classifier-guidance.label")

    def prepared(self, dataset: Dataset) -> ClassifierGuidance:
        units, spec = self._known.units, dataset.spec()
        if units is not None and units != (spec.scale, spec.offset):
            raise IncompatibleError(
                "The classifier was trained on data in other units than the model's",
                f"the same scale and offset, {(spec.scale, spec.offset)}, not {units}",
                "Train the classifier on the model's own data set, normalized where that is",
            )
        return self

    def wrap(self, model: Model, problem: Problem) -> Model:
        shape = self._known.shape
        if shape is not None and shape != problem.shape[1:]:
            raise IncompatibleError(
                f"The classifier was trained on examples of shape {shape}, and these are {problem.shape[1:]}",
                "one shape",
                "Train the classifier on the model's own data",
            )
        if values(self.scale) == {0.0}:
            return model
        return _Guided(model, self, problem, self.labels(problem.index, None))

    @cached_property
    def loaded(self) -> Model:
        """The classifier, read when it is first needed."""
        return self.classifier if isinstance(self.classifier, Model) else checkpoint.load(self.classifier)

    @cached_property
    def _known(self) -> _Known:
        return _of_model(self.classifier) if isinstance(self.classifier, Model) else _of_path(self.classifier)


@attrs.frozen
class _Known:
    """What is known of a classifier before its weights are loaded; None = it does not say."""

    name: str
    classifies: bool
    classes: int | None
    sde: SDE | None
    shape: tuple[int, ...] | None
    units: tuple[tuple[float, ...], tuple[float, ...]] | None
    """Scale and offset of its data."""


def _of_model(model: Model) -> _Known:
    spec = model.spec if isinstance(model, checkpoint.TrainedModel) else None
    return _Known(
        name=type(model).__name__,
        classifies="logits" in model.offers,
        classes=model.classes,
        sde=model.sde,
        shape=None if spec is None else spec.shape,
        units=None if spec is None else (spec.scale, spec.offset),
    )


def _of_path(path: Path) -> _Known:
    description = checkpoint.read_description(path)
    return _Known(
        name=str(path),
        classifies="model.logits" in description["capabilities"],
        classes=description["classes"],
        sde=registry.create("sde", description["sde"]),
        shape=tuple(description["shape"]),
        units=(tuple(description["spec"]["scale"]), tuple(description["spec"]["offset"])),
    )


class _Guided(Model):
    """The guided model; it offers what the inner one does."""

    def __init__(self, model: Model, guidance: ClassifierGuidance, problem: Problem, label: Tensor) -> None:
        self._model, self._guidance, self._label = model, guidance, label
        self._process = problem.gaussian
        self.offers = model.offers & {"denoise", "score"}
        self.classes, self.capabilities, self.device = model.classes, model.capabilities, model.device
        self.sde = model.sde

    def denoise(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self._guided(self._model.denoise(x, t, label), x, t, self._tweedie(t))

    def score(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self._guided(self._model.score(x, t, label), x, t, torch.ones_like(t))

    def _tweedie(self, t: Tensor) -> Tensor:
        """By what a change of the score changes D."""
        return self._process.sigma(t) ** 2 / self._process.alpha(t)

    def _guided(self, bare: Tensor, x: Tensor, t: Tensor, factor: Tensor) -> Tensor:
        scale = scale_at(self._guidance.scale, self._guidance.interval, t, outside=0.0)
        if bool((scale == 0.0).all()):
            return bare
        return bare + expand(scale * factor, x) * self._gradient(x, t)

    def _gradient(self, x: Tensor, t: Tensor) -> Tensor:
        """grad_x log p(label | x_t = x), shaped like `x`; differentiable where `x` asks for it."""
        classifier = self._guidance.loaded
        followed = torch.is_grad_enabled() and x.requires_grad
        with torch.inference_mode(False), torch.enable_grad():
            point = x if followed else x.detach().clone().requires_grad_(True)
            logits = classifier.logits(point.to(classifier.device or x.device), t)
            # A copy, because what was made in inference mode cannot be kept for the way back.
            label = self._label.to(logits.device)[:, None].clone()
            chosen = torch.log_softmax(logits, dim=1).gather(1, label)
            (gradient,) = torch.autograd.grad(chosen.sum(), point, create_graph=followed)
        return gradient
