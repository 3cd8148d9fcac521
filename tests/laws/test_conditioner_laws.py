"""Every built-in conditioner, held against the laws of its kind."""

from __future__ import annotations

from typing import Any

from diffkit.testing import Law, parametrize_with_laws
from diffkit.testing.exact import LabelledModel
from diffkit.testing.lawbook.partners import flat_mixture
from diffkit_standard.conditioners.classifier_guidance import ClassifierGuidance
from diffkit_standard.sdes.vp import VP

CLASSIFIER = LabelledModel(problem=flat_mixture(64), sde=VP())

CONDITIONERS: list[Any] = [
    {"name": "class-guidance", "label": 2},
    {"name": "class-guidance", "label": [0, 1], "scale": 0.0},
    {"name": "class-guidance", "label": "each", "scale": 3.0},
    {"name": "class-guidance", "label": 1, "scale": 3.0, "interval": [0.2, 0.6]},
    ClassifierGuidance(classifier=CLASSIFIER, label=(0, 2)),
    ClassifierGuidance(classifier=CLASSIFIER, label="each", scale=((0.2, 0.0), (0.8, 3.0))),
    *({"name": "threshold", "method": method} for method in ("static", "dynamic", "state")),
    *({"name": "imputation", "guidance": guidance} for guidance in ("mmps", "pigdm", "dps")),
    {"name": "imputation", "method": "replacement", "mask": "left-half"},
    {"name": "imputation", "method": "repaint", "jump": 2, "resamplings": 2, "mask": "random:0.5"},
    {"name": "imputation", "method": "particle", "particle_count": 3},
    {"name": "restoration", "operator": {"name": "super-resolution", "factor": 2}, "noise": 0.1},
    {"name": "restoration", "operator": "blur", "method": "particle", "particle_count": 3, "noise": 0.1},
]


@parametrize_with_laws("conditioner", CONDITIONERS)
def test_conditioner_laws(law: Law, component: Any) -> None:
    law(component)
