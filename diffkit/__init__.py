"""diffkit: score-based diffusion models from exchangeable parts.

Names are looked up when they are first used, so that `import diffkit` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffkit.checkpoint import load
    from diffkit.experiment import Experiment
    from diffkit.fitting import fit_grid
    from diffkit.interpolation import interpolate, renoise, slerp
    from diffkit.registry import components, create
    from diffkit.sampling import encode, sample, sample_steps

__version__ = "0.1.0"
__all__ = [
    "Experiment",
    "components",
    "create",
    "encode",
    "fit_grid",
    "interpolate",
    "load",
    "renoise",
    "sample",
    "sample_steps",
    "slerp",
]

_HOMES = {
    "Experiment": "diffkit.experiment",
    "components": "diffkit.registry",
    "create": "diffkit.registry",
    "encode": "diffkit.sampling",
    "fit_grid": "diffkit.fitting",
    "interpolate": "diffkit.interpolation",
    "load": "diffkit.checkpoint",
    "renoise": "diffkit.interpolation",
    "sample": "diffkit.sampling",
    "sample_steps": "diffkit.sampling",
    "slerp": "diffkit.interpolation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'diffkit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
