"""Ctrl-C and SIGTERM while training: the step in hand is finished and saved; a second one leaves at once."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn, Self

from diffkit.sharding import largest

__all__ = ["Interruption"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Notes the first signal instead of acting on it; only the main thread can, elsewhere nothing changes."""

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._number = 0

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        self._give_back()

    def asked(self) -> bool:
        """Whether any process of the group was signalled; all of them agree."""
        self._number = largest(self._number)
        return self._number > 0

    def leave(self) -> NoReturn:
        """Ends as the signal would have: KeyboardInterrupt, or exit status 143."""
        self._give_back()
        if self._number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + self._number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._number = number
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
