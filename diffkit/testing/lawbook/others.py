"""A component with other parameters than it was given: what holds must hold for them too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs

from diffkit.component import Component
from diffkit.errors import DiffkitError
from diffkit.testing.lawbook.base import LawBroken, NotApplicable, book_of, ensure

__all__ = ["hold_for_others"]


def hold_for_others(kind: str, component: Component, *checks: Callable[[Any], None]) -> None:
    """Holds the component against laws of its kind, with each of its numbers changed in turn.

    Raises:
        NotApplicable: it has no number that may be another.
    """
    others = list(_others(component))
    if not others:
        raise NotApplicable("it has no number that may be another")
    for what, other in others:
        for law in book_of(kind, *checks):
            try:
                law(other)
            except NotApplicable:
                continue
            except LawBroken as broken:
                ensure(False, f"with {what}, {law.name} is broken: {broken.counterexample}")


def _others(component: Any) -> Iterator[tuple[str, Any]]:
    """The component with one number changed, its own or its parts', each to the first value accepted."""
    for field in attrs.fields(type(component)):
        value = getattr(component, field.name)
        if isinstance(value, Component):
            for what, part in _others(value):
                yield f"{field.name}.{what}", attrs.evolve(component, **{field.name: part})
        for other in _near(value):
            try:
                changed = attrs.evolve(component, **{field.name: other})
            except (ValueError, TypeError, DiffkitError):
                continue  # its validator refuses
            yield f"{field.name} = {other:g}", changed
            break


def _near(value: Any) -> tuple[float, ...]:
    """Other values, near enough to make as much sense, for a number; none for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ()
    if isinstance(value, int):
        return value + 1, value - 1
    return (0.8 * value, 1.25 * value) if value else (0.1, -0.1)
