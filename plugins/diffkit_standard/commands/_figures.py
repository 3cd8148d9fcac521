"""Figures of several runs, set side by side where that means something."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from diffkit import documents
from diffkit.errors import InputError

__all__ = ["Row", "differing_settings", "folders_by_name", "read_runs", "side_by_side"]

_IDENTITY = {
    "metric": "the settings differ",
    "features": "the feature extractor differs",
    "dataset": "the data set differs",
    "reference": "the reference differs",
}


@attrs.frozen(kw_only=True)
class Row:
    """One metric over all runs.

    Args:
        name: the metric's.
        figures: by run; None where the run has no such figure.
        reason: why the figures may not be set side by side; empty where they may.
    """

    name: str
    figures: Mapping[str, Mapping[str, Any] | None]
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Values where they compare, the reason where they do not."""
        if self.reason:
            return {"comparable": False, "reason": self.reason}
        kept = ("value", "error", "count")
        values = {
            run: None if figure is None else {key: figure.get(key) for key in kept}
            for run, figure in self.figures.items()
        }
        return {"comparable": True, "values": values}


def read_runs(places: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """The figures of each run, by a name that tells it from the others.

    Raises:
        InputError: a place that is no run's folder, or a run without figures.
    """
    return {name: _figures(folder) for name, folder in folders_by_name(places).items()}


def folders_by_name(places: Sequence[Path]) -> dict[str, Path]:
    """The folder of each run, by its own name, or by its path where two have the same one."""
    folders = [place if place.is_dir() else place.parent for place in places]
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return dict(zip(names, folders, strict=True))


def side_by_side(runs: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """A row for every metric of any run."""
    metrics = dict.fromkeys(name for figures in runs.values() for name in figures)
    return [_row(name, {run: figures.get(name) for run, figures in runs.items()}) for name in metrics]


def differing_settings(places: Sequence[Path]) -> dict[str, list[str]]:
    """The keys of the configurations that are not the same in all runs, each with its values in order.

    Keys of `evaluation` are left out, and so is everything where a configuration cannot be read.
    """
    texts = [(place if place.is_dir() else place.parent) / "config.yaml" for place in places]
    if not all(text.is_file() for text in texts):
        return {}
    flat = [dict(_flattened(documents.read(text))) for text in texts]
    keys = dict.fromkeys(key for each in flat for key in each if not key.startswith("evaluation."))
    columns = {key: [each.get(key, "-") for each in flat] for key in keys}
    return {key: values for key, values in columns.items() if len(set(values)) > 1}


def _flattened(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a configuration by their keys; a component's own name stands under its key."""
    if not isinstance(value, dict | list):
        yield path.removesuffix(".name"), str(value)
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield from _flattened(inner, f"{path}.{key}" if path else str(key))


def _figures(folder: Path) -> dict[str, Any]:
    file = folder / "metrics.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} cannot be read ({error})",
            "the folder of a run that was evaluated",
            "Name a run's folder, and run `diffkit evaluate` on it",
        ) from error
    if not isinstance(found, dict) or not all(_is_figure(figure) for figure in found.values()):
        raise InputError(f"{file} does not hold figures", "what `diffkit evaluate` writes")
    return found


def _is_figure(figure: Any) -> bool:
    return (
        isinstance(figure, dict)
        and isinstance(figure.get("value"), int | float)
        and isinstance(figure.get("details"), dict)
    )


def _row(name: str, figures: Mapping[str, Mapping[str, Any] | None]) -> Row:
    there = {run: figure for run, figure in figures.items() if figure is not None}
    if len(there) < 2:
        return Row(name=name, figures=figures, reason=f"only {next(iter(there))} has it")
    differing = [
        f"{what} ({_by_run({run: figure['details'].get(key) for run, figure in there.items()})})"
        for key, what in _IDENTITY.items()
        if len({json.dumps(figure["details"].get(key), sort_keys=True) for figure in there.values()}) > 1
    ]
    if len({figure.get("count") for figure in there.values()}) > 1:
        counts = _by_run({run: figure.get("count") for run, figure in there.items()})
        differing.append(f"the number of samples differs ({counts})")
    return Row(name=name, figures=figures, reason="; ".join(differing))


def _by_run(values: Mapping[str, Any]) -> str:
    shown = {run: value if isinstance(value, str) else json.dumps(value) for run, value in values.items()}
    return ", ".join(f"{run}: {value}" for run, value in shown.items())
