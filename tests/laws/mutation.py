"""Wrong variants of built-in components: a component's source with one piece of text replaced."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

from diffkit.component import Component

__all__ = ["Mutant", "mutated"]


@attrs.frozen
class Mutant:
    """In the source of `target`, a module of the built-ins and its class, `old` becomes `new`.

    Args:
        law: the name of the law, of the component's kind, that is to notice.
        fields: of the component.
        helpers: modules that stand between the change and the target, each importing from the one before: the
            first is changed instead of the target's own, the others are read anew.
        package: that holds the modules.
    """

    target: str
    old: str
    new: str
    law: str
    fields: dict[str, Any] = attrs.field(factory=dict)
    helpers: tuple[str, ...] = ()
    package: str = "diffkit_standard"

    @property
    def module(self) -> str:
        return self.target.partition(" ")[0]

    @property
    def name(self) -> str:
        return self.target.partition(" ")[2]

    @property
    def kind(self) -> str:
        folder = self.module.partition(".")[0]
        return folder if folder == "features" else folder.removesuffix("s")


def mutated(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> Component:
    """The wrong component, from the changed source; the right one stays what every other module sees."""
    with pytest.MonkeyPatch.context() as patch:
        changed, *between = *mutant.helpers, mutant.module
        # The right one first: were it imported while the changed helpers stand in, it would keep them.
        importlib.import_module(f"{mutant.package}.{mutant.module}")
        module = _read(mutant.package, changed, patch, mutant)
        for name in between:
            module = _read(mutant.package, name, patch)
    # Annotations are resolved through the module, after this.
    module.__name__ = f"mutant_{mutant.module}"
    cls = vars(module)[mutant.name]
    cls.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    component: Component = cls(**mutant.fields)
    return component


def _read(package: str, name: str, patch: pytest.MonkeyPatch, mutant: Mutant | None = None) -> ModuleType:
    """A module's source executed anew, changed if there is a mutant, in the place of the module."""
    full = f"{package}.{name}"
    file = importlib.import_module(full).__file__
    assert file is not None
    source = Path(file).read_text(encoding="utf-8")
    if mutant is not None:
        assert mutant.old in source, f"{mutant.old!r} is no longer in {name}: plant the mutant anew"
        source = source.replace(mutant.old, mutant.new)
    module = ModuleType(full)
    patch.setitem(sys.modules, full, module)
    exec(compile(source, file, "exec"), vars(module))
    return module
