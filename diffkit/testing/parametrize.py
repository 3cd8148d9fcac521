"""The laws as pytest cases: one for each component and law."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from diffkit import registry
from diffkit.component import Component
from diffkit.testing.lawbook.base import Law, LawBroken, NotApplicable
from diffkit.testing.lawbook.book import laws

__all__ = ["parametrize_with_laws"]


def parametrize_with_laws(kind: str, components: Sequence[Any]) -> Any:
    """A decorator that gives a test the arguments `law` and `component`, for every pair of the two.

    The test calls `law(component)`; `LawBroken` fails it. A law that does not apply says so on stdout
    (`pytest -s`) and passes; one more case, `some-law-applies`, fails where that is all of them.

    Args:
        kind: of component, in the singular.
        components: names, mappings with a `name`, or objects.
    """
    import pytest

    book = laws(kind)
    judges: list[_Case | _SomeLawApplies] = [*(_Case(law) for law in book), _SomeLawApplies(book)]
    return pytest.mark.parametrize(
        "law,component",
        [
            pytest.param(judge, spec, id=f"{_label(spec)}-{judge.name}")
            for spec in components
            for judge in judges
        ],
    )


@attrs.frozen
class _Case:
    """One law, as a test calls it."""

    law: Law

    @property
    def name(self) -> str:
        return self.law.name

    def __call__(self, spec: Any) -> None:
        try:
            self.law(registry.create(self.law.kind, spec))
        except NotApplicable as reason:
            print(f"{self.law.kind}-{self.law.name} does not apply to {_label(spec)}: {reason}")


@attrs.frozen
class _SomeLawApplies:
    """At least one law has something to say about the component."""

    book: tuple[Law, ...]
    name: str = "some-law-applies"

    def __call__(self, spec: Any) -> None:
        reasons = []
        for law in self.book:
            try:
                law(registry.create(law.kind, spec))
            except NotApplicable as reason:
                reasons.append(f"{law.name}: {reason}")
            else:
                return
        formula = "at least one law of the kind applies to every component"
        raise LawBroken(self.name, formula, f"none applies to {_label(spec)} ({'; '.join(reasons)})")


def _label(spec: Any) -> str:
    if isinstance(spec, Component):
        spec = registry.describe(spec)
    if not isinstance(spec, Mapping):
        return str(spec)
    fields = {key: value for key, value in spec.items() if key != "name"}
    written = ",".join(f"{key}={_label(value)}" for key, value in fields.items())
    return f"{spec.get('name')}[{written}]" if fields else str(spec.get("name"))
