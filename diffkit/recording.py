"""What a run leaves in its folder, besides pictures and figures: samples, configuration, log, manifest."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
import torch

from diffkit import documents, identity, plots, storage, tracking
from diffkit.checkpoint import best_step
from diffkit.config import ExperimentConfig, to_mapping
from diffkit.errors import ConfigError
from diffkit.interfaces.dataset import Dataset
from diffkit.interfaces.metric import Measurement
from diffkit.journal import read_log
from diffkit.plots import gallery
from diffkit.run_folder import RunFolder
from diffkit.sampling import SampleResult
from diffkit.selection import Finding, Selection

__all__ = ["ensure_writable", "write_figures", "write_record", "write_samples"]

_CHECKED = ("config.yaml", "samples.npz", "metrics.json", "log.jsonl", tracking.FILE)


def write_samples(folder: Path, dataset: Dataset, result: SampleResult) -> None:
    """Writes `samples.npz` (x float32, label and index int64) and `samples.png` into a folder.

    They are kept in plain units, images in [-1, 1]: what a sampler puts outside is no colour.
    """
    ensure_writable(folder)
    x = result.x.cpu()
    plain = dataset.to_plain(x)
    kept = plain.clamp(-1.0, 1.0) if dataset.spec().image else plain
    with storage.replacing(folder / "samples.npz") as unfinished, unfinished.open("wb") as file:
        np.savez(file, x=kept.float().numpy(), label=result.label.numpy(), index=result.index.numpy())
    plots.save(gallery.sheet(dataset, x, result.label), folder / "samples.png")


def write_record(
    folder: Path,
    config: ExperimentConfig,
    selection: Selection,
    findings: Sequence[Finding],
    *,
    model: Path,
    step: int,
    timing: Mapping[str, float],
) -> Path:
    """Writes `config.yaml`, the model's `log.jsonl` with its curve, and `manifest.json`; returns the last.

    Args:
        folder: the run's.
        config: the resolved configuration.
        selection: every component used.
        findings: what compatibility had to say.
        model: the model's folder.
        step: of the checkpoint that was sampled.
        timing: seconds, by stage.
    """
    ensure_writable(folder)
    storage.write_text(folder / "config.yaml", documents.dump(to_mapping(config)))
    log = list(read_log(model / "log.jsonl"))
    if log:
        storage.write_text(folder / "log.jsonl", (model / "log.jsonl").read_text(encoding="utf-8"))
        curve = plots.loss_curve([line["step"] for line in log], [line["loss"] for line in log])
        plots.save(curve, folder / "loss.png")
        timing = {"training": log[-1]["seconds"], **timing}
    tracked = list(read_log(model / tracking.FILE))
    if tracked:
        storage.write_text(folder / tracking.FILE, (model / tracking.FILE).read_text(encoding="utf-8"))
        plots.save(plots.tracked(tracked, best_step(model)), folder / "figures-along-training.png")
    components = identity.components_used(selection)
    present = [name for name in _CHECKED if (folder / name).is_file()]
    manifest = {
        "name": config.name,
        "seed": config.seed,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "components": components,
        "versions": identity.software(),
        "threads": torch.get_num_threads(),
        "git": identity.git_commit(Path.cwd()),
        "data": config.dataset.fingerprint(),
        "model": os.path.relpath(model, folder),
        "checkpoint": step,
        "checksums": {name: storage.file_checksum(folder / name) for name in present},
        "compatibility": [attrs.asdict(finding) for finding in findings],
        "command": identity.invocation(components, folder),
        "timing": {stage: round(seconds, 2) for stage, seconds in timing.items()},
    }
    storage.write_text(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    return folder / "manifest.json"


def write_figures(folder: Path, figures: Mapping[str, Measurement], name: str) -> None:
    """Writes figures under a name into a run's folder, whose manifest then holds the file's checksum."""
    ensure_writable(folder)
    plain = {key: attrs.asdict(figure) for key, figure in figures.items()}
    storage.write_text(folder / name, json.dumps(plain, indent=2) + "\n")
    manifest = RunFolder(folder).mapping("manifest.json")
    if name in manifest.get("checksums", {}):
        manifest["checksums"][name] = storage.file_checksum(folder / name)
        storage.write_text(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")


def ensure_writable(folder: Path) -> None:
    """Makes the folder and sees that files can be made in it, before anything costs time."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written to ({error.strerror or error})",
            "a folder to keep models, runs or samples in",
            "Choose another one (--runs, --out), or mend its permissions",
        ) from error
