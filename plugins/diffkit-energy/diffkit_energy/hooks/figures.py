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
    from diffkit_energy.plots import energies

    plots.save(energies(list(read_log(run.run / "log.jsonl"))), run.run / "energies.png")
    experiment.report()
