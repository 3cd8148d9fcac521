"""What is chosen to work together, and what may be said about it.

A capability is a string `supplier.word`; its supplier is a kind, or `model`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal

import attrs

from diffkit.component import Component
from diffkit.structure import kind_of, settings

__all__ = ["CAPABILITIES", "Finding", "Selection", "nested"]

CAPABILITIES: Mapping[str, str] = MappingProxyType(
    {
        "sde.gaussian": "marginals are x_t = alpha_t x_0 + sigma_t eps",
        "sde.linear-drift": "the drift is f(t) x with f not zero",
        "sde.stationary": "the coefficients are the same at all times, and one law, exp(-E), stays as it is",
        "sde.model-drift": "the drift is the model's: g^2 / 2 times its score",
        "schedule.preserving": "exp(-B/2) may serve as a signal rate",
        "schedule.pole": "the rate grows without bound towards t = 1",
        "sampler.deterministic": "a step draws no noise",
        "sampler.stochastic": "a step draws noise",
        "sampler.fixed-steps": "a step goes from t to s in one go",
        "sampler.adaptive": "a step chooses inner steps of its own",
        "sampler.transition": "a step is one Gaussian transition, with a mean and a standard deviation",
        "model.denoise": "gives E[x_0 | x_t]",
        "model.score": "gives grad log p_t(x)",
        "model.energy": "gives E(x) with p(x) proportional to exp(-E(x))",
        "model.logits": "gives log p(label | x_t)",
        "model.labels": "was trained on labels",
        "model.unconditional": "accepts the label -1, that is none",
        "network.image-output": "the output is shaped like the input",
        "network.energy-output": "the output is one number a sample",
        "network.logits-output": "the output is one number a class",
        "network.labels": "can be built with classes",
        "network.batch-statistics": "in training an example's output depends on the others of its batch",
        "features.logits": "the extractor classifies",
        "features.own-classes": "its classes are those of the data set",
        "dataset.labels": "examples have labels",
        "dataset.classified": "examples have labels, if need be in the data set before its class filter",
        "dataset.images": "examples are grey or RGB pictures",
    }
)
"""Every capability diffkit knows, with its meaning. A third party's own read `sde.acme:word`."""

Status = Literal["refused", "caveat"]


@attrs.frozen
class Finding:
    """Something to be said about a selection.

    Args:
        status: `refused`, or `caveat`: valid but unwise.
        subject: the name of the component that speaks.
        object: the name of the one it speaks of, if any.
        reason, remedy: why, and what to do instead.
    """

    status: Status
    subject: str
    object: str
    reason: str
    remedy: str = ""


@attrs.frozen
class Selection:
    """What is to work together.

    Args:
        components: the chosen instances, each with its kind.
        model: capabilities of the model to be used; None = not known.
        data: capabilities of the data set, read off its spec; None = not known.
        steps: of sampling, where they are set.
        parts: that a batch of training is computed in, by processes and by accumulation.
        classes: of the model, where it is conditional.
        shape: of one example, where it is known.
    """

    components: tuple[tuple[str, Component], ...]
    model: frozenset[str] | None = None
    data: frozenset[str] | None = None
    steps: int | None = None
    parts: int = 1
    classes: int | None = None
    shape: tuple[int, ...] | None = None

    @classmethod
    def of(cls, *components: Component | None, **known: Any) -> Selection:
        """A selection of instances, their kinds found by themselves; None is left out."""
        chosen = [component for component in components if component is not None]
        return cls(tuple((kind_of(type(component)) or "", component) for component in chosen), **known)

    def all(self, kind: str) -> tuple[Any, ...]:
        """The instances of a kind; a schedule inside a process counts."""
        own = tuple(component for k, component in self.components if k == kind)
        if kind == "schedule":
            own += tuple(inner for sde in self.all("sde") for k, inner in nested(sde) if k == kind)
        return own

    def one(self, kind: str) -> Any | None:
        """The first instance of a kind, or None."""
        return next(iter(self.all(kind)), None)

    def provides(self, supplier: str) -> frozenset[str] | None:
        """What the supplier (a kind, or `model`) offers; None where nothing is known of it."""
        if supplier == "model":
            return self.model
        instances = self.all(supplier)
        if not instances and not (supplier == "dataset" and self.data is not None):
            return None
        offered = self.data or frozenset() if supplier == "dataset" else frozenset()
        return offered.union(*(instance.provides for instance in instances))


def nested(component: Component) -> Iterator[tuple[str, Component]]:
    """The components inside a component's fields, at any depth, each with its kind."""
    for field in settings(type(component)).values():
        value = getattr(component, field.name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, Component):
                yield kind_of(type(inner)) or "", inner
                yield from nested(inner)
