"""What a person sees while something takes longer than two seconds: always on stderr, never on stdout.

A live bar on a terminal, a plain line now and then elsewhere. It is silent by itself; who wants to hear
says so around the work, as an `Experiment` does:

    with aloud():
        grid = diffkit.fit_grid(...)
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from contextvars import ContextVar
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

__all__ = ["Watch", "aloud", "watched"]

T = TypeVar("T")

_PATIENCE = 2.0  # seconds before anything is said
_INTERVAL = 10.0  # seconds between plain lines

_heard: ContextVar[bool] = ContextVar("heard", default=False)
_open: ContextVar[tuple[Watch, ...]] = ContextVar("open", default=())  # from the outermost to the innermost
_screen: ContextVar[Progress | None] = ContextVar("screen", default=None)


@contextlib.contextmanager
def aloud(wanted: bool = True) -> Iterator[None]:
    """Has the watches inside heard, or silenced; none outlives it."""
    token, around = _heard.set(wanted), len(_open.get())
    try:
        yield
    finally:
        _heard.reset(token)
        for left in reversed(_open.get()[around:]):  # by a generator that was not finished
            left.close()


def watched(items: Iterable[T], title: str, total: int, unit: str) -> Generator[T]:
    """The items, each a unit of a `Watch` once the next one is asked for."""
    with Watch(title, total, unit) as watch:
        for done, item in enumerate(items):
            watch.at(done)
            yield item


class Watch:
    """How far something is. One inside another stands below it; of two with one title the inner is mute.

    Args:
        title: what goes on, such as "training".
        total: how many units it has.
        unit: what they are called, in the plural.
        before: how many were done before, by a work that goes on here; they say nothing of the pace.
    """

    def __init__(self, title: str, total: int, unit: str, before: int = 0) -> None:
        self._title, self._total, self._unit, self._before = title, total, unit, before
        self._began = self._said = time.monotonic()
        self._around = _open.get()
        self._mute = not _heard.get() or title in (watch._title for watch in self._around)
        self._task: TaskID | None = None
        self._own: Progress | None = None

    def __enter__(self) -> Self:
        _open.set((*self._around, self))
        return self

    def close(self) -> None:
        """Ends it without a word."""
        if self not in _open.get():
            return
        _open.set(self._around)
        if self._own is not None:
            self._own.stop()
            _screen.set(None)
        elif self._task is not None and (screen := _screen.get()) is not None:
            screen.remove_task(self._task)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.close()
        if kind is None and not self._mute and not self._around and self.seconds > _PATIENCE:
            print(f"{self._title}: {self._total:,} {self._unit} in {self.seconds:.0f} s", file=sys.stderr)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def at(self, done: int, fact: str = "") -> None:
        """`done` units are done; `fact` is a word on how it goes, such as the loss."""
        if self._mute or self.seconds < _PATIENCE:
            return
        rate = (done - self._before) / self.seconds
        words = [*([fact] if fact else []), f"{rate:.3g} a second"]
        if sys.stderr.isatty() and not Console(stderr=True).is_dumb_terminal:
            self._draw(done, ", ".join(words))
        elif time.monotonic() - self._said >= _INTERVAL:
            self._said = time.monotonic()
            left = [f"{(self._total - done) / rate:.0f} s left"] if rate else []
            told = ", ".join([f"{done:,} of {self._total:,} {self._unit}", *words, *left])
            print(f"{self._title}: {told}", file=sys.stderr, flush=True)

    def _draw(self, done: int, fact: str) -> None:
        screen = _screen.get()
        if screen is None:
            screen = self._own = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[fact]}"),
                console=Console(stderr=True),
                transient=True,
            )
            _screen.set(screen)
            screen.start()
        if self._task is None:
            self._task = screen.add_task(self._title, total=self._total, fact=fact)
        screen.update(self._task, completed=done, fact=fact)
