"""What a shell is told when the user presses Tab, from metadata and folders alone.

Click's completion: `eval "$(_DIFFKIT_COMPLETE=bash_source diffkit)"`, likewise for zsh and fish.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from diffkit.discovery import KINDS
from diffkit.registry import components

__all__ = ["kinds", "names", "runs"]

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def kinds(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The kinds of components."""
    return [CompletionItem(kind) for kind in KINDS if kind.startswith(begun)]


def names(kind: str = "") -> Completion:
    """Names of a kind, by default of the one typed before."""

    def of_kind(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        known = [info for info in components() if info.kind == (kind or context.params.get("kind"))]
        found = {info.name if info.status == "registered" else info.identity for info in known if info.usable}
        return [CompletionItem(name) for name in sorted(found) if name.startswith(begun)]

    return of_kind


def runs(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Folders of runs and models, where --runs says or in ./runs, and whatever files the shell finds."""
    home = context.params.get("runs")
    home = home if isinstance(home, Path) else Path("runs")
    found = map(str, sorted([*home.glob("[!.]*/manifest.json"), *home.glob("models/[!.]*/model.json")]))
    folders = [CompletionItem(file.rpartition("/")[0]) for file in found if file.startswith(begun)]
    return [*folders, CompletionItem(begun, "file")]
