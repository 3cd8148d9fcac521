"""The conditioners of an experiment: made, given what they take from its data, asked for a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from diffkit import registry
from diffkit.interfaces.conditioner import Conditioner
from diffkit.interfaces.dataset import Dataset

__all__ = ["Prepared", "asking", "prepared", "suits_any_image"]


class Prepared(tuple[Conditioner, ...]):
    """Conditioners that have had what they take from the data set."""


def prepared(conditioners: Sequence[Any], dataset: Dataset) -> Prepared:
    """Makes what is a name or a mapping, and gives each what it takes from the data; the prepared stay."""
    if isinstance(conditioners, Prepared):
        return conditioners
    made = [registry.create("conditioner", each) for each in conditioners]
    return Prepared(each.prepared(dataset) for each in made)


def asking(conditioners: Sequence[Any], label: int) -> Prepared:
    """The conditioners, those with a label now asking for this one; class guidance if none has."""
    asks = ["label" in attrs.fields_dict(type(each)) for each in conditioners]
    if not any(asks):
        return Prepared((*conditioners, registry.create("conditioner", "class-guidance", label=label)))
    return Prepared(
        attrs.evolve(each, label=label) if asked else each
        for each, asked in zip(conditioners, asks, strict=True)
    )


def suits_any_image(conditioner: Conditioner, label: bool) -> bool:
    """Whether a conditioner goes neither by another measurement nor by a class of the sample's number.

    Args:
        label: one class is asked for, which takes the place of its own.
    """
    measures = registry.current().name(conditioner) in ("imputation", "restoration")
    return not measures and (label or isinstance(getattr(conditioner, "label", 0), int))
