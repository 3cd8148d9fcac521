"""The command line called in this process."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from diffkit.cli import main as cli

Outcome = tuple[int, str, str]


@pytest.fixture
def diffkit_(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Runs a command in this process: its exit status, stdout and stderr."""
    handler = signal.getsignal(signal.SIGTERM)

    def call(*arguments: str) -> Outcome:
        with warnings.catch_warnings(), pytest.raises(SystemExit) as left:
            cli.main(arguments)
        out, err = capsys.readouterr()
        code = left.value.code
        return (code if isinstance(code, int) else 0), out, err

    yield call
    signal.signal(signal.SIGTERM, handler)
