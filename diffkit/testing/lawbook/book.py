"""All laws, by kind, and the judgement of one component."""

from __future__ import annotations

import importlib
from typing import Any

from diffkit import registry
from diffkit.progress import watched
from diffkit.testing.lawbook.base import Law, LawBroken, NotApplicable

__all__ = ["check", "laws"]


def laws(kind: str) -> tuple[Law, ...]:
    """The laws of a kind of component.

    Raises:
        ComponentError: no such kind.
    """
    name = registry.find_kind(kind).name
    book: tuple[Law, ...] = importlib.import_module(f"diffkit.testing.lawbook.{name}").LAWS
    return book


def check(kind: str, spec: Any) -> list[dict[str, str]]:
    """Holds one component against every law of its kind.

    Args:
        kind: in the singular.
        spec: a name, a mapping with a `name`, or an object.

    Returns:
        for each law `{law, formula, status, detail}`; status is `passed`, `failed` (detail is the
        counter-example) or `not-applicable` (detail is the reason).

    Raises:
        ComponentError, ConfigError: the component cannot be made.
    """
    component = registry.create(kind, spec)
    book = laws(kind)
    return [_judged(law, component) for law in watched(book, "checking", len(book), "laws")]


def _judged(law: Law, component: Any) -> dict[str, str]:
    status, detail = "passed", ""
    try:
        law(component)
    except LawBroken as broken:
        status, detail = "failed", broken.counterexample
    except NotApplicable as reason:
        status, detail = "not-applicable", str(reason)
    return {"law": law.name, "formula": law.formula, "status": status, "detail": detail}
