"""Packages of other people, built and installed for real in an environment of their own.

The environment sees this one's site-packages, so that torch is not installed again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import attrs
import pytest

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "{version}"
dependencies = ["diffkit"]

{entry_points}

[tool.hatch.build.targets.wheel]
packages = ["{package}"]
"""

SAMPLER = '''
"""A deterministic step."""

from __future__ import annotations

from typing import ClassVar, final

import attrs

from diffkit.component import Requirement, parameter
from diffkit.interfaces.sampler import Sampler
from diffkit.tensors import expand


@final
@attrs.frozen(kw_only=True)
class AcmeStep(Sampler):
    """x_s = alpha_s D + sigma_s eps."""

    source: ClassVar[str] = "Acme 2024"

    strength: float = parameter("how much of the noise stays", 1.0)

    @property
    def requires(self):
        return (Requirement("sde.gaussian", "it needs alpha and sigma", "use vp"),)

    def step(self, problem, x, t, s, carry, noise):
        sde = problem.sde
        x_0, eps = problem.denoise(x, t), problem.eps(x, t)
        return expand(sde.alpha(s), x) * x_0 + self.strength * expand(sde.sigma(s), x) * eps, None
'''

LEAVING = """
import multiprocessing, os
if multiprocessing.parent_process() is not None:
    os.write(1, b"past Python's own stdout")
raise SystemExit("not today")
"""

CONFIG = """
name: acme
dataset: digits
training: {steps: 2, batch_size: 8}
sampling: {sampler: {name: acme-step, strength: 0.5}, steps: 3, count: 2}
"""


@attrs.frozen
class Environment:
    """A virtual environment with packages of its own."""

    python: Path
    folder: Path

    def package(
        self, name: str, samplers: dict[str, str], modules: dict[str, str], version: str = "1.2.3"
    ) -> None:
        """Writes a package, builds it and installs it."""
        package = name.replace("-", "_")
        source = self.folder / "src" / name
        (source / package).mkdir(parents=True)
        (source / package / "__init__.py").touch()
        for module, text in modules.items():
            (source / package / f"{module}.py").write_text(text)
        lines = [f'{entry} = "{package}.{value}"' for entry, value in samplers.items()]
        entry_points = '[project.entry-points."diffkit.samplers"]\n' + "\n".join(lines)
        (source / "pyproject.toml").write_text(
            PYPROJECT.format(name=name, version=version, package=package, entry_points=entry_points)
        )
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(self.python),
            "--disable-pip-version-check",
            "install",
        ]
        subprocess.run(
            [*pip, "--quiet", "--no-index", "--no-deps", "--no-build-isolation", str(source)],
            check=True,
            capture_output=True,
        )

    def diffkit(self, *arguments: str, cwd: Path | None = None) -> tuple[int, str, str]:
        """Runs a command there: exit status, stdout, stderr."""
        code = "import sys; from diffkit.cli.main import main; main(sys.argv[1:])"
        done = subprocess.run(
            [self.python, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd, check=False
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = subprocess.run([python, "-c", query], check=True, capture_output=True, text=True).stdout.strip()
    ours = sysconfig.get_path("purelib")
    # Through `addsitedir` and not as a plain line, so that editable installs in it are seen too.
    (Path(purelib) / "outer.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    made = Environment(python, folder)
    made.package("acme-diffusion", {"acme-step": "step:AcmeStep", "twin": "step:AcmeStep"}, {"step": SAMPLER})
    made.package("acme-rival", {"twin": "step:AcmeStep"}, {"step": SAMPLER}, version="0.4")
    made.package(
        "acme-broken",
        {"cannot-import": "missing:A", "leaves": "leaving:A", "unfinished": "unfinished:A"},
        {
            "missing": "import a_module_that_is_not_there",
            "leaves": "",
            "leaving": LEAVING,
            "unfinished": SAMPLER.replace("def step", "def stride").replace("AcmeStep", "A"),
        },
    )
    return made


REASONS = {
    "cannot-import": "No module named 'a_module_that_is_not_there'",
    "leaves": "SystemExit: not today",
    "unfinished": "leaves abstract: step",
}


def rows(text: str, key: str, name: str) -> list[dict[str, Any]]:
    return [row for row in json.loads(text) if row[key] == name]


def test_a_package_installed_from_a_folder_is_listed_with_its_version(environment: Environment) -> None:
    _, out, err = environment.diffkit("list", "sampler", "--json")
    assert err == ""
    (row,) = rows(out, "name", "acme-step")
    expected = {"distribution": "acme-diffusion", "version": "1.2.3", "status": "registered"}
    assert row == {"kind": "sampler", "name": "acme-step"} | expected
    assert {row["status"] for row in rows(out, "distribution", "diffkit")} == {"registered"}


def test_it_is_shown(environment: Environment) -> None:
    status, out, _ = environment.diffkit("show", "sampler", "acme-step", "--json")
    page = json.loads(out)
    assert (status, page["source"], page["version"]) == (0, "Acme 2024", "1.2.3")
    assert page["parameters"][0]["name"] == "strength"
    assert page["requires"][0]["capability"] == "sde.gaussian"


def test_the_matrix_has_it_and_each_broken_one_once_with_its_reason(environment: Environment) -> None:
    status, out, _ = environment.diffkit("matrix", "--json")
    assert status == 0
    cells = {row["sde"]: row["status"] for row in rows(out, "sampler", "acme-step")}
    assert {cells[name] for name in ("vp", "sub-vp", "ve")} == {"allowed"}
    for name, reason in REASONS.items():
        (row,) = rows(out, "sampler", name)
        assert row["status"] == "broken"
        assert reason in row["reason"]
        assert "acme-broken 1.2.3" in row["reason"]
    own = rows(out, "sampler", "ddim")
    assert {row["status"] for row in own if row["sde"] != "langevin"} == {"allowed"}  # of diffkit-energy


def test_verify_finds_the_broken_ones_and_only_them(environment: Environment) -> None:
    status, out, _ = environment.diffkit("list", "sampler", "--verify", "--json")
    assert status == 0
    for name, reason in REASONS.items():
        (row,) = rows(out, "name", name)
        assert row["status"] == "broken"
        assert reason in row["reason"]
    broken = {row["name"] for row in json.loads(out) if row["status"] != "ok"}
    assert broken == set(REASONS)


def test_show_tells_why_one_is_broken(environment: Environment) -> None:
    status, out, _ = environment.diffkit("show", "sampler", "leaves", "--json")
    page = json.loads(out)
    assert (status, page["status"], page["distribution"]) == (2, "broken", "acme-broken")
    assert REASONS["leaves"] in page["reason"]


def test_a_run_that_names_a_broken_one_fails_with_the_reason(
    environment: Environment, tmp_path: Path
) -> None:
    (tmp_path / "acme.yaml").write_text(CONFIG)
    status, out, err = environment.diffkit(
        "run", "acme.yaml", "--dry-run", "--set", "sampling.sampler=leaves", cwd=tmp_path
    )
    assert (status, out) == (2, "")
    assert "sampling.sampler: The sampler 'leaves' of acme-broken 1.2.3" in err
    assert REASONS["leaves"] in err


def test_two_of_one_name_are_an_error_that_names_both(environment: Environment) -> None:
    _, out, _ = environment.diffkit("list", "sampler", "--json")
    assert {row["status"] for row in rows(out, "name", "twin")} == {"duplicate"}
    status, _, err = environment.diffkit("show", "sampler", "twin")
    assert status == 2
    assert "'acme-diffusion:twin' or 'acme-rival:twin'" in err


def test_it_runs_beside_the_broken_ones_and_the_run_records_where_it_came_from(
    environment: Environment, tmp_path: Path
) -> None:
    (tmp_path / "acme.yaml").write_text(CONFIG)
    status, out, err = environment.diffkit("run", "acme.yaml", "--json", cwd=tmp_path)
    assert status == 0, err
    record = json.loads(out)
    assert (tmp_path / record["report"]).is_file()
    manifest = (tmp_path / record["run"] / "manifest.json").read_text()
    assert "acme-diffusion" in manifest
    assert "1.2.3" in manifest
    assert "strength: 0.5" in (tmp_path / record["run"] / "config.yaml").read_text()
