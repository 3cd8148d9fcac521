"""Whose plugins may be used: the user's word, in a file of theirs or on the command line, never in a run's.

The file is `config.toml` in the user's folder for diffkit (`~/.config/diffkit` on Linux), or the one that the
variable DIFFKIT_CONFIG names:

    allow = ["acme-diffusion"]       # where there is this line: only these, and diffkit's own
    deny = ["acme-rival:twin"]       # never these

Each entry is a distribution, or `distribution:name`, one of its components. At one place `deny` weighs more
than `allow`; what the command line says of a component weighs more than what the file says.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import attrs

from diffkit.errors import ConfigError

__all__ = ["Policy", "denials", "normalised", "using"]


@attrs.frozen
class Policy:
    """What is said at one place.

    Args:
        allow: if not empty, only these and diffkit's own; deny: never these.
        where: the place, for messages.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    where: str = "the command line"

    def verdict(self, distribution: str, name: str) -> str | None:
        """Why a component is denied, empty where it is allowed; None where nothing is said of it."""
        words = {_pattern(distribution), _pattern(f"{distribution}:{name}")}
        denied = [entry for entry in self.deny if _pattern(entry) in words]
        if denied:
            return f"{self.where} denies {denied[0]!r}"
        if words & {_pattern(entry) for entry in self.allow}:
            return ""
        limited = self.allow and normalised(distribution) != "diffkit"
        return f"{self.where} allows only {', '.join(self.allow)}" if limited else None


def denials() -> Callable[[str, str], str]:
    """The policy in force: a function of distribution and name that says why it is denied, or nothing.

    Raises:
        ConfigError: the user's file cannot be read, or is not of its form.
    """
    places = (*_spoken.get(), _of_user())

    def denial(distribution: str, name: str) -> str:
        said = (place.verdict(distribution, name) for place in places)
        return next((word for word in said if word is not None), "")

    return denial


_spoken: ContextVar[tuple[Policy, ...]] = ContextVar("diffkit policy", default=())


@contextlib.contextmanager
def using(policy: Policy) -> Iterator[None]:
    """Puts `policy` before what was said so far, for what is scanned from now on."""
    token = _spoken.set((policy, *_spoken.get()))
    try:
        yield
    finally:
        _spoken.reset(token)


def normalised(distribution: str) -> str:
    """A distribution's name in the form in which names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _pattern(entry: str) -> tuple[str, str]:
    distribution, _, name = entry.partition(":")
    return normalised(distribution), name


def _of_user() -> Policy:
    """What the user's file says; nothing where there is none."""
    import click

    named = os.environ.get("DIFFKIT_CONFIG")
    path = Path(named or Path(click.get_app_dir("diffkit"), "config.toml"))
    if not named and not os.access(path, os.F_OK):  # which asks of another's home, too, without an error
        return Policy()
    import tomllib

    try:
        said: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}, the user's configuration, cannot be read: {error}") from error
    lists = all(isinstance(v, list) and all(isinstance(e, str) for e in v) for v in said.values())
    if said.keys() - {"allow", "deny"} or not lists:
        raise ConfigError(
            f"{path}, the user's configuration, holds {said}",
            "It takes two lists, `allow` and `deny`, of distributions or distribution:name",
        )
    return Policy(tuple(said.get("allow", ())), tuple(said.get("deny", ())), str(path))
