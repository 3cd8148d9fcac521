"""What a shell is offered, as click asks for it: `_DIFFKIT_COMPLETE=bash_complete` with the words so far."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffkit.discovery import KINDS
from diffkit.registry import components

HEAVY = {"torch", "numpy", "scipy", "matplotlib", "rich", "accelerate"}
PROBE = """
import json, sys
from diffkit.cli.main import main
try:
    main([])
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def offered(*words: str, cwd: Path | None = None) -> tuple[list[str], set[str]]:
    """The completions of the last word, and the modules that finding them took."""
    asked = {"_DIFFKIT_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("diffkit", *words))}
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env=os.environ | asked | {"COMP_CWORD": str(len(words))},
    )
    return done.stdout.splitlines(), set(json.loads(done.stderr.splitlines()[-1]))


def plain(names: list[str]) -> list[str]:
    return [f"plain,{name}" for name in names]


def test_kinds_and_names_come_from_metadata() -> None:
    kinds, modules = offered("show", "s")
    assert kinds == plain([kind for kind in KINDS if kind.startswith("s")])
    assert not modules & HEAVY
    assert offered("show", "metric", "k")[0] == ["plain,kid"], "and not the grid karras"
    names, modules = offered("check", "sampler", "dpm")
    assert names == plain([info.name for info in components("sampler") if info.name.startswith("dpm")])
    assert names
    assert not modules & HEAVY


def test_commands_are_named_without_importing_one() -> None:
    names, modules = offered("e")
    assert {"plain,evaluate", "plain,energy-film"} <= set(names)
    assert not [name for name in modules if name.startswith(("diffkit_standard", "diffkit_energy"))]
    assert "plain,--version" in offered("--v")[0]


@pytest.mark.parametrize("words", [("list", "sched"), ("matrix", "sde", "sched"), ("new", "sched")])
def test_wherever_a_kind_is_asked_for(words: tuple[str, ...]) -> None:
    assert offered(*words)[0] == ["plain,schedule"]


def test_a_sampler_is_named_where_it_is_an_option() -> None:
    assert offered("sample", "runs/x", "--sampler", "uni")[0] == ["plain,unipc"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for file in ("runs/digits-1/manifest.json", "runs/models/m-1/model.json", "mine/cars-2/manifest.json"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("{}")
    (tmp_path / "runs" / "cache").mkdir()
    return tmp_path


def test_runs_and_models_are_found_where_they_are_kept(home: Path) -> None:
    found, modules = offered("run", "runs/", cwd=home)
    assert found == ["plain,runs/digits-1", "plain,runs/models/m-1", "file,runs/"]
    assert not modules & HEAVY
    assert offered("compare", "runs/digits-1", "runs/d", cwd=home)[0] == [
        "plain,runs/digits-1",
        "file,runs/d",
    ]
    assert offered("sample", "--runs", "mine", "m", cwd=home)[0] == ["plain,mine/cars-2", "file,m"]


def test_commands_themselves() -> None:
    assert "plain,impute" in offered("im")[0]
    assert "plain,run" in offered("r")[0]
    assert "plain,report" in offered("r")[0]
