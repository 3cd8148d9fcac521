"""What a person may point at: a configuration, a run's folder, its manifest, or a saved model."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from diffkit import checkpoint
from diffkit.compatibility import check
from diffkit.config import ExperimentConfig, selection_of
from diffkit.errors import CheckpointError, ComponentError, ConfigError, DiffkitError
from diffkit.identity import invocation
from diffkit.registry import components, create, current
from diffkit.run_folder import RunFolder

__all__ = ["Target"]


@attrs.frozen(kw_only=True)
class Target:
    """A path, understood.

    Args:
        config: the experiment it stands for.
        saved: the folder of the trained model it brings, if any.
        runs: where the run stands, if it is one.
        recorded: the components that its manifest names, if it is one.
    """

    config: ExperimentConfig
    saved: Path | None = None
    runs: Path | None = None
    recorded: tuple[dict[str, str], ...] = ()

    @classmethod
    def at(cls, path: str | Path, overrides: Iterable[str] = ()) -> Target:
        """What stands at `path`, with `a.b=value` overrides of its configuration.

        Raises:
            ConfigError: no configuration, or a wrong one.
            CheckpointError: a folder that is neither a run nor a model.
            ComponentError: a component that is not there; if it is of a local file, with what to type.
        """
        place, overrides = Path(path), tuple(overrides)
        folder = place.parent if place.name == "manifest.json" else place
        if not folder.is_dir() or (folder == place.parent and not place.is_file()):
            return cls(config=ExperimentConfig.from_file(place, overrides))
        saved = checkpoint.model_folder(folder) if _has_model(folder) else None
        text = folder / "config.yaml"
        if text.is_file():
            pieces = RunFolder(folder)
            recorded = tuple(pieces.mapping("manifest.json").get("components", ()))
            if place != folder and not recorded:
                said = pieces.missing.get("manifest.json", f"{place} names no components")
                raise CheckpointError(said, "a manifest that diffkit wrote", f"Name {text} instead")
            try:
                config = ExperimentConfig.from_file(text, overrides)
                same = _trained_by(config) == _trained_by(ExperimentConfig.from_file(text))
            except ComponentError as error:
                raise _with_plugins(error, recorded, path) from error
            saved = saved if same else None  # the overrides may ask for another model than the run's
            return cls(config=config, saved=saved, runs=folder.absolute().parent, recorded=recorded)
        if saved is None:
            raise CheckpointError(
                f"{folder} is neither a run nor a trained model",
                "a configuration (YAML), a run's folder, its manifest.json, or a saved model",
                "Check the path; runs and models are kept in `runs` unless --runs says otherwise",
            )
        mapping = _mapping_of(saved)
        try:
            config = ExperimentConfig.from_mapping(mapping, overrides)
        except ComponentError as error:
            made_of = tuple(checkpoint.read_description(saved).get("components", ()))
            raise _with_plugins(error, made_of, path) from error
        if _trained_by(config) != _trained_by(ExperimentConfig.from_mapping(mapping)):
            raise ConfigError(
                f"--set changes how {saved} was trained",
                "keys of sampling and evaluation, where a saved model is used",
                "Train another model from a configuration, or leave these keys out",
            )
        asked = any(each.startswith(("sampling=", "sampling.sampler")) for each in overrides)
        return cls(config=config if asked else _with_a_sampler(config), saved=saved)


def _with_a_sampler(config: ExperimentConfig) -> ExperimentConfig:
    """The experiment of a model alone; where the default sampler cannot serve it, with the first that can."""
    if _works(config):
        return config
    for info in components("sampler"):
        with contextlib.suppress(DiffkitError):
            sampling = attrs.evolve(config.sampling, sampler=create("sampler", info.name))
            if _works(other := attrs.evolve(config, sampling=sampling)):
                return other
    return config


def _works(config: ExperimentConfig) -> bool:
    return all(finding.status != "refused" for finding in check(selection_of(config)))


def _with_plugins(
    error: ComponentError, recorded: tuple[dict[str, str], ...], path: str | Path
) -> ComponentError:
    """The error, with what to type or to install where a part of a run or a model is not here."""
    here = {(info.kind, info.name, bool(info.file)) for info in current().infos}
    gone = [each for each in recorded if (each["kind"], each["name"], "plugin" in each) not in here]
    if not gone:
        return error
    if any("plugin" in each for each in gone):
        asked = "The run was made of a local file, which is used where it is named, and nowhere else"
        return ComponentError(error.got, asked, f"Type: {invocation(recorded, path)}")
    said = [
        f"the {each['kind']} {each['name']!r} of {each['distribution']} {each['version']}" for each in gone
    ]
    install = shlex.join(["pip", "install", *dict.fromkeys(each["distribution"] for each in gone)])
    return ComponentError(
        f"{path} was made with {' and '.join(said)}, not installed here",
        "what it was made with",
        f"Install it ({install})",
    )


def _trained_by(config: ExperimentConfig) -> tuple[Any, ...]:
    return config.dataset, config.network, config.sde, config.objective, config.training


def _has_model(folder: Path) -> bool:
    """Whether a folder is a model, or a run whose model still stands where it was."""
    try:
        return (checkpoint.model_folder(folder) / checkpoint.DESCRIPTION).is_file()
    except CheckpointError:
        if (folder / "config.yaml").is_file():
            return False
        raise


def _mapping_of(model: Path) -> dict[str, Any]:
    """A configuration for a saved model, from its description."""
    described = checkpoint.read_description(model)
    keys = ("seed", "dataset", "network", "sde", "objective", "training")
    return {"name": model.resolve().name, **{key: described[key] for key in keys}}
