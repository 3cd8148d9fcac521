"""What plugins may listen to. A module registered in the entry-point group `diffkit.hooks` defines
any of the functions below, marked with `diffkit.hooks.implementation`, and imports no torch.

A function may leave out arguments it does not need, and changes nothing that it is given. One that
fails is reported as a warning naming its plugin, and the run goes on; to stop one, a plugin returns a
refusing `Finding` from `diffkit_incompatibility`. The last three are called by an `Experiment` only:
`diffkit.sample` has `on_step` instead.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from typing import TYPE_CHECKING, Any

import pluggy

from diffkit.discovery import entry_points

if TYPE_CHECKING:
    from diffkit.experiment import Experiment, RunResult
    from diffkit.sampling import SampleStep
    from diffkit.selection import Finding, Selection
    from diffkit.training import TrainStep

__all__ = ["Hooks", "broadcast", "implementation"]

_GROUP = "diffkit.hooks"
_specification = pluggy.HookspecMarker("diffkit")
implementation = pluggy.HookimplMarker("diffkit")


@_specification
def diffkit_incompatibility(selection: Selection) -> Finding | list[Finding] | None:
    """What sets of capabilities cannot say against a selection of components.

    Asked wherever compatibility is: before a run reads data, for each cell of `diffkit matrix`, and by
    `diffkit.sample`. A selection may hold some kinds only: `selection.one("sampler")` may be None.
    """


@_specification
def diffkit_train_step(event: TrainStep, experiment: Experiment) -> None:
    """After every optimiser step, in the main process: step, loss, learning rate, gradient norm."""


@_specification
def diffkit_sample_step(event: SampleStep, experiment: Experiment) -> None:
    """After the start and every move of a chunk of samples, in the process that computes it.

    `event.x` is the state at time `event.s`, in encoded units and on its device, of the samples
    `event.index`; s is None where it is clean. The clean prediction is
    `experiment.model().denoise(event.x, event.s)`, at the cost of a call. Sampling for figures is
    told too, and starts with the same samples as the run's sheet.
    """


@_specification
def diffkit_run_end(run: RunResult, experiment: Experiment) -> None:
    """When a run's folder is complete, in the main process: folder, model, figures, report."""


class Hooks:
    """The guarded manager: no plugin of it can break a run."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager("diffkit")
        self.manager.add_hookspecs(importlib.import_module(__name__))

    def register(self, plugin: object, name: str) -> None:
        """Adds a plugin, or warns that it cannot be used."""
        try:
            self.manager.register(plugin, name=name)
            self.manager.check_pending()
        except (ValueError, pluggy.PluginValidationError) as error:
            if self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            _warn(name, "cannot be used", error)

    def broadcast(self, hook: str, **arguments: Any) -> list[Any]:
        """Calls one hook of every plugin; what they return, without None, lists flattened."""
        results: list[Any] = []
        plugins = self.manager.get_plugins()
        for name, plugin in self.manager.list_name_plugin():
            caller = self.manager.subset_hook_caller(hook, plugins - {plugin})
            try:
                answers = caller(**arguments)
            except Exception as error:
                _warn(name, f"failed in {hook}", error)
                continue
            for answer in answers:
                results += answer if isinstance(answer, list) else [answer]
        return results


@functools.cache
def installed() -> Hooks:
    """The hooks of everything installed. Imports their modules, so only for commands that run something."""
    hooks = Hooks()
    for distribution, entry, value in entry_points(_GROUP):
        name = f"{distribution}:{entry}"
        module, _, attribute = value.partition(":")
        try:
            plugin = importlib.import_module(module)
            hooks.register(getattr(plugin, attribute) if attribute else plugin, name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may leave by SystemExit
            _warn(name, "cannot be imported", error)
    return hooks


def broadcast(hook: str, **arguments: Any) -> list[Any]:
    """Calls one hook of everything installed; see `Hooks.broadcast`."""
    return installed().broadcast(hook, **arguments)


def _warn(name: str, what: str, error: BaseException) -> None:
    warnings.warn(
        f"the hook plugin {name!r} {what}: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=3
    )
