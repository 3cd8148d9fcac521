"""Class accuracy: how often a classifier finds in a sample the class that was asked for."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch

from diffkit.batch import Batch
from diffkit.component import Requirement
from diffkit.errors import DataError
from diffkit.interfaces.metric import Measurement, Metric, MetricContext
from diffkit.noise import Noise
from diffkit.selection import Selection
from diffkit_standard.metrics._proportions import wilson, wilson_error

__all__ = ["ClassAccuracy"]


@attrs.frozen(kw_only=True)
class _State:
    context: MetricContext
    count: int = 0
    hits: int = 0
    bad: int = 0
    classes: int = 0


@final
@attrs.frozen(kw_only=True)
class ClassAccuracy(Metric):
    """The share of samples whose likeliest class, by the run's classifier, is the one they were asked for.

    Samples without a label are left out. The floor is the classifier's own accuracy on held-out data; a
    figure above it says that samples are clearer than life. The standard error is that of a share (Wilson);
    `interval` in the details is Wilson's, 95%.

    Raises:
        DataError: fewer than two samples have a label, logits that are not finite, or of another number of
            classes than the data set has.
    """

    source: ClassVar[str] = "Odena et al. 2017, arXiv 1610.09585, section 4.1"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"logits", "labels"})

    @property
    def higher_is_better(self) -> bool:
        return True

    @property
    def requires(self) -> tuple[Requirement, ...]:
        labels = "class accuracy holds samples against the class they were asked for"
        classes = "class accuracy asks for the data set's own classes"
        return (
            Requirement("model.labels", labels, "train on labels (`training.labels: true`), or leave it out"),
            Requirement("features.own-classes", classes, "use the features 'classifier', or leave it out"),
        )

    def refusals(self, selection: Selection) -> tuple[tuple[str, str], ...]:
        found = []
        asked = [c.labels(torch.arange(1), selection.classes) for c in selection.all("conditioner")]
        if selection.data is not None and all(labels is None for labels in asked):
            reason = (
                "class accuracy needs samples that were asked for a class, and no conditioner asks for one"
            )
            found.append((reason, "add {name: class-guidance, label: each} to sampling.conditioners"))
        dataset = selection.one("dataset")
        if dataset is not None and dataset.unrestricted().spec().classes != dataset.spec().classes:
            reason = (
                "the classifier numbers all classes of the data, and this data set keeps only some of them"
            )
            found.append((reason, "keep all classes of the data set, or leave class-accuracy out"))
        return tuple(found)

    def start(self, context: MetricContext) -> _State:
        return _State(context=context)

    def update(self, state: _State, batch: Batch, noise: Noise) -> _State:
        if batch.logits is None:
            raise TypeError("class accuracy is taken from logits; the batch has none")
        if batch.source != "samples" or batch.label is None:
            return state
        labelled = batch.label >= 0
        logits, label = batch.logits[labelled.to(batch.logits.device)], batch.label[labelled]
        new = _State(
            context=state.context,
            count=len(label),
            hits=int((logits.argmax(1) == label.to(logits.device)).sum()),
            bad=int((~torch.isfinite(logits)).any(1).sum()),
            classes=batch.logits.shape[1],
        )
        return self.merge(state, new)

    def merge(self, a: _State, b: _State) -> _State:
        return _State(
            context=a.context,
            count=a.count + b.count,
            hits=a.hits + b.hits,
            bad=a.bad + b.bad,
            classes=max(a.classes, b.classes),
        )

    def finish(self, state: _State) -> Measurement:
        if state.count < 2:
            raise DataError(
                f"class accuracy: {state.count} samples have a label",
                "at least 2 that were asked for a class, and many for a meaningful figure",
                "Add {name: class-guidance, label: each} to sampling.conditioners",
            )
        if state.bad:
            raise DataError(
                f"class accuracy: the logits of {state.bad} samples hold NaN or infinite values",
                "finite logits",
                "Look at the samples: the model may have diverged",
            )
        spec = state.context.spec
        if spec is not None and spec.classes != state.classes:
            raise DataError(
                f"class accuracy: the extractor knows {state.classes} classes, the data set {spec.classes}",
                "the data set's own classes",
                "Use the features 'classifier'",
            )
        details = {
            "features": state.context.features,
            "interval": list(wilson(state.hits, state.count, 1.96)),
            "classes": state.classes,
        }
        return Measurement(
            value=state.hits / state.count,
            error=wilson_error(state.hits, state.count),
            count=state.count,
            details=details,
        )
