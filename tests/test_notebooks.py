"""The notebooks run from top to bottom: tiny for every landing, whole when everything is proved."""

from __future__ import annotations

import base64
import importlib.util
import io
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient.exceptions import CellExecutionError
from PIL import Image

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
REAL = ROOT.parent / "shared" / "data"
TINY = {
    "steps": 3,
    "classifier_steps": 3,
    "channels": 8,
    "batch_size": 8,
    "calls": 6,
    "count": 3,
    "examples": 3,
}
MORE = {  # figures of merit rest on a few samples at least
    "04": {"count": 20},
    "06": {"early": 2, "side": 15, "moves": 50, "particles": 50},
    "07": {"count": 200},
}


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_notebooks", FOLDER / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


run = _load()
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])


def texts(notebook: Any) -> list[str]:
    """All that the cells printed or showed, pictures apart."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]


def refuse_trouble(notebook: Any) -> None:
    """What a failed cell, a picture that could not be drawn or a warning leaves behind."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", cell.source
            trouble = output.get("name") == "stderr" and re.search("Warning|Traceback", output.text)
            assert not trouble, f"{cell.source}\n{output.text}"


@each
def test_it_runs_tiny(path: Path, tmp_path: Path) -> None:
    values = TINY | MORE.get(path.stem[:2], {}) | {"data": "nowhere", "runs": str(tmp_path)}
    notebook = run.execute(path, values, strict=True)
    refuse_trouble(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert any(cell.outputs for cell in code)


@pytest.mark.prove
@each
def test_it_runs_whole(path: Path, tmp_path: Path) -> None:
    """On the real data where they are, at the length that the notebook itself sets."""
    data = REAL / ("cifar10" if path.stem.startswith("03") else "mnist")
    refuse_trouble(run.execute(path, {"data": str(data), "runs": str(tmp_path)}, strict=True))


@each
def test_parameters_come_first_and_one_by_one(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert run.tagged(notebook, "parameters") == [first]
    assert run.parameters(notebook)
    assert notebook.cells[0].cell_type == "markdown"


@each
def test_what_is_kept_was_shown_by_a_run_without_trouble(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    refuse_trouble(notebook)
    assert not run.tagged(notebook, "injected-parameters")
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert notebook.metadata["executed"] == run.fingerprint(notebook), "run it again: `make notebooks`"
    assert path.stat().st_size < 700_000


@each
def test_nothing_in_it_belongs_to_one_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    words = "\n".join([*(cell.source for cell in notebook.cells), *texts(notebook)])
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp|usr|Users)\b|[A-Z]:\\", words)


@each
def test_the_folder_introduces_it(path: Path) -> None:
    assert f"({path.name})" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_folder_introduces_nothing_else() -> None:
    named = re.findall(r"\((\S+\.ipynb)\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert named == [path.name for path in NOTEBOOKS]


class TestTheRunner:
    """On notebooks made here."""

    def notebook(self, folder: Path, *sources: str) -> Path:
        cells = [nbformat.v4.new_code_cell(source) for source in ("a = 1\nb = 'x'", *sources)]
        cells[0].metadata["tags"] = ["parameters"]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "99_made.ipynb")
        return folder / "99_made.ipynb"

    def test_parameters_are_overridden_and_the_rest_runs_as_it_stands(self, tmp_path: Path) -> None:
        path = self.notebook(tmp_path, "print(a, b)", "from pathlib import Path\nPath('here').touch()")
        done = run.execute(path, {"a": [2, None], "unknown": 3})
        assert texts(done) == ["[2, None] x\n"]
        assert [cell.source for cell in run.tagged(done, "injected-parameters")] == ["a = [2, None]"]
        assert (tmp_path / "here").exists()
        nbformat.write(done, path)
        again = run.execute(path, {})
        assert texts(again) == ["1 x\n"]
        assert not run.tagged(again, "injected-parameters")

    def test_what_was_run_is_told_from_what_has_changed_since(self, tmp_path: Path) -> None:
        done = run.execute(self.notebook(tmp_path, "print(a)"), {})
        assert done.metadata["executed"] == run.fingerprint(done)
        done.cells[-1].source = "print(b)"
        assert done.metadata["executed"] != run.fingerprint(done)

    def test_pictures_are_kept_light_and_as_they_were(self, tmp_path: Path) -> None:
        shaded = (
            "import numpy, PIL.Image; y, x = numpy.mgrid[:200, :200]\n"
            "shades = numpy.stack([245 - 0.9 * x, 245 - 0.5 * x - 0.1 * y, 245 - 0.2 * y], -1)\n"
            "shades += numpy.random.default_rng(0).integers(0, 10, (200, 200, 1))\n"
            "shades[50:53, 50:53] = 213, 94, 0  # a mark of another colour\n"
            "display(PIL.Image.fromarray(shades.astype('uint8')), PIL.Image.new('L', (4, 4), 7))"
        )
        done = run.execute(self.notebook(tmp_path, shaded), {})
        heavy = self.pictures(done)
        run.lighten(done)
        light = self.pictures(done)
        assert len(light[0]) < 0.7 * len(heavy[0])
        assert len(light[1]) <= len(heavy[1])
        for before, after in zip(heavy, light, strict=True):
            shown = [np.array(Image.open(io.BytesIO(png)).convert("RGB"), float) for png in (before, after)]
            assert np.abs(shown[0] - shown[1]).max() < 10.0

    def pictures(self, notebook: Any) -> list[bytes]:
        shown = [output.data["image/png"] for output in notebook.cells[-1].outputs]
        return [base64.b64decode(text) for text in shown]

    def test_a_warning_fails_a_strict_run_and_an_error_every_one(self, tmp_path: Path) -> None:
        warns = self.notebook(tmp_path, "import warnings\nwarnings.warn('old', DeprecationWarning)")
        run.execute(warns, {})
        with pytest.raises(CellExecutionError, match="old"):
            run.execute(warns, {}, strict=True)
        with pytest.raises(CellExecutionError, match="ZeroDivision"):
            run.execute(self.notebook(tmp_path, "1 / 0"), {})

    def test_values_are_literals_or_else_texts(self) -> None:
        given = ["a=1", "a=1e-3", "a=[1, 'x']", "a=../data", "a="]
        assert [run.value_of(text)[1] for text in given] == [1, 1e-3, [1, "x"], "../data", ""]
