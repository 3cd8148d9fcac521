"""`diffkit compare`: figures of several runs in a table and as bars, where they may be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from diffkit.cli import complete, options
from diffkit.cli.table import table
from diffkit.errors import InputError
from diffkit_standard.commands._figures import (
    Row,
    differing_settings,
    folders_by_name,
    read_runs,
    side_by_side,
)

__all__ = ["command"]


@click.command("compare")
@click.argument(
    "runs",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
    metavar="RUN...",
    shell_complete=complete.runs,
)
@click.option("--metric", "wanted", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option(
    "--plot", type=click.Path(path_type=Path), help="Where the bars go, a PNG: by default beside the runs."
)
@click.option("--html", type=click.Path(path_type=Path), help="Also write a page, with the runs' samples.")
@options.quiet
@options.json_output
def command(
    runs: tuple[Path, ...],
    wanted: tuple[str, ...],
    plot: Path | None,
    html: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Set the figures of several runs side by side.

    RUN is a run's folder. Figures of which the extractor, the reference, the settings or the number of
    samples differ are not set side by side: the metric is named with the reason, and the others are shown.
    Where no metric is left, or one named by --metric is refused, the exit status is 2.
    """
    if len(runs) < 2 or len({run.resolve() for run in runs}) < len(runs):
        raise click.UsageError("give two runs at least, each once")
    rows = _chosen(side_by_side(read_runs(runs)), wanted)
    kept, refused = ([row for row in rows if bool(row.reason) is state] for state in (False, True))
    if not kept or (wanted and refused):
        raise InputError(
            f"The figures cannot be set side by side: {_told(refused) or 'the runs have none'}",
            "runs of one data set, measured through one extractor on equally many samples",
            "Evaluate the runs anew with equal settings (`diffkit evaluate RUN --set ...`)",
        )
    settings = differing_settings(runs)
    made = {"plot": _draw(kept, plot or _beside(runs))}
    if html is not None:
        made["html"] = _write(html, kept, refused, runs, settings)
    files = {name: str(path) for name, path in made.items()}
    if as_json:
        click.echo(json.dumps({"metrics": {row.name: row.as_json() for row in rows}, **files}, indent=2))
        return
    if not (quiet or html):
        click.echo(f"next: add --html {files['plot'].removesuffix('.png')}.html for a page", err=True)
    cells = [
        [run, *(each[place] for each in settings.values()), *(_cell(row.figures[run]) for row in kept)]
        for place, run in enumerate(kept[0].figures)
    ]
    click.echo(table(["run", *settings, *(row.name for row in kept)], cells))
    if refused:
        click.echo(f"\nLeft out: {_told(refused)}.")
    click.echo(f"\nbars: {files['plot']}")
    if html is not None:
        click.echo(f"page: {files['html']}")


def _chosen(rows: Sequence[Row], wanted: Sequence[str]) -> list[Row]:
    known = [row.name for row in rows]
    for name in wanted:
        if name not in known:
            raise InputError(f"No run has the figure {name!r}", f"one of {', '.join(known) or 'none'}")
    return [row for row in rows if not wanted or row.name in wanted]


def _told(rows: Sequence[Row]) -> str:
    """The metrics that are refused, those of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        by_reason.setdefault(row.reason, []).append(row.name)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())


def _cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "-"
    error = figure.get("error")
    return f"{figure['value']:.5g}" + ("" if error is None else f" +- {error:.2g}")


def _beside(runs: Sequence[Path]) -> Path:
    """A file beside the first run, named after all of them."""
    key = hashlib.sha256(json.dumps([str(run.resolve()) for run in runs]).encode()).hexdigest()[:10]
    first = runs[0] if runs[0].is_dir() else runs[0].parent
    return first.resolve().parent / f"comparison-{key}.png"


def _draw(rows: Sequence[Row], path: Path) -> Path:
    from diffkit import plots  # slow to import
    from diffkit_standard.commands._bars import bars

    _require_folder(path, "--plot")
    return plots.save(bars(rows), path)


def _write(
    path: Path,
    kept: Sequence[Row],
    refused: Sequence[Row],
    runs: Sequence[Path],
    settings: Mapping[str, Sequence[str]],
) -> Path:
    from diffkit_standard.commands._page import page

    _require_folder(path, "--html")
    return page(kept, refused, folders_by_name(runs), settings, path)


def _require_folder(path: Path, option: str) -> None:
    if not path.parent.is_dir() or path.is_dir():
        place = f"{path} is a folder" if path.is_dir() else f"{path.parent} is no folder"
        raise InputError(place, "a file to write, in a folder that is there", f"Choose another {option}")
