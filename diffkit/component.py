"""What every component is: frozen, keyword-only, self-describing, and open about its capabilities.

A component is an attrs class whose fields are its configuration schema. What it offers to others
and needs of them are *capabilities*: strings `kind.word` ("sde.linear-drift") whose first part
names who supplies them. They are properties of the configured instance, so two instances of one
class may differ.
"""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

if TYPE_CHECKING:
    from diffkit.compatibility import Selection

__all__ = ["Component", "Requirement", "parameter"]


@attrs.frozen
class Requirement:
    """A capability that a component needs of another one.

    Args:
        capability: `kind.word`; `kind` names the supplier (a component kind, or `model`).
        reason: why it is needed, as a full sentence without the final stop.
        remedy: what to use instead where it is missing, likewise.
    """

    capability: str
    reason: str = ""
    remedy: str = ""

    @property
    def supplier(self) -> str:
        return self.capability.partition(".")[0]


class Component(ABC):  # noqa: B024 - abstract through its interfaces
    """Base of every interface. Concrete classes are final: wrap one, never subclass it."""

    source: ClassVar[str] = ""
    """The publication a concrete class implements, as `Author year, arXiv number, equation`."""

    @property
    def provides(self) -> frozenset[str]:
        """Capabilities this configured instance offers."""
        return frozenset()

    @property
    def requires(self) -> tuple[Requirement, ...]:
        """Capabilities this configured instance needs of the other components of a run."""
        return ()

    def refusals(self, selection: Selection) -> tuple[tuple[str, str], ...]:
        """What it cannot serve in `selection`, beyond what capabilities say: a reason and a remedy each."""
        return ()

    def caveats(self, selection: Selection) -> tuple[str, ...]:
        """What is valid but unwise in `selection`, one sentence each."""
        return ()


def parameter(
    help: str, default: Any = attrs.NOTHING, *, factory: Any = None, validator: Any = None, same: Any = None
) -> Any:
    """An attrs field that carries its own description, shown by `diffkit show`.

    Args:
        help: one sentence: meaning, unit, source of the default.
        default: the default value; without it (and without `factory`) the field is required.
        factory: a callable that makes the default, for components and other objects.
        validator: an attrs validator; what it raises becomes a `ConfigError` naming the key.
        same: `same(a, b)`, whether two values are equal, where == does not say so in one word, as of arrays.
    """
    if factory is not None:
        default = attrs.Factory(factory)
    compared: dict[str, Any] = {} if same is None else {"eq": attrs.cmp_using(eq=same), "hash": False}
    return attrs.field(default=default, validator=validator, metadata={"help": help}, **compared)
