"""One line for every run that was finished."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from diffkit.hooks import implementation

if TYPE_CHECKING:
    from diffkit.experiment import Experiment, RunResult


@implementation
def diffkit_run_end(run: RunResult, experiment: Experiment) -> None:
    figures = {name: figure.value for name, figure in run.metrics.items()}
    line = {"run": run.run.name, "seed": experiment.config.seed, "figures": figures}
    with (experiment.runs / "history.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
