"""Ten sorts of broken plugins, installed at once: everything else works, each is explained in one row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from diffkit.config import ExperimentConfig
from diffkit.errors import ComponentError
from diffkit.registry import using

SOUND = """
from __future__ import annotations
import attrs
from diffkit.interfaces.sampler import Sampler

@attrs.frozen(kw_only=True)
class Mine(Sampler):
    def step(self, problem, x, t, s, carry, noise):
        return x, carry
"""


@attrs.frozen
class Wreck:
    """What is wrong with a distribution that registers one sampler, and what is said of it."""

    status: str
    reason: str
    source: str = SOUND
    entry: str = "{name}"
    groups: dict[str, dict[str, str]] = attrs.field(factory=dict)


WRECKS = {
    "import-error": Wreck(
        "broken", "ModuleNotFoundError: No module named 'no_such_thing'", "import no_such_thing"
    ),
    "syntax-error": Wreck("broken", "SyntaxError: invalid syntax", "class Mine(Sampler) pass"),
    "leaves": Wreck("broken", "SystemExit: 3", "raise SystemExit(3)"),
    "no-attribute": Wreck("broken", "has no attribute 'Mine'", "Other = 1"),
    "no-class": Wreck("broken", "it is a function, not a class", "def Mine(): pass"),
    "abstract": Wreck("broken", "Mine leaves abstract: step", SOUND.replace("def step", "def stride")),
    "other-api": Wreck(
        "api-mismatch",
        "written for v2 of the sampler interface, and this diffkit has v1",
        groups={"diffkit.api": {"sampler": "v2"}},
    ),
    "twin": Wreck("ok", "the name is shared: write diffkit:adams and twin:adams", entry="adams"),
    "bad-metadata": Wreck("bad-metadata", "is not kebab-case", entry="Bad_Metadata"),
    "slow": Wreck("broken", "importing it took longer than 5 s", "import time; time.sleep(120)"),
}

CONFIG = """
name: beside-wrecks
dataset: digits
training: {steps: 2, batch_size: 8}
sampling: {sampler: ddim, steps: 3, count: 2}
"""

Outcome = tuple[int, str, str]


@pytest.fixture
def wrecked(site: Any) -> Any:
    """A site with all of them, and the command line with it on its path, in a process of its own."""
    for name, wreck in WRECKS.items():
        module = f"wreck_{name.replace('-', '_')}"
        groups = {"diffkit.samplers": {wreck.entry.format(name=name): f"{module}:Mine"}, **wreck.groups}
        site.install(name, groups, {module: wreck.source})

    def diffkit(*arguments: str) -> Outcome:
        environment = {**os.environ, "PYTHONPATH": str(site.path)}
        command = [sys.executable, "-m", "diffkit", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return done.returncode, done.stdout, done.stderr

    return diffkit


def test_there_are_ten_sorts() -> None:
    assert len(WRECKS) == 10


def test_each_is_one_row_with_its_reason_and_the_others_are_well(wrecked: Any) -> None:
    status, out, _ = wrecked("list", "sampler", "--json")
    listed = json.loads(out)
    assert status == 0
    status, out, err = wrecked("list", "sampler", "--verify", "--timeout", "5", "--json", "--quiet")
    assert (status, err) == (0, "")
    rows = json.loads(out)
    assert [(r["distribution"], r["name"]) for r in rows] == [(r["distribution"], r["name"]) for r in listed]
    for name, wreck in WRECKS.items():
        (row,) = [row for row in rows if row["distribution"] == name]
        assert row["status"] == wreck.status, name
        assert wreck.reason in row["reason"], name
    own = {row["name"]: row for row in rows if row["distribution"] == "diffkit"}
    assert {row["status"] for row in own.values()} == {"ok"}
    assert [name for name, row in own.items() if "reason" in row] == ["adams"]


def test_runs_that_name_none_of_them_are_well(wrecked: Any, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    status, out, err = wrecked("run", str(tmp_path / "c.yaml"), "--runs", str(tmp_path / "runs"), "--json")
    assert status == 0, err
    assert Path(json.loads(out)["report"]).is_file()


@pytest.mark.parametrize("name", sorted(set(WRECKS) - {"slow"}))
def test_a_run_that_names_one_is_told_the_same(wrecked: Any, site: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    entry, reason = WRECKS[name].entry.format(name=name), WRECKS[name].reason
    if name == "twin":
        reason = "'diffkit:adams' or 'twin:adams'"
    with using(site.registry()), pytest.raises(ComponentError, match=r"^sampling\.sampler: ") as caught:
        ExperimentConfig.from_file(tmp_path / "c.yaml", [f"sampling.sampler={entry}"])
    assert reason in str(caught.value)
