"""What the guidances share: which class each sample is asked for."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from diffkit.component import parameter
from diffkit.errors import ConfigError

__all__ = ["Labels", "asked", "label_field", "out_of_range"]

Labels = int | tuple[int, ...] | Literal["each"]


def _classes(guidance: object, attribute: Any, value: Labels) -> None:
    given = (value,) if isinstance(value, int) else value
    if value != "each" and (not given or any(not isinstance(each, int) or each < 0 for each in given)):
        raise ValueError("a label is a class, 0 or above; a list holds one at least")


def label_field() -> Any:
    """The field `label` of a guidance."""
    return parameter(
        "the class: one for all, a list taken in turn by global index, or `each`: 0, 1, 2, ... in turn",
        validator=_classes,
    )


def out_of_range(label: Labels, classes: int | None, key: str) -> tuple[tuple[str, str], ...]:
    """The refusal of a label that is none of the classes, where their number is known; `key` names it."""
    asked_for = (label,) if isinstance(label, int) else label
    if classes is None or asked_for == "each" or max(asked_for) < classes:
        return ()
    return ((f"{key} is {label}, and there are classes 0 to {classes - 1}", "ask for one of these"),)


def asked(label: Labels, index: Tensor, classes: int | None, key: str) -> Tensor:
    """(B,) int64: the class of each sample, by its global index."""
    if label == "each":
        if classes is None:
            raise ConfigError("label: each", "a model that knows its number of classes", "list the labels")
        return index % classes
    wanted = torch.tensor((label,) if isinstance(label, int) else label, device=index.device)
    if classes is not None and not bool(((wanted >= 0) & (wanted < classes)).all()):
        raise ConfigError(
            f"{key} is {label}",
            f"classes from 0 to {classes - 1}",
            "`diffkit show dataset NAME` and the model's page tell the classes",
        )
    return wanted[index % len(wanted)]
