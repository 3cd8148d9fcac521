"""What tells one model from another and one run from another: names, keys, versions, checksums."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import diffkit
from diffkit import registry
from diffkit.config import ExperimentConfig, to_mapping
from diffkit.description import HARMLESS, origins
from diffkit.errors import ComponentError
from diffkit.selection import Selection, nested

__all__ = [
    "KEY",
    "components_used",
    "invocation",
    "model_name",
    "require_recorded",
    "run_name",
    "software",
]

KEY = 10
"""Letters of the key that a model's or a run's name ends with."""

_TRAINS = ("dataset", "network", "sde", "objective", "seed")


def model_name(config: ExperimentConfig) -> str:
    """A name that tells the model's make, and a key of all that determines its training.

    That is: data (configuration and fingerprint), network, process, objective, training, seed, and the
    version of every distribution that supplies one of them. Reads the training split.
    """
    written = to_mapping(config)
    training = {key: value for key, value in written["training"].items() if key not in HARMLESS}
    determined = {key: written[key] for key in _TRAINS} | {"training": training}
    if config.evaluation.track is not None:  # it determines which checkpoint is the best one
        determined["track"] = {key: written["evaluation"][key] for key in ("track", "features")}
    determined["fingerprint"] = config.dataset.fingerprint()
    parts = (config.dataset, config.network, config.sde, config.objective)
    determined["suppliers"] = sorted({f"{info['distribution']} {info['version']}" for info in origins(parts)})
    name = registry.current().name
    schedule = [name(inner) for kind, inner in nested(config.sde) if kind == "schedule"]
    words = [config.name, name(config.sde), *schedule, name(config.network), name(config.objective)]
    return "-".join([_plain(word) for word in words] + [_key(determined)])


def run_name(config: ExperimentConfig) -> str:
    """The experiment's name and a key of the whole resolved configuration."""
    return f"{config.name}-{_key(to_mapping(config))}"


def components_used(selection: Selection) -> list[dict[str, str]]:
    """Every component of a selection, nested ones and a sampler's own grid too, each with its origin.

    That is: distribution and version, and for a local file (`--plugin`) its checksum and what to type.
    """
    chosen = [component for _, component in selection.components]
    if not selection.all("grid"):
        chosen += [registry.create("grid", sampler.default_grid) for sampler in selection.all("sampler")]
    return [dict(pairs) for pairs in dict.fromkeys(tuple(each.items()) for each in origins(chosen))]


def require_recorded(recorded: Iterable[Mapping[str, str]], selection: Selection) -> None:
    """Refuses a selection in which a component is of another origin or version than a manifest records.

    Raises:
        ComponentError: naming each of them, with both versions.
    """
    changed, here = [], components_used(selection)
    for then in recorded:
        key, made = _made_of(then)
        now = [each for each in here if _made_of(each)[0] == key]
        if now and made not in [_made_of(each)[1] for each in now]:
            said = " and ".join(map(_release, now))
            changed.append(f"the {then['kind']} {then['name']!r} was of {_release(then)}, and is of {said}")
    if changed:
        raise ComponentError(
            f"The run was made of other versions: {'; '.join(changed)}",
            "the versions that its manifest records",
            "Install these, or go on with what is here (--any-version)",
        )


def invocation(recorded: Iterable[Mapping[str, str]], target: str | Path) -> str:
    """The command that makes a run again: the local files that it was made of, and where it stands."""
    plugins = [word for each in recorded if "plugin" in each for word in ("--plugin", each["plugin"])]
    return shlex.join(["diffkit", *plugins, "run", str(target)])


def software() -> dict[str, str]:
    """Versions of Python, of diffkit and of the libraries that results depend on."""
    libraries = ("torchvision", "accelerate", "numpy", "scipy", "safetensors")
    found = {
        "python": platform.python_version(),
        "diffkit": diffkit.__version__,
        "torch": str(torch.__version__),  # with its build, which the metadata leave out
    }
    for library in libraries:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    found["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return found


def git_commit(folder: Path) -> str | None:
    """The commit checked out around `folder`, with `+` where files differ from it; None outside git."""
    call = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        answer = subprocess.run(call, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def _made_of(component: Mapping[str, str]) -> tuple[tuple[str, str], tuple[str, str]]:
    """What it is, and whose."""
    return (component["kind"], component["name"]), (component["distribution"], component["version"])


def _release(component: Mapping[str, str]) -> str:
    return f"{component['distribution']} {component['version'][:19]}"  # a checksum is cut short


def _key(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY]


def _plain(word: str) -> str:
    """A word fit for a file name."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in word).strip("-")
