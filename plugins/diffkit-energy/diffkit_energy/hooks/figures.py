"""After a run whose model is an energy: the energies along training, as a figure in its folder and report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffkit.hooks import implementation

if TYPE_CHECKING:
    from diffkit.experiment import Experiment, RunResult


@implementation
def diffkit_run_end(run: RunResult, experiment: Experiment) -> None:
    if "model.energy" not in experiment.config.objective.provides:
        return
    from diffkit import plots
    from diffkit.journal import read_log

    log = list(read_log(run.run / "log.jsonl"))
    kinds = [key for key in log[-1] if key.startswith("energy_")]
    values = {key.removeprefix("energy_"): [record[key] for record in log] for key in kinds}
    figure = plots.energies([record["step"] for record in log], values)
    plots.save(figure, run.run / "energies.png")
    experiment.report()
