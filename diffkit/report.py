"""The run's page: everything a run folder tells, in one HTML file that needs no network.

Pictures are embedded as data URIs, the page's policy forbids it to load anything, and every string
of the run is escaped. A piece that is missing or damaged is named on the page and hurts nothing else.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import attrs
import jinja2

from diffkit import compatibility, storage
from diffkit.errors import DiffkitError, InputError
from diffkit.interfaces.sde import GaussianSDE
from diffkit.registry import Registry, current, using
from diffkit.run_folder import RunFolder

__all__ = ["build", "chart", "write"]

_PICTURES = {
    "samples.png": "Sheet of the generated samples.",
    "forward.png": "Film strip of the forward process: each row turns an example into noise, left to right.",
    "reverse.png": "Film strip of the reverse process: each row turns noise into a sample, left to right.",
    "loss.png": "Training loss against the step: every value faintly, their running median as a line.",
}
_FRAMES = "frames.png"
_FRAMES_ALT = "Frames of the reverse process, one under the other, from noise to samples."
_RECORDS = ("config.yaml", "manifest.json", "metrics.json", "log.jsonl", "samples.npz")
_LABELS = {"samples": "samples", "floor": "real data (floor)", "noise": "pure noise"}


def build(run_folder: Path) -> Path:
    """Writes `report.html` into a run folder, whole or not at all, and returns its path.

    Raises:
        InputError: `run_folder` is not a folder, or holds nothing that a run leaves behind.
    """
    if not any((run_folder / name).is_file() for name in (*_RECORDS, *_PICTURES)):
        raise InputError(
            f"{run_folder} is not the folder of a run",
            f"It would hold some of {', '.join(_RECORDS)}",
            "Name a folder that `diffkit run` has written",
        )
    return write("report.html", _contents(RunFolder(run_folder)), run_folder / "report.html")


def write(template: str, contents: Mapping[str, Any], page: Path, *more: Path) -> Path:
    """Renders a template of diffkit's, or of a folder in `more`, to `page`, and returns `page`."""
    storage.write_text(page, _environment(more).get_template(template).render(contents))
    return page


@functools.cache
def _environment(more: tuple[Path, ...]) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader("diffkit"), jinja2.FileSystemLoader(more)]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _contents(run: RunFolder) -> dict[str, Any]:
    """Every name the template uses."""
    config, manifest = run.mapping("config.yaml"), run.mapping("manifest.json")
    log, shape = run.log(), run.sample_shape()
    others = sorted(
        path.name for path in run.folder.glob("[!.]*.png") if path.name not in (*_PICTURES, _FRAMES)
    )
    strips = len(shape) in (0, 4) and _gaussian(config)  # of images on their way to noise and back
    expected = _PICTURES if strips else ("samples.png", "loss.png")
    losses = [record["loss"] for record in log if _number(record.get("loss"))]
    components = _rows(manifest.get("components"), ("kind", "name", "distribution", "version"))
    return {
        "name": str(manifest.get("name") or config.get("name") or run.folder.name),
        "chosen": config,
        "sampling": _mapping(config.get("sampling")),
        "schedule": config.get("schedule") or _mapping(config.get("sde")).get("schedule"),
        "manifest": manifest,
        "trained": log[-1].get("step") if log else None,
        "loss": median(losses[-max(1, len(losses) // 50) :]) if losses else None,
        "shape": shape,
        "pictures": {
            name: run.picture(name, alt) if name in expected or (run.folder / name).is_file() else None
            for name, alt in _PICTURES.items()
        },
        "frames": run.film(_FRAMES, _FRAMES_ALT) if (run.folder / _FRAMES).is_file() else None,
        "more": {
            name: run.picture(name, f"Figure {name.removesuffix('.png')} of this run.") for name in others
        },
        "figures": [_figure(name, _mapping(entry)) for name, entry in run.mapping("metrics.json").items()],
        "compatibility": _rows(
            manifest.get("compatibility"), ("status", "subject", "object", "reason", "remedy")
        ),
        "pairs": _pairs({"diffkit", *(each["distribution"] for each in components)}),
        "components": components,
        **{key: _mapping(manifest.get(key)) for key in ("versions", "checksums", "timing")},
        "config": run.text("config.yaml"),
        "missing": run.missing,
    }


def _gaussian(config: dict[str, Any]) -> bool:
    """Whether the run's process has noise levels, as far as one can still tell."""
    try:
        return isinstance(current().create("sde", config.get("sde")), GaussianSDE)
    except (DiffkitError, TypeError):
        return True


def _pairs(distributions: set[str]) -> list[dict[str, str]]:
    """The matrix of these distributions: a page must not import a plugin that the run does without."""
    with using(Registry(tuple(info for info in current().infos if info.distribution in distributions))):
        return compatibility.matrix()


def _figure(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """A figure of merit as a row of the table and as bars."""
    details = _mapping(entry.get("details"))
    sources = {"samples": entry, **{kind: _mapping(details.pop(kind, None)) for kind in ("floor", "noise")}}
    drawn = chart(name, {_LABELS[kind]: (kind, source) for kind, source in sources.items()})
    readings = dict(drawn["readings"].values())
    samples, floor = (readings.get(kind) for kind in ("samples", "floor"))
    higher = details.pop("higher_is_better", None)
    return drawn | {
        **{kind: readings.get(kind) for kind in sources},
        "count": entry.get("count", ""),
        "held_out": sources["floor"].get("count"),
        # Of a floor that its error may bring to zero no ratio says anything.
        "ratio": f"{samples.value / floor.value:.3g}"
        if samples and floor and floor.value > floor.error
        else "",
        "details": details,
        "better": "" if higher is None else "higher" if higher else "lower",
    }


def chart(name: str, sources: Mapping[str, tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """What the macro `bars` draws: by label, the kind of bar and the figure `{value, error}`."""
    readings = {
        label: (
            kind,
            _Reading(value=entry["value"], error=entry["error"] if _number(entry.get("error")) else 0.0),
        )
        for label, (kind, entry) in sources.items()
        if _number(entry.get("value"))
    }
    axis = _Axis.around([reading for _, reading in readings.values()])
    return {"name": name, "readings": readings, "axis": axis, "better": "", "details": {}}


@attrs.frozen(kw_only=True)
class _Reading:
    """A value and its standard error, 0 where there is none."""

    value: float
    error: float

    def __str__(self) -> str:
        """To the second digit of the error: 12.345 and 0.5 give "12.35 ± 0.50"."""
        if self.error <= 0:
            return f"{self.value:.4g}"
        digits = max(0, 1 - math.floor(math.log10(self.error)))
        return f"{self.value:.{digits}f} ± {self.error:.{digits}f}"


@attrs.frozen(kw_only=True)
class _Axis:
    """The axis that a figure's bars share, from `low` to `high`, in decades if `logarithmic`."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def around(cls, readings: Sequence[_Reading]) -> _Axis:
        """Logarithmic where all values are positive and span more than a factor of ten, else from zero."""
        values = [_within(reading.value) for reading in readings]
        ends = [_within(reading.value + sign * reading.error) for reading in readings for sign in (-1, 1)]
        if values and min(values) > 0 and max(values) > 10 * min(values):
            low, high = math.floor(math.log10(0.8 * min(values))), math.ceil(math.log10(max(ends)))
            return cls(low=low, high=high, logarithmic=True)
        return cls(
            low=0.0 - _round_up(-min(0.0, *ends, 0.0)),
            high=_round_up(max(0.0, *ends, 0.0)),
            logarithmic=False,
        )

    def place(self, value: float) -> float:
        """Where a value lies, in percent of the axis."""
        value = _within(value)
        if self.logarithmic:
            value = math.log10(value) if value > 0 else self.low
        return round(100.0 * min(1.0, max(0.0, (value - self.low) / ((self.high - self.low) or 1.0))), 2)

    def span(self, start: float, end: float) -> str:
        """CSS that lays a box from one value to another."""
        left, right = sorted((self.place(start), self.place(end)))
        return f"left: {left:g}%; width: {right - left:.4g}%"

    @property
    def ticks(self) -> list[float]:
        if not self.logarithmic:
            return sorted({self.low, 0.0, self.high})
        low, high = int(self.low), int(self.high)
        return [10.0**power for power in range(low, high + 1, -(-(high - low) // 3) or 1)]


def _within(value: float) -> float:
    """Kept where sums, logarithms and powers of ten are finite, and not denormal."""
    return 0.0 if abs(value) < 1e-300 else max(-1e300, min(1e300, value))


def _round_up(value: float) -> float:
    """The next number with one digit: 9.36 gives 10, 23 gives 30, 0 stays."""
    unit = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return math.ceil(value / unit) * unit


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _mapping(value: Any) -> dict[str, Any]:
    return {str(key): entry for key, entry in value.items()} if isinstance(value, dict) else {}


def _rows(value: Any, keys: Sequence[str]) -> list[dict[str, str]]:
    """Records with these keys and no others, "" where one is missing."""
    records = value if isinstance(value, list) else []
    return [{key: str(_mapping(record).get(key) or "") for key in keys} for record in records]
