"""The laws have teeth: wrong variants of components of every kind, each broken by the law that is named.

The quick ones are all tried at every landing, of the slow ones (an order is measured) a few; all of them by
`make prove`.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
from mutants_of_dynamics import GRIDS, PROCESSES, SCHEDULES
from mutants_of_energies import ENERGIES
from mutants_of_guidance import CONDITIONERS, OPERATORS
from mutants_of_learning import DATASETS, FEATURES, NETWORKS, OBJECTIVES
from mutants_of_measures import METRICS
from mutants_of_samplers import SAMPLERS
from mutation import Mutant, mutated

from diffkit.discovery import KINDS
from diffkit.testing import Law, LawBroken, laws

ACCURACY, SCORE = "metrics.class_accuracy ClassAccuracy", "metrics.inception_score InceptionScore"

MUTANTS = (
    Mutant("metrics.fid FID", "return a.merge(b)", "return a.merge(b).merge(a)", "merging"),
    Mutant(
        "metrics.fid FID", "unpack(tensors)", "unpack({**tensors, 'count': 2 * tensors['count']})", "packing"
    ),
    Mutant(SCORE, "batch.index.to(p.device)", "batch.index.sort()[0]", "order-of-batches"),
    Mutant(ACCURACY, "if state.bad:", "if False:", "refuses-nan"),
    Mutant(ACCURACY, "state.count < 2", "state.count < 1", "refuses-one-example"),
    *SCHEDULES, *PROCESSES, *SAMPLERS, *GRIDS, *CONDITIONERS, *OPERATORS, *METRICS, *NETWORKS, *OBJECTIVES,
    *DATASETS, *FEATURES, *ENERGIES,
)  # fmt: skip
SLOW = [mutant for mutant in MUTANTS if mutant.law in ("order", "weak-order", "samples-the-law")]
SAMPLE = random.Random(0).sample(SLOW, 5)


def law(kind: str, name: str) -> Law:
    return next(each for each in laws(kind) if each.name == name)


def case(mutant: Mutant) -> object:
    marks = [pytest.mark.prove] if mutant in SLOW and mutant not in SAMPLE else []
    label = " ".join(mutant.new.split())[:32]
    return pytest.param(mutant, id=f"{mutant.kind}-{mutant.law}-{mutant.name}-{label}", marks=marks)


@pytest.mark.parametrize("mutant", [case(mutant) for mutant in MUTANTS])
def test_a_mutant_is_killed_by_its_law(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LawBroken) as caught:
        law(mutant.kind, mutant.law)(mutated(mutant, monkeypatch))
    assert "it raised" not in caught.value.counterexample
    assert caught.value.formula
    assert caught.value.law == f"{mutant.kind}-{mutant.law}"


def test_no_kind_is_without_mutants() -> None:
    count = Counter(mutant.kind for mutant in MUTANTS)
    assert set(count) == set(KINDS)
    assert min(count.values()) >= 5
    assert len(set(map(repr, MUTANTS))) == len(MUTANTS) >= 100


@pytest.mark.parametrize("kind", KINDS)
def test_every_law_kills(kind: str) -> None:
    killing = {mutant.law for mutant in MUTANTS if mutant.kind == kind}
    assert not {each.name for each in laws(kind)} - killing, "plant a mutant for a law that none is killed by"
