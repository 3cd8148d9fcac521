"""Several runs on one page of the reports' look: figures, sheets beside each other, settings that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffkit import report
from diffkit.run_folder import BUDGET, RunFolder
from diffkit_standard.commands._figures import Row

__all__ = ["page"]

_TEMPLATES = Path(__file__).with_name("templates")


def page(
    kept: Sequence[Row],
    refused: Sequence[Row],
    folders: Mapping[str, Path],
    settings: Mapping[str, Sequence[str]],
    path: Path,
) -> Path:
    """Writes the page to `path`, whole or not at all, and returns `path`.

    Args:
        kept, refused: the metrics that may be set side by side, and those that may not.
        folders: of the runs, by name.
        settings: what differs, a value for each run.
    """
    opened = {name: RunFolder(folder, BUDGET // len(folders)) for name, folder in folders.items()}
    contents = {
        "runs": list(folders),
        "charts": [_chart(row) for row in kept],
        "refused": refused,
        "sheets": {name: run.picture("samples.png", f"Samples of {name}.") for name, run in opened.items()},
        "missing": {name: list(run.missing.values()) for name, run in opened.items()},
        "settings": settings,
        "places": {name: str(folder) for name, folder in folders.items()},
    }
    return report.write("compare.html", contents, path, _TEMPLATES)


def _chart(row: Row) -> dict[str, Any]:
    """A bar for every run; those of real data, where they all have the same floor, as one more."""
    there = {run: figure for run, figure in row.figures.items() if figure is not None}
    floors = [figure["details"].get("floor") for figure in there.values()]
    sources = {run: ("samples", figure) for run, figure in there.items()}
    if isinstance(floors[0], dict) and all(floor == floors[0] for floor in floors):
        sources["real data (floor)"] = ("floor", floors[0])
    higher = {figure["details"].get("higher_is_better") for figure in there.values()}
    better = {True: "higher", False: "lower"}.get(higher.pop(), "") if len(higher) == 1 else ""
    return report.chart(row.name, sources) | {"better": better}
