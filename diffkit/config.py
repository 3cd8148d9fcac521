"""The experiment as it is written down: one frozen record a section, every field checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs.validators import and_, ge, gt, le, lt, optional

from diffkit import documents
from diffkit.compatibility import with_schedule
from diffkit.component import Component, parameter
from diffkit.errors import ConfigError
from diffkit.interfaces.conditioner import Conditioner
from diffkit.interfaces.dataset import Dataset
from diffkit.interfaces.features import Features
from diffkit.interfaces.grid import Grid
from diffkit.interfaces.metric import Metric
from diffkit.interfaces.network import Network
from diffkit.interfaces.objective import Objective
from diffkit.interfaces.sampler import Sampler
from diffkit.interfaces.schedule import Schedule
from diffkit.interfaces.sde import SDE
from diffkit.registry import current
from diffkit.selection import Selection
from diffkit.structure import fill, plain, settings

__all__ = [
    "EvaluationConfig",
    "ExperimentConfig",
    "SamplingConfig",
    "TrainingConfig",
    "selection_of",
    "to_mapping",
]


def _one_of_two(record: TrainingConfig, attribute: Any, value: int | None) -> None:
    if value is not None and record.steps is not None:
        raise ValueError("training.steps is given too; give one of them")


def _file_name(record: ExperimentConfig, attribute: Any, value: str) -> None:
    if not re.fullmatch(r"[\w][\w.-]*", value):
        raise ValueError("it names a folder: letters, digits, _ . and - only")


def _within_the_batch(record: TrainingConfig, attribute: Any, value: int) -> None:
    if value > record.batch_size:
        raise ValueError(f"training.batch_size is {record.batch_size}, too few for so many parts")


@attrs.frozen(kw_only=True)
class TrainingConfig:
    """How a network is trained. Give `steps` or `epochs`, not both."""

    steps: int | None = parameter(
        "optimiser steps; 2000 if neither this nor epochs is given", None, validator=optional(ge(1))
    )
    epochs: int | None = parameter(
        "passes over the training split, instead of steps", None, validator=[optional(ge(1)), _one_of_two]
    )
    batch_size: int = parameter("examples a step, over all processes", 128, validator=ge(1))
    learning_rate: float = parameter("peak learning rate of AdamW", 1e-3, validator=gt(0.0))
    decay: Literal["constant", "cosine"] = parameter(
        "how the learning rate ends: constant, or a cosine to zero", "cosine"
    )
    warmup: int = parameter(
        "steps over which the learning rate rises linearly; a tenth of the training at most",
        100,
        validator=ge(0),
    )
    weight_decay: float = parameter("AdamW's decoupled weight decay", 0.0, validator=ge(0.0))
    gradient_clip: float | None = parameter(
        "largest gradient norm; null = no clipping", 1.0, validator=optional(gt(0.0))
    )
    gradient_accumulation: int = parameter(
        "parts a batch is computed in, of one example at least", 1, validator=[ge(1), _within_the_batch]
    )
    ema: float | None = parameter(
        "decay of the weights' moving average; null = none", 0.999, validator=optional(and_(ge(0.0), lt(1.0)))
    )
    labels: bool = parameter("train conditionally on the data set's classes", False)
    label_dropout: float = parameter(
        "share of examples whose label is hidden, for guidance", 0.1, validator=and_(ge(0.0), le(1.0))
    )
    flip: bool = parameter("mirror images left to right at random", False)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = parameter(
        "arithmetic of the network; auto = bf16 where a short trial finds it faster", "auto"
    )
    save_every: int = parameter("steps between checkpoints", 500, validator=ge(1))
    keep_last: int = parameter("how many of the newest checkpoints stay", 1, validator=ge(1))


@attrs.frozen(kw_only=True)
class SamplingConfig:
    """How samples are drawn."""

    sampler: Sampler = parameter("the numerical method", "adams")
    grid: Grid | None = parameter("where the steps lie; null = the sampler's own choice", None)
    steps: int | None = parameter(
        "denoiser calls of a one-call sampler; null = the sampler's own choice",
        None,
        validator=optional(ge(1)),
    )
    count: int = parameter("how many samples the sheet shows", 64, validator=ge(1))
    batch_size: int = parameter("samples computed together", 64, validator=ge(1))
    conditioners: tuple[Conditioner, ...] = parameter("what bends the samples, from the inside out", ())


@attrs.frozen(kw_only=True)
class EvaluationConfig:
    """How samples are measured."""

    metrics: tuple[Metric, ...] = parameter("the figures to take", ())
    count: int = parameter("how many samples they rest on", 1000, validator=ge(2))
    features: Features = parameter("the view in which images are compared", "classifier")


@attrs.frozen(kw_only=True)
class ExperimentConfig:
    """The whole experiment."""

    name: str = parameter("names the run's folder", validator=_file_name)
    seed: int = parameter("of every random number", 0, validator=ge(0))
    dataset: Dataset = parameter("what is learnt")
    network: Network = parameter("what learns it", "unet")
    sde: SDE = parameter("how data turn into noise", "vp")
    schedule: Schedule | None = parameter("fills the process's own field `schedule`", None)
    objective: Objective = parameter("what the network predicts", "noise")
    training: TrainingConfig = parameter("how it is trained", factory=TrainingConfig)
    sampling: SamplingConfig = parameter("how samples are drawn", factory=SamplingConfig)
    evaluation: EvaluationConfig = parameter("how they are measured", factory=EvaluationConfig)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], overrides: Iterable[str] = ()) -> ExperimentConfig:
        """The experiment of a mapping like a configuration file's; components may be objects too.

        Overrides `a.b=value` come on top. `schedule` is put into the process, and None afterwards.

        Raises:
            ConfigError: an unknown, missing or wrong key.
            ComponentError: an unknown, ambiguous or broken component.
            IncompatibleError: a schedule for a process that takes none.
        """
        mapping = documents.apply(mapping, overrides, _default_name)
        config = fill(cls, mapping, "", current().make)
        if config.schedule is None:
            return config
        try:
            sde = with_schedule(config.sde, config.schedule)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"schedule does not suit sde: {error}") from error
        given = mapping.get("sde")
        explicit = isinstance(given, SDE) or (isinstance(given, Mapping) and "schedule" in given)
        if explicit and sde != config.sde:
            raise ConfigError(
                "schedule and sde.schedule are both given, and differ",
                "They are one and the same",
                "Give one of them",
            )
        return attrs.evolve(config, sde=sde, schedule=None)

    @classmethod
    def from_file(cls, path: str | Path, overrides: Iterable[str] = ()) -> ExperimentConfig:
        """The experiment of a YAML file, with `a.b=value` overrides; raises as `from_mapping` does."""
        return cls.from_mapping(documents.read(path), overrides)


def to_mapping(config: ExperimentConfig) -> dict[str, Any]:
    """The inverse of `ExperimentConfig.from_mapping`: every field written out, ready for YAML."""
    mapping: dict[str, Any] = plain(config, current().describe)
    if config.schedule is None:
        del mapping["schedule"]
    return mapping


def selection_of(config: ExperimentConfig) -> Selection:
    """What of the experiment must work together; no data are read, and no weights.

    The model's capabilities are those it will have once trained.

    Raises:
        ConfigError: training on labels that the data set does not have.
    """
    training, spec = config.training, config.dataset.spec()
    if training.labels and spec.classes is None:
        raise ConfigError(
            f"training.labels is true, and the data set {current().name(config.dataset)!r} has no labels",
            remedy="Set training.labels to false, or give a data set with labels",
        )
    model = {word for word in config.objective.provides if word.startswith("model.")}
    model |= {"model.labels"} if training.labels else set()
    model |= {"model.unconditional"} if not training.labels or training.label_dropout > 0.0 else set()
    whole = config.dataset.unrestricted().spec()
    data = {
        "dataset.labels": spec.classes is not None,
        "dataset.classified": whole.classes is not None,
        "dataset.images": spec.image,
    }
    compared = any(metric.needs & {"features", "logits"} for metric in config.evaluation.metrics)
    chosen: tuple[Component | None, ...] = (
        config.dataset,
        config.network,
        config.sde,
        config.objective,
        config.sampling.sampler,
        config.sampling.grid,
        *config.sampling.conditioners,
        *config.evaluation.metrics,
        config.evaluation.features if compared else None,
    )
    return Selection.of(
        *chosen,
        model=frozenset(model),
        data=frozenset(word for word, holds in data.items() if holds),
        steps=config.sampling.steps,
        classes=spec.classes if training.labels else None,
    )


def _default_name(path: tuple[str, ...]) -> str | None:
    """The component that stands at a key path when a configuration says nothing of it."""
    record: Any = ExperimentConfig
    for key in path:
        field = settings(record).get(key) if attrs.has(record) else None
        if field is None:
            return None
        record = field.type
    return field.default if field is not None and isinstance(field.default, str) else None
