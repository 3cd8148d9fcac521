"""What each training step tells, for TensorBoard: scalars in `<model>/tensorboard`, where a run asks.

A training that goes on writes a file of its own; TensorBoard joins the files of a folder.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffkit.hooks import implementation

if TYPE_CHECKING:
    from diffkit.experiment import Experiment
    from diffkit.training import TrainStep


@implementation
def diffkit_train_step(event: TrainStep, experiment: Experiment) -> None:
    if not experiment.config.training.tensorboard:
        return
    writer = _writer(experiment.model_folder / "tensorboard")
    figures = {"loss": event.loss, "learning rate": event.learning_rate, "gradient norm": event.gradient_norm}
    for name, value in {**figures, **event.logs}.items():
        writer.add_scalar(name, value, event.step)
    if event.step == event.total:
        writer.flush()


@functools.cache
def _writer(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder)
