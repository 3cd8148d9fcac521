"""`diffkit new`: what it writes works as it stands, for each kind, and it never overwrites."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from temporary_environment import Environment

from diffkit.discovery import KINDS
from diffkit.testing import check

ROOT = Path(__file__).parent.parent.parent
SAMPLE = random.Random(1).sample(sorted(KINDS), 2)
SHORT = ("training.steps=2", "sampling.count=2", "sampling.steps=3", "evaluation.count=20")


def package(kind: str, folder: Path, name: str | None = None) -> Path:
    """What `diffkit new` writes, as a user would have it write."""
    name = name or f"my-{kind}"
    words = ["new", kind, name, "--out", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "diffkit", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"package: {folder / name}" in done.stdout
    return folder / name


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each kind."""
    folder = tmp_path_factory.mktemp("written")
    return {kind: package(kind, folder) for kind in KINDS}


def tool(*command: str, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


class TestWhatIsWritten:
    @pytest.mark.parametrize("kind", KINDS)
    def test_the_component_passes_the_laws(
        self, kind: str, packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(packages[kind])
        module = __import__(f"diffkit_my_{kind}.{kind}", fromlist=["*"])
        (name,) = module.__all__
        judged = check(kind, getattr(module, name)())
        assert [row for row in judged if row["status"] == "failed"] == []
        assert sum(row["status"] == "passed" for row in judged) >= 4

    @pytest.mark.parametrize("kind", KINDS)
    def test_it_is_small_and_says_what_it_is(self, kind: str, packages: dict[str, Path]) -> None:
        text = (packages[kind] / f"diffkit_my_{kind}" / f"{kind}.py").read_text()
        assert len(text.splitlines()) < 80
        assert text.startswith('"""')
        assert f"class My{kind.capitalize()}(" in text
        assert "{{" not in text
        assert "{%" not in text

    def test_it_is_clean(self, packages: dict[str, Path]) -> None:
        for folder in packages.values():
            tool("ruff", "check", "--quiet", ".", cwd=folder)
            tool("ruff", "format", "--check", "--quiet", ".", cwd=folder)

    @pytest.mark.prove
    def test_it_is_typed(self, packages: dict[str, Path], tmp_path: Path) -> None:
        for kind, folder in packages.items():
            tool("mypy", "--cache-dir", str(tmp_path), cwd=folder)
            assert "strict = true" in (folder / "pyproject.toml").read_text(), kind


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment.at(tmp_path_factory.mktemp("environment"))


@pytest.mark.parametrize(
    "kind", [kind if kind in SAMPLE else pytest.param(kind, marks=pytest.mark.prove) for kind in KINDS]
)
def test_a_package_from_nothing_to_a_run(
    kind: str, packages: dict[str, Path], environment: Environment
) -> None:
    """Built as a wheel, installed, listed, held against its laws by its own tests, used."""
    folder, name = packages[kind], f"my-{kind}"
    (wheel,) = environment.install(folder)
    packed = zipfile.ZipFile(wheel)
    assert f"diffkit_my_{kind}/py.typed" in packed.namelist()
    (table,) = [name for name in packed.namelist() if name.endswith("entry_points.txt")]
    assert f"[diffkit.api]\n{kind} = v{KINDS[kind].version}\n" in packed.read(table).decode()

    rows: list[dict[str, Any]] = json.loads(environment.diffkit("list", kind, "--json").stdout)
    (row,) = [row for row in rows if row["name"] == name]
    whence = {"distribution": f"diffkit-my-{kind}", "version": "0.1.0", "status": "registered"}
    assert row == {"kind": kind, "name": name} | whence

    tests = environment.python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
    assert tests.returncode == 0, tests.stdout + tests.stderr

    overrides = [word for override in SHORT for word in ("--set", override)]
    used = environment.diffkit("run", "example.yaml", *overrides, "--json", cwd=folder)
    assert used.returncode == 0, used.stderr
    manifest = json.loads((folder / json.loads(used.stdout)["run"] / "manifest.json").read_text())
    assert {"kind": kind, "name": name, **{k: whence[k] for k in ("distribution", "version")}} in [
        {key: part[key] for key in ("kind", "name", "distribution", "version")}
        for part in manifest["components"]
    ]


def test_the_templates_travel_in_diffkits_own_wheel(tmp_path: Path) -> None:
    build = ["wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    tool("pip", *build, "--wheel-dir", str(tmp_path), str(ROOT), cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {Path(name).name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".jinja")}
    assert packed >= {"pyproject.toml.jinja", *(f"{kind}.py.jinja" for kind in KINDS)}


class TestRefusals:
    @pytest.mark.parametrize(
        "name", ["", "My-Sampler", "my_sampler", "3d", "-x", "a--b", "../up", "a/b", "ä"]
    )
    def test_names_that_no_component_can_have(self, name: str, tmp_path: Path, diffkit_: Any) -> None:
        status, out, err = diffkit_("new", "--out", str(tmp_path), "--", "sampler", name)
        assert (status, out) == (2, "")
        assert "cannot be the name of a new sampler" in err
        assert list(tmp_path.iterdir()) == []

    def test_an_unknown_kind(self, tmp_path: Path, diffkit_: Any) -> None:
        status, _, err = diffkit_("new", "samplr", "my-step", "--out", str(tmp_path))
        assert status == 2
        assert "Did you mean 'sampler'?" in err

    def test_a_name_that_is_taken(self, tmp_path: Path, diffkit_: Any) -> None:
        status, _, err = diffkit_("new", "sampler", "ddim", "--out", str(tmp_path))
        assert status == 2
        assert "There is a sampler 'ddim' already, of diffkit" in err

    @pytest.mark.parametrize("name", ["none", "sampler", "tensor", "requirement"])
    def test_a_class_name_that_means_something_else(self, name: str, tmp_path: Path, diffkit_: Any) -> None:
        status, _, err = diffkit_("new", "sampler", name, "--out", str(tmp_path))
        assert status == 2
        assert f"would be called {name.capitalize()}" in err
        assert list(tmp_path.iterdir()) == []

    def test_a_package_that_is_installed(self, tmp_path: Path, diffkit_: Any) -> None:
        status, _, err = diffkit_("new", "sampler", "standard", "--out", str(tmp_path))
        assert status == 2
        assert "diffkit_standard, which is installed already" in err

    def test_a_folder_that_is_there_is_left_alone(self, tmp_path: Path, diffkit_: Any) -> None:
        kept = tmp_path / "my-step"
        kept.mkdir()
        (kept / "pyproject.toml").write_text("mine")
        status, _, err = diffkit_("new", "sampler", "my-step", "--out", str(tmp_path))
        assert status == 2
        assert str(kept) in err
        assert [path.read_text() for path in kept.iterdir()] == ["mine"]
        assert len(err.strip().splitlines()) == 1

    def test_an_empty_folder_too(self, tmp_path: Path, diffkit_: Any) -> None:
        (tmp_path / "my-step").mkdir()
        status, _, _ = diffkit_("new", "sampler", "my-step", "--out", str(tmp_path))
        assert status == 2

    def test_a_place_that_is_a_file(self, tmp_path: Path, diffkit_: Any) -> None:
        (tmp_path / "taken").write_text("")
        status, _, err = diffkit_("new", "sampler", "my-step", "--out", str(tmp_path / "taken"))
        assert status == 2
        assert "cannot be written" in err
