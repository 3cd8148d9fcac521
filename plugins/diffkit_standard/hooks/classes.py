"""A word on models that were trained on classes and are asked for none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffkit.hooks import implementation

if TYPE_CHECKING:
    from diffkit.selection import Finding, Selection


@implementation
def diffkit_incompatibility(selection: Selection) -> Finding | None:
    from diffkit.selection import Finding

    asked = [each for each in selection.all("conditioner") if hasattr(each, "label")]
    draws = selection.model is not None and {"model.denoise", "model.labels"} <= selection.model
    if not draws or asked or selection.one("sampler") is None:
        return None
    return Finding(
        "caveat",
        "model",
        "",
        "It was trained on classes and is asked for none, so that samples are of all classes together",
        "Name a class (--label), or give sampling.conditioners a class-guidance",
    )
