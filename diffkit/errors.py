"""One hierarchy of errors; each says what was got, what was expected and what to do.

The command line prints the message as one paragraph and leaves with `exit_status`: 2 where the
user can mend it (configuration, names, combinations, data), 1 where a run or a law failed.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ComponentError",
    "ConfigError",
    "DataError",
    "DiffkitError",
    "IncompatibleError",
    "InputError",
    "RunError",
]


class DiffkitError(Exception):
    """The root of them.

    Args:
        got: what was met.
        expected: what would have been right: a sentence, or a phrase that goes on after "Expected".
        remedy: what to do.
    """

    exit_status = 1

    def __init__(self, got: str, expected: str = "", remedy: str = "") -> None:
        self.got, self.expected, self.remedy = got, expected, remedy
        wanted = f"Expected {expected}" if expected[:1].islower() else expected
        parts = (got, wanted, remedy[:1].upper() + remedy[1:])
        super().__init__(" ".join(_sentence(part) for part in parts if part))


class InputError(DiffkitError):
    """Something the user gave cannot be used; nothing was lost."""

    exit_status = 2


class ConfigError(InputError):
    """A key or a value of a configuration."""


class ComponentError(InputError):
    """A component that is unknown, ambiguous, broken or refused by policy."""


class IncompatibleError(InputError):
    """Components that cannot work together."""


class DataError(InputError):
    """A data set, an array, an image or a mask."""


class CheckpointError(InputError):
    """A saved model that is missing, damaged or foreign."""


class RunError(DiffkitError):
    """A run that failed through no fault of its input."""


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "?", "!", ":")) else text + "."
