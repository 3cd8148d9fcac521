"""What the model makes of noise along training: a film strip at every look of `evaluation.track`.

The strips go to `<model>/looks`; the folder and the page of a run of the model show up to six, evenly. The
noise is the same at every look, so one strip under the other tells what the training in between has changed.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from diffkit.hooks import implementation

if TYPE_CHECKING:
    from diffkit.experiment import Experiment, RunResult
    from diffkit.sampling import SampleStep
    from diffkit.training import TrainStep

_SHOWN = 6

_looks: WeakKeyDictionary[Experiment, tuple[int, list[SampleStep]]] = WeakKeyDictionary()
"""Of a training that is about to be looked at: its step, and the states of the look's first samples."""


@implementation
def diffkit_train_step(event: TrainStep, experiment: Experiment) -> None:
    from diffkit.tracking import is_due

    track, folder = experiment.config.evaluation.track, experiment.model_folder
    if event.step == 1:  # those of a training that this one replaces
        shutil.rmtree(folder / "looks", ignore_errors=True)
    if track is not None and is_due(folder, event.step, event.total, track.every):
        _looks[experiment] = (event.step, [])


@implementation
def diffkit_sample_step(event: SampleStep, experiment: Experiment) -> None:
    if experiment not in _looks or int(event.index[0]):
        return
    from diffkit import plots
    from diffkit.interfaces.sde import GaussianSDE
    from diffkit.plots import film, gallery

    step, states = _looks[experiment]
    states += film.kept(event, experiment.dataset.spec().image)
    if event.number < event.total:
        return
    del _looks[experiment]
    sde, folder = experiment.config.sde, experiment.model_folder / "looks"
    strip = gallery.reverse_strip(experiment.dataset, sde, states) if isinstance(sde, GaussianSDE) else None
    if strip is not None:
        folder.mkdir(exist_ok=True)
        plots.save(strip, folder / f"step-{step:07}.png")


@implementation
def diffkit_run_end(run: RunResult, experiment: Experiment) -> None:
    strips = sorted((run.model / "looks").glob("step-*.png"))
    if not strips:
        return
    last = len(strips) - 1
    for place in {round(last * share / (_SHOWN - 1)) for share in range(_SHOWN)}:
        shutil.copy(strips[place], run.run / strips[place].name)
    experiment.report()
