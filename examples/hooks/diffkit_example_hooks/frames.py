"""The samples after every step, as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffkit.hooks import implementation

if TYPE_CHECKING:
    from diffkit.experiment import Experiment
    from diffkit.sampling import SampleStep


@implementation
def diffkit_sample_step(event: SampleStep, experiment: Experiment) -> None:
    from diffkit import plots
    from diffkit.plots import gallery

    if event.index[0] != 0:
        return  # one chunk is enough
    folder = experiment.folder / "frames"
    folder.mkdir(parents=True, exist_ok=True)
    sheet = gallery.sheet(experiment.dataset, event.x[:16].cpu())
    plots.save(sheet, folder / f"{event.number:03d}.png")
