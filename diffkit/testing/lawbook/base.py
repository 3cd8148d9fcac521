"""What a law is: a named statement with its formula, and a check that raises where it does not hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor

from diffkit.errors import DataError, DiffkitError

__all__ = ["Law", "LawBroken", "NotApplicable", "book_of", "ensure", "ensure_close"]


_READERS = ("dataset", "conditioner", "operator")
"""Kinds that may read files of the user's, which need not be there; other kinds are given their data."""


class NotApplicable(Exception):  # noqa: N818 (an answer, not an error)
    """The law says nothing about this component; the message is the reason."""


class _Violation(Exception):  # noqa: N818 (becomes a LawBroken, which knows the law)
    """A counter-example."""


class LawBroken(DiffkitError):  # noqa: N818 (named for what it tells)
    """A component breaks a law: the law's name, the counter-example, and the formula."""

    def __init__(self, law: str, formula: str, counterexample: str) -> None:
        self.law, self.formula, self.counterexample = law, formula, counterexample
        super().__init__(f"The law {law} is broken: {counterexample}", f"It says: {formula}")


@attrs.frozen
class Law:
    """A law of one kind.

    Args:
        name: in kebab-case.
        kind: of component.
        formula: what the law says.
        check: `check(component)`; raises where the law does not hold, `NotApplicable` where it is silent.
    """

    name: str
    kind: str
    formula: str
    check: Callable[[Any], None]

    def __call__(self, component: Any) -> None:
        """Holds a component (an object) against the law.

        Raises:
            LawBroken: with the counter-example; also where the component raised an error.
            NotApplicable: with the reason.
        """
        try:
            self.check(component)
        except _Violation as violation:
            raise LawBroken(f"{self.kind}-{self.name}", self.formula, str(violation)) from None
        except (NotApplicable, KeyboardInterrupt):
            raise
        except Exception as error:
            if isinstance(error, DataError) and self.kind in _READERS:
                raise NotApplicable(f"the data cannot be read: {error}") from error
            said = f"{type(error).__name__}: {error}"
            raise LawBroken(f"{self.kind}-{self.name}", self.formula, f"it raised {said}") from error


def book_of(kind: str, *checks: Callable[[Any], None]) -> tuple[Law, ...]:
    """The laws of a kind from functions: `the_name` is the law's name, the docstring its formula."""
    return tuple(
        Law(
            name=function.__name__.replace("_", "-"),
            kind=kind,
            formula=re.sub(r"\s+", " ", function.__doc__ or "").strip(),
            check=function,
        )
        for function in checks
    )


def ensure(holds: bool | Tensor, counterexample: str) -> None:
    """Goes on where `holds` is true, else breaks the law with the counter-example."""
    if not bool(holds):
        raise _Violation(counterexample)


def ensure_close(
    got: Tensor, expected: Tensor, tolerance: Tensor | float, what: str, at: Tensor | None = None
) -> None:
    """|got - expected| <= tolerance everywhere; else the law is broken at the worst place.

    Args:
        what: the quantity, for the counter-example.
        at: the times at which it was evaluated, shaped like `got`.
    """
    ensure(
        got.shape == expected.shape, f"{what} has the shape {tuple(got.shape)}, not {tuple(expected.shape)}"
    )
    got, expected = got.detach().to(torch.float64), expected.detach().to(torch.float64)
    excess = (got - expected).abs() - tolerance
    excess = torch.where(got.isfinite(), excess, torch.inf)
    if got.numel() and bool((excess > 0).any()):
        place = int(excess.flatten().argmax())
        where = "" if at is None else f" at t = {float(at.flatten()[place]):.9g}"
        raise _Violation(
            f"{what}{where} is {float(got.flatten()[place]):.9g}, and "
            f"{float(expected.flatten()[place]):.9g} was expected"
        )
