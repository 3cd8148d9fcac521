"""Every conditioner with every process and sampler that compatibility allows: it runs, and gives numbers.

The same sample of cells every time in an ordinary run, all of them in `make prove`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import diffkit
from diffkit.compatibility import Selection, check
from diffkit.errors import IncompatibleError
from diffkit.registry import components, create
from diffkit.testing.exact import LabelledModel
from diffkit.testing.lawbook.partners import flat_mixture

SHAPE = (1, 4, 4)
LAW = flat_mixture(16)
OBSERVED = LAW.means[0].reshape(SHAPE)
IMPUTATION = {"name": "imputation", "observed": OBSERVED}
CONDITIONERS: dict[str, dict[str, Any]] = {
    "class-guidance": {"name": "class-guidance", "label": 1, "scale": 2.0},
    "threshold": {"name": "threshold"},
    "threshold-state": {"name": "threshold", "method": "state"},
    "replacement": {**IMPUTATION, "method": "replacement"},
    "repaint": {**IMPUTATION, "method": "repaint", "jump": 2, "resamplings": 2},
    "dps": {**IMPUTATION, "guidance": "dps"},
    "pigdm": {**IMPUTATION, "guidance": "pigdm"},
    "mmps": {**IMPUTATION, "guidance": "mmps"},
    "particle": {**IMPUTATION, "method": "particle", "particle_count": 3},
    "restoration": {
        "name": "restoration",
        "operator": {"name": "super-resolution", "factor": 2},
        "observed": OBSERVED.reshape(1, 2, 2, 2, 2).mean((2, 4)),
        "noise": 0.1,
    },
    "classifier-guidance": {"name": "classifier-guidance", "label": 1},
}
SAMPLERS: list[Any] = [
    *(info.name for info in components("sampler") if info.distribution == "diffkit"),
    {"name": "ddim", "eta": 1.0},
    {"name": "dpm-solver++", "variant": "sde"},
    {"name": "exponential-integrator", "eta": 1.0},
    {"name": "probability-flow", "method": "rk45"},
]


def cells() -> Iterator[Any]:
    whole = [
        (sde, sampler, name)
        for sde in ("vp", "sub-vp", "ve", "flow")
        for sampler in SAMPLERS
        for name in CONDITIONERS
    ]
    sampled = set(random.Random(0).sample(range(len(whole)), 60))
    for number, (sde, sampler, name) in enumerate(whole):
        marks = () if number in sampled else (pytest.mark.prove,)
        label = sampler if isinstance(sampler, str) else "-".join(map(str, sampler.values()))
        yield pytest.param(sde, sampler, name, id=f"{sde}-{label}-{name}", marks=marks)


@pytest.mark.parametrize("sde,sampler,name", list(cells()))
def test_it_runs_or_is_refused_with_the_reason(sde: str, sampler: Any, name: str) -> None:
    process, method = create("sde", sde), create("sampler", sampler)
    model = LabelledModel(problem=LAW, sde=process)
    given = {"classifier": model} if name == "classifier-guidance" else {}
    conditioner = create("conditioner", {**CONDITIONERS[name], **given})

    def run() -> torch.Tensor:
        steps = None if method.adaptive else 5
        return diffkit.sample(
            model, sampler=method, steps=steps, shape=(2, *SHAPE), conditioners=[conditioner]
        ).x

    chosen = Selection.of(process, method, conditioner, model=model.provides, classes=3)
    refused = [finding for finding in check(chosen) if finding.status == "refused"]
    if refused:
        assert all(finding.reason and finding.remedy for finding in refused)
        calls = model.passes
        with pytest.raises(IncompatibleError):
            run()
        assert model.passes == calls
    else:
        assert run().isfinite().all()
