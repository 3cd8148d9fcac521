"""The experiment as it is written down: one frozen record a section, every field checked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs.validators import and_, deep_iterable, ge, gt, lt, min_len, optional

from diffkit import documents
from diffkit.compatibility import only_classifies, with_schedule
from diffkit.component import parameter
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
from diffkit.sharding import processes
from diffkit.structure import fill, plain, settings

__all__ = [
    "EvaluationConfig",
    "ExperimentConfig",
    "SamplingConfig",
    "TrackingConfig",
    "TrainingConfig",
    "model_capabilities",
    "require_labels",
    "selection_of",
    "to_mapping",
]


def _one_of_two(record: TrainingConfig, attribute: Any, value: int | None) -> None:
    if value is not None and record.steps is not None:
        raise ValueError("training.steps is given too; give one of them")


def _decay(record: TrainingConfig, attribute: Any, value: float | str | None) -> None:
    if isinstance(value, float) and not 0.0 <= value < 1.0:
        raise ValueError("a decay is at least 0 and below 1")


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
    learning_rate: float = parameter(
        "peak learning rate of AdamW", 1e-3, validator=and_(gt(0.0), lt(math.inf))
    )
    decay: Literal["constant", "cosine", "linear", "inverse-sqrt"] = parameter(
        "how the learning rate ends: constant, a cosine or a line to zero, or with one over the root of the "
        "step once a tenth of the training is done",
        "cosine",
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
    ema: float | Literal["power"] | None = parameter(
        "decay of the weights' moving average, faster at first; or power: 1 - decay falls as one over the "
        "step; null = none",
        0.999,
        validator=_decay,
    )
    ema_width: float = parameter(
        "ema: power: standard deviation of the averaging window, as a share of the training so far",
        0.1,
        validator=and_(gt(0.0), lt(0.28)),
    )
    labels: bool = parameter("train conditionally on the data set's classes", False)
    label_dropout: float = parameter(
        "share of examples whose label is hidden, for guidance", 0.1, validator=and_(ge(0.0), lt(1.0))
    )
    flip: bool = parameter("mirror images left to right at random", False)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = parameter(
        "arithmetic of the network; auto = bf16 where a short trial finds it faster", "auto"
    )
    save_every: int = parameter("steps between checkpoints", 500, validator=ge(1))
    keep_last: int = parameter("how many of the newest checkpoints stay", 1, validator=ge(1))
    keep: tuple[int, ...] = parameter(
        "steps (epochs, where `epochs` is given) whose checkpoints are written and stay",
        (),
        validator=deep_iterable(ge(1)),
    )
    compile: bool = parameter("have torch.compile make the network's code; slow to start", False)
    tensorboard: bool = parameter("write what each step tells for TensorBoard too, beside the model", False)


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
class TrackingConfig:
    """What is measured along training, on the averaged weights, to tell the best checkpoint."""

    every: int = parameter("steps between measurements; the last step is measured too", validator=ge(1))
    metrics: tuple[Metric, ...] = parameter(
        "the figures to take; the best checkpoint is that of the best value of the first",
        ("fid",),
        validator=min_len(1),
    )
    count: int = parameter("how many samples they rest on", 500, validator=ge(2))


@attrs.frozen(kw_only=True)
class EvaluationConfig:
    """How samples are measured."""

    metrics: tuple[Metric, ...] = parameter("the figures to take", ())
    count: int = parameter("how many samples they rest on", 1000, validator=ge(2))
    features: Features = parameter("the view in which images are compared", "classifier")
    track: TrackingConfig | None = parameter("measurements along training; null = none", None)


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


def require_labels(training: TrainingConfig, dataset: Dataset) -> None:
    """Refuses training on labels that the data set does not have."""
    if training.labels and dataset.spec().classes is None:
        raise ConfigError(
            f"training.labels is true, and the data set {current().name(dataset)!r} has no labels",
            remedy="Set training.labels to false, or give a data set with labels",
        )


def model_capabilities(objective: Objective, training: TrainingConfig) -> frozenset[str]:
    """What a model trained so offers, as `model.*` capabilities."""
    offered = {word for word in objective.provides if word.startswith("model.")}
    offered |= {"model.labels"} if training.labels else set()
    unconditional = not training.labels or training.label_dropout > 0.0
    return frozenset(offered | ({"model.unconditional"} if unconditional else set()))


def selection_of(config: ExperimentConfig) -> Selection:
    """What of the experiment must work together; no data are read, and no weights.

    The model's capabilities are those it will have once trained; no sampler belongs to a classifier.

    Raises:
        ConfigError: training on labels that the data set does not have, or mirroring what is no image.
    """
    require_labels(config.training, config.dataset)
    if config.training.flip and not config.dataset.spec().image:
        name = current().name(config.dataset)
        raise ConfigError(
            f"training.flip is true, and the examples of {name!r} are no images",
            "images, which have a left and a right",
            "Set training.flip to false",
        )
    spec, model = config.dataset.spec(), model_capabilities(config.objective, config.training)
    whole = config.dataset.unrestricted().spec()
    data = {
        "dataset.labels": spec.classes is not None,
        "dataset.classified": whole.classes is not None,
        "dataset.images": spec.image,
    }
    tracked = config.evaluation.track.metrics if config.evaluation.track else ()
    metrics = (*config.evaluation.metrics, *tracked)
    compared = any(metric.needs & {"features", "logits"} for metric in metrics)
    return Selection.of(
        config.dataset,
        config.network,
        config.sde,
        config.objective,
        config.sampling.sampler if tracked or not only_classifies(model) else None,
        config.sampling.grid,
        *config.sampling.conditioners,
        *metrics,
        config.evaluation.features if compared else None,
        model=model,
        data=frozenset(word for word, holds in data.items() if holds),
        steps=config.sampling.steps,
        parts=config.training.gradient_accumulation * processes()[0],
        classes=spec.classes if config.training.labels else None,
        shape=spec.shape,
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
