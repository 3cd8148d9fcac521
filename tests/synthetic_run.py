"""A run folder as an experiment leaves it, made from scikit-learn's digits without any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sklearn.datasets import load_digits

import diffkit
from diffkit import plots

CONFIG = """\
name: digits
seed: 0
dataset: {name: digits}
network: {name: unet, channels: 32}
sde: {name: vp, schedule: {name: cosine}}
objective: {name: noise}
training: {steps: 2000, batch_size: 128}
sampling: {sampler: {name: dpm-solver++}, steps: 20, count: 64}
"""


def metrics() -> dict[str, Any]:
    details = {
        "features": "classifier:digits:3f1c0d22",
        "reference": "digits/train, 1437 images",
        "floor": {"value": 4.31, "error": 0.22, "count": 360},
        "noise": {"value": 812.0, "error": 6.5, "count": 360},
    }
    inception = {
        "features": "classifier:digits:3f1c0d22",
        "floor": {"value": 9.31, "error": 0.05, "count": 360},
        "noise": {"value": 1.42, "error": 0.02, "count": 360},
    }
    return {
        "fid": {"value": 11.87, "error": 0.41, "count": 1000, "details": details},
        "inception-score": {"value": 8.92, "error": 0.07, "count": 1000, "details": inception},
    }


def manifest(name: str = "digits") -> dict[str, Any]:
    chosen = {
        "dataset": "digits",
        "network": "unet",
        "sde": "vp",
        "schedule": "cosine",
        "sampler": "dpm-solver++",
    }
    return {
        "name": name,
        "seed": 0,
        "created": "2025-01-01T12:00:00+00:00",
        "components": [
            {"kind": kind, "name": part, "distribution": "diffkit", "version": "0.1.0"}
            for kind, part in chosen.items()
        ],
        "versions": {"python": "3.11.9", "torch": "2.14.1", "diffkit": "0.1.0"},
        "threads": 2,
        "git": "0123456789abcdef0123456789abcdef01234567",
        "model": "../models/digits-1f2e3d4c",
        "checksums": {"samples.npz": "ab" * 32, "config.yaml": "cd" * 32},
        "compatibility": [
            {
                "status": "caveat",
                "subject": "dpm-solver++",
                "object": "class-guidance",
                "reason": "Guidance replaces the model between steps, so the order falls where it switches",
                "remedy": "Keep the scale constant",
            }
        ],
        "command": "diffkit run runs/digits-1f2e3d4c",
        "timing": {"training": 141.2, "sampling": 1.93, "evaluation": 6.4},
    }


def make_run(folder: Path, name: str = "digits") -> Path:
    """Writes every piece of a run into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures, labels = _digits(64)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "manifest.json").write_text(json.dumps(manifest(name)))
    (folder / "metrics.json").write_text(json.dumps(metrics()))
    np.savez(folder / "samples.npz", x=2 * pictures - 1, label=labels, index=np.arange(64))
    steps, losses = _losses()
    records = (json.dumps({"step": int(s), "loss": float(v)}) for s, v in zip(steps, losses, strict=True))
    (folder / "log.jsonl").write_text("\n".join(records) + "\n")

    noising = _noising(pictures[:6])
    times = [f"t = {t:.2f}" for t in np.linspace(0, 1, len(noising))]
    _film(noising[::-1], times[::-1]).save(folder / "frames.png", pnginfo=_captions(times[::-1]))
    plots.save(plots.sheet(pictures, labels), folder / "samples.png")
    plots.save(plots.film_strip(noising, times), folder / "forward.png")
    plots.save(plots.film_strip(noising[::-1], times[::-1]), folder / "reverse.png")
    plots.save(plots.loss_curve(steps, losses), folder / "loss.png")
    curves = {"vp, cosine": diffkit.create("sde", "vp", schedule="cosine")}
    plots.save(plots.schedules(curves), folder / "schedule.png")
    plots.save(plots.scatter(pictures[:, 0, 3, 2:4]), folder / "two-pixels.png")
    return folder


def _film(frames: NDArray[np.float32], times: list[str]) -> Image.Image:
    """The frames under each other, each a row of pictures."""
    assert len(frames) == len(times)
    rows = [np.concatenate([*frame[:, 0]], axis=1) for frame in frames]
    return Image.fromarray((255 * np.concatenate(rows)).astype(np.uint8))


def _captions(times: list[str]) -> PngInfo:
    text = PngInfo()
    text.add_text("captions", json.dumps(times))
    return text


def _digits(count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    data = load_digits()
    return (data.images[:count, None] / 16).astype(np.float32), data.target[:count].astype(np.int64)


def _noising(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    generator = np.random.default_rng(0)
    noise = generator.standard_normal(pictures.shape)
    angles = np.linspace(0, np.pi / 2, 10)
    frames = [np.cos(a) * (2 * pictures - 1) + np.sin(a) * noise for a in angles]
    return np.clip((np.stack(frames) + 1) / 2, 0, 1).astype(np.float32)


def _losses() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    steps = np.arange(1, 2001)
    generator = np.random.default_rng(0)
    return steps, (0.08 + 0.9 * np.exp(-steps / 150)) * generator.lognormal(0, 0.15, len(steps))
