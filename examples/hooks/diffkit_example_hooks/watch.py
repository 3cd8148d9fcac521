"""The gradient's norm along training, for a look from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffkit.hooks import implementation

if TYPE_CHECKING:
    from diffkit.experiment import Experiment
    from diffkit.training import TrainStep

EVERY = 100


@implementation
def diffkit_train_step(event: TrainStep, experiment: Experiment) -> None:
    if event.step % EVERY and event.step != event.total:
        return
    experiment.folder.mkdir(parents=True, exist_ok=True)
    with (experiment.folder / "gradients.csv").open("a", encoding="utf-8") as file:
        file.write(f"{event.step},{event.gradient_norm:.6g}\n")
