"""A house rule that capabilities cannot express: noise needs steps to average out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffkit.hooks import implementation

if TYPE_CHECKING:
    from diffkit.selection import Finding, Selection

LEAST = 10


@implementation
def diffkit_incompatibility(selection: Selection) -> Finding | None:
    from diffkit.selection import Finding

    sampler = selection.one("sampler")
    if selection.one("dataset") is None or sampler is None:
        return None  # no run of a configuration: the laws, the matrix and `diffkit.sample` ask too
    if not sampler.stochastic or selection.steps is None or selection.steps >= LEAST:
        return None
    return Finding(
        "refused",
        subject="house rule",
        object="",
        reason=f"{selection.steps} steps are too few for a sampler that draws noise",
        remedy=f"Set sampling.steps to {LEAST} or more, or choose a deterministic sampler",
    )
