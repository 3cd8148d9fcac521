"""What a person sees while something takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

__all__ = ["Watch"]

_PATIENCE = 2.0  # seconds before anything is said
_INTERVAL = 10.0  # seconds between plain lines


class Watch:
    """A live bar on a terminal, a plain line now and then elsewhere, silence if asked; always on stderr.

    Args:
        title: what goes on, such as "training".
        total: how many units it has.
        unit: what they are called, in the plural.
        quiet: say nothing.
    """

    def __init__(self, title: str, total: int, unit: str, *, quiet: bool = False) -> None:
        self._title, self._total, self._unit, self._quiet = title, total, unit, quiet
        self._began = self._said = time.monotonic()
        self._first: int | None = None
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is None and not self._quiet and self.seconds > _PATIENCE:
            print(f"{self._title}: {self._total:,} {self._unit} in {self.seconds:.0f} s", file=sys.stderr)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def at(self, done: int, fact: str = "") -> None:
        """`done` units are done; `fact` is a word on how it goes, such as the loss."""
        if self._first is None:
            self._first = done - 1
        if self._quiet or self.seconds < _PATIENCE:
            return
        if sys.stderr.isatty():
            self._draw(done, fact)
        elif time.monotonic() - self._said >= _INTERVAL:
            self._said = time.monotonic()
            rate = (done - self._first) / self.seconds
            left = (self._total - done) / rate
            words = [f"{done:,} of {self._total:,} {self._unit}", *([fact] if fact else [])]
            words += [f"{rate:.3g} a second", f"{left:.0f} s left"]
            print(f"{self._title}: {', '.join(words)}", file=sys.stderr, flush=True)

    def _draw(self, done: int, fact: str) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[fact]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self._title, total=self._total, fact=fact)
            self._bar.start()
        self._bar.update(self._task, completed=done, fact=fact)
