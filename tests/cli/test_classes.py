"""A class asked for on the command line, by its number or its name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from diffkit.errors import ConfigError
from diffkit.interfaces.dataset import DataSpec
from diffkit_standard.commands._options import class_number


def experiment(*names: str) -> Any:
    """What the command line asks an experiment for."""
    spec = DataSpec(shape=(1, 8, 8), classes=3, levels=256, names=names)
    return SimpleNamespace(config=SimpleNamespace(dataset=SimpleNamespace(spec=lambda: spec)))


def test_a_class_is_known_by_its_number_and_by_its_name() -> None:
    pets = experiment("cats", "dogs", "2")
    assert [class_number(pets, label) for label in (None, "0", "7", "dogs")] == [None, 0, 7, 1]
    assert class_number(pets, "2") == 2


@pytest.mark.parametrize("label", ["dog", "-1", "1.0", ""])
def test_what_is_neither_is_told_the_names(label: str) -> None:
    with pytest.raises(ConfigError, match=r"--label is '.*'.*one of cats, dogs"):
        class_number(experiment("cats", "dogs"), label)
    with pytest.raises(ConfigError, match=r"from 0\b(?!.*one of)"):
        class_number(experiment(), label)
